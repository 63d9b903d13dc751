"""Inputs, results and names of unknown origin: refused by what is promised, and never more than text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import onnxviz as ov
from onnxviz.cli.shell import app
from onnxviz.dataset.files import load, stored
from onnxviz.errors import FileFormatError, InputError, printable
from onnxviz.image import read_pixels
from tests.hostile import specimens

EVIL = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    r"$\frac{$",
    "\x1b[31m\x9b2J\u202e" + "w" * 10_000,
]
X = np.ones((2, 3, 8, 8), np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A network whose layers and classes have evil names."""
    model = specimens.plain()
    for node in model.graph.node:
        node.input[:] = [EVIL[0] + EVIL[2] + "\x1b[31m" if name == "c" else name for name in node.input]
        node.output[:] = [EVIL[0] + EVIL[2] + "\x1b[31m" if name == "c" else name for name in node.output]
    final = tmp_path_factory.mktemp("evil") / "net.onnx"
    return ov.convert(model, final, classes=EVIL, input=ov.ImageInput(8), quiet=True)


@pytest.mark.parametrize("command", ["info", "layers", "coverage", "verify"])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_terminal_gets_no_commands(path, command, option):
    said = CliRunner().invoke(app, [command, str(path), *option])
    assert said.exit_code == 0
    assert printable(said.output) == said.output


@pytest.mark.parametrize("target", range(4))
def test_names_are_drawn_as_they_stand(path, target):
    with ov.load(path, providers="cpu") as ex:
        figure = ex.explain(X, "grad_cam", target, layer=ex.layers[0].name).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_markup_stays_text(path, tmp_path):
    with ov.load(path, providers="cpu") as ex:
        ex.report(X[:1], tmp_path / "report.html", names=EVIL[:1])
        shown = [ex._repr_html_(), ex.layers._repr_html_(), (tmp_path / "report.html").read_text()]
    assert not any("<img src=x" in page or "alert(1)<" in page for page in shown)


RESULTS = {
    "a target for three samples": {"target": np.array([1, 1, 1])},
    "a target of five axes": {"target": np.zeros((1, 1, 1, 1, 1), int)},
    "a class without a name": {"target": np.array([4, 1])},
    "a score that is text": {"score": np.array(["a", "b"])},
    "a score of no sample": {"score": np.zeros(0, np.float32)},
    "scores of several targets": {"score": np.zeros((2, 3), np.float32)},
    "values that are text": {"values": np.full((2, 8, 8), "a")},
}


@pytest.mark.parametrize("result", RESULTS)
def test_a_result_that_contradicts_itself(path, tmp_path, result):
    with ov.load(path, providers="cpu") as ex:
        ex.explain(X, "grad_cam", 1).save(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz") as held:
        arrays = dict(held)
    assert ov.Explanation.load(tmp_path / "result.npz").class_names == EVIL
    np.savez(tmp_path / "result.npz", **(arrays | RESULTS[result]))
    with pytest.raises(FileFormatError, match="holds no Explanation, or is damaged"):
        ov.Explanation.load(tmp_path / "result.npz")


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


ARRAYS = {
    "a header that never ends": header("(" * 2000),
    "a header of code": header("__import__('os')\n"),
    "ten thousand gigabytes": header("{'descr': '<f4', 'fortran_order': False, 'shape': (2500000000000,)}\n"),
}


@pytest.mark.parametrize("mapped", [None, "r"])
@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_that_are_none(tmp_path, array, mapped):
    (tmp_path / "x.npy").write_bytes(ARRAYS[array])
    with pytest.raises(InputError, match=r"no \.npy file of numbers"):
        load(tmp_path / "x.npy", mapped=mapped)


def test_a_table_of_one_endless_cell(path, tmp_path):
    (tmp_path / "x.csv").write_text("1" * 200_000)
    with ov.load(path, providers="cpu") as ex, pytest.raises(InputError, match="no table of numbers"):
        stored(tmp_path / "x.csv", ex.inputs[0])


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "x.png"])
def test_pipes_are_not_waited_for(path, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with ov.load(path, providers="cpu") as ex, pytest.raises(InputError, match="a pipe or a device"):
        read_pixels(tmp_path / name) if name.endswith("png") else stored(tmp_path / name, ex.inputs[0])


def test_what_is_verified_is_drawn_as_the_file_says(path, tmp_path):
    """A recipe of the right form, of an input that cannot be."""
    content = path.read_bytes()
    place = content.rindex(b'"recipe":')
    for old, new in ((b'"dtype":"float32"', b'"dtype":"floatsy"'), (b'"shape":[3,8,8]', b'"shape":[3,8,0]')):
        (tmp_path / "net.onnx").write_bytes(content[:place] + content[place:].replace(old, new, 1))
        said = CliRunner().invoke(app, ["verify", str(tmp_path / "net.onnx")])
        assert said.exit_code == 1, json.dumps(said.output)
