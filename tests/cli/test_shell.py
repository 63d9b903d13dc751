"""Help, exit codes and what stands where, in the runner and in fresh processes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import typer

import onnxviz as ov
from onnxviz.cli import app

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def process(*arguments, cwd=None):
    """Run in a fresh process, with pipes for a terminal."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "onnxviz", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_the_commands_that_are_there():
    assert COMMANDS == [
        "convert", "explain", "compare", "methods", "report", "export", "info", "layers", "coverage", "verify",
        "features", "filters", "maximize", "embed", "bench",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(command, call):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"  onnxviz {command}" in out


def test_the_program_itself(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "Exit codes: 0 done, 1 refused" in out
    assert "..." not in out.partition("Commands:")[2]
    assert call("--version")[:2] == (0, f"onnxviz {ov.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["explode"], ["explain"], ["explain", "a.onnx"], ["info", "a.onnx", "--jso"], ["bench", "a", "-b", "0"],
     ["explain", "a.onnx", "b", "--view", "both"]],
    ids=str,
)  # fmt: skip
def test_wrong_usage_is_two(arguments, call):
    code, _, _ = call(*arguments)
    assert code == 2


@pytest.mark.parametrize("option", ["n_steps", "=3"])
def test_options_are_pairs(option, colours, call):
    code, _, err = call("explain", colours, "photos", "-o", option)
    assert code == 2
    assert "is not NAME=VALUE" in err


@pytest.mark.parametrize(
    "arguments",
    [["explain", "{}", "photos", "-o", "target=1"], ["explain", "{}", "photos", "-o", "x=1"],
     ["explain", "{}", "photos", "-o", "sink=1", "--out", "a.zarr"], ["bench", "{}", "-o", "seconds=1"],
     ["export", "{}", "a.onnx", "-o", "pixels=true"], ["maximize", "{}", "red", "-o", "steps=1"],
     ["embed", "{}", "photos", "-o", "method=pca"]],
    ids=lambda arguments: f"{arguments[0]} {arguments[arguments.index('-o') + 1]}",
)  # fmt: skip
def test_options_that_the_command_has_itself(arguments, colours, call):
    code, _, err = call(*(argument.format(colours) for argument in arguments))
    assert code == 2
    assert "is said by the command itself" in err


def test_a_warning_is_a_line(folder):
    code = (
        "import sys; sys.argv = ['onnxviz', 'methods']\n"
        "import warnings, onnxviz as ov; ov.methods = lambda: warnings.warn('of interest') or ()\n"
        "from onnxviz.cli import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=environment
    )
    assert done.stderr == "onnxviz: warning: of interest\n"


def test_debug_raises_wherever_it_stands():
    command = typer.main.get_command(app)
    for arguments in (["--debug", "info", "none.onnx"], ["info", "none.onnx", "--debug"]):
        with pytest.raises(ov.OnnxvizError, match=r"there is no file none\.onnx"):
            command(arguments, standalone_mode=False)


def test_a_fresh_process_is_silent_in_a_pipe(colours, folder):
    done = process("explain", colours, folder / "photos", "--out", "maps", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(row["file"]).name for row in json.loads(done.stdout)] == ["red.grad_cam.png", "sky.grad_cam.png"]


def test_a_bar_shows_on_a_terminal(colours, folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "onnxviz", "explain", str(colours), "photos"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True, cwd=folder, env=environment)
    os.close(theirs)
    shown = os.read(ours, 10000).decode()
    os.close(ours)
    assert "grad_cam:   0%" in shown
    assert [row.partition(":")[0] for row in done.stdout.decode().splitlines()] == [
        "red.grad_cam.png",
        "sky.grad_cam.png",
    ]


def test_a_fresh_process_refuses_in_one_line(folder):
    done = process("explain", "none.onnx", "photos", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "onnxviz: there is no file none.onnx\n")
    done = process("explain", "none.onnx", "photos", "--debug", cwd=folder)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_what_is_no_refusal_ends_without_a_traceback(folder):
    code = (
        "import sys; sys.argv = ['onnxviz', 'methods']\n"
        "import onnxviz.algorithms.registry as r; r.METHODS['x'] = None\n"
        "from onnxviz.cli import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 1
    assert "onnxviz: unexpected AttributeError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_to(colours, folder, call):
    (folder / "file").write_text("")
    code, _, err = call("explain", colours, "photos/red.png", "--out", "file/sub")
    assert code == 1
    assert err == "onnxviz: file/sub: Not a directory\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['onnxviz', '--help']\n"
        "from onnxviz.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'numpy', 'onnx', 'onnxruntime', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"
