"""Faults of the system: no permission, a read-only file system, no room, a provider that is missing or fails.

Each is told by an OnnxvizError, and what was there before stays.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnxviz as ov
from onnxviz.engine import session
from onnxviz.errors import FileAccessError, OnnxvizError, OnnxvizWarning, ProviderError
from tests.hostile import specimens

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
NOBODY = 65534
WRITERS: dict[str, Callable[[ov.Explainer, Path], object]] = {
    "net.onnx": lambda ex, path: ov.convert(specimens.plain(), path, quiet=True),
    "beside.onnx": lambda ex, path: ov.convert(specimens.plain(), path, external_data=True, quiet=True),
    "cam.onnx": lambda ex, path: ex.export(path),
    "map.npz": lambda ex, path: ex.saliency(X, 1).save(path),
    "map.png": lambda ex, path: ex.saliency(X, 1).save(path),
    "dream.npz": lambda ex, path: ex.maximize(0, steps=1).save(path),
    "dream.png": lambda ex, path: ex.maximize(0, steps=1).save(path),
    "dream.gif": lambda ex, path: ex.maximize(0, steps=4, snapshots=2).gif(path),
    "page.html": lambda ex, path: ex.report(X, path, ["saliency"]),
}
READERS: dict[str, Callable[[ov.Explainer, Path], object]] = {
    "net.onnx": lambda ex, path: ov.load(path),
    "plain.onnx": lambda ex, path: ov.convert(path, path.parent.parent / "out.onnx", quiet=True),
    "net.pt2": lambda ex, path: ov.convert(path, path.parent.parent / "out.onnx", quiet=True),
    "net.keras": lambda ex, path: ov.convert(path, path.parent.parent / "out.onnx", quiet=True),
    "map.npz": lambda ex, path: ov.Explanation.load(path),
    "dream.npz": lambda ex, path: ov.Maximization.load(path),
    "photo.png": lambda ex, path: ex.read_image(path),
}


@pytest.fixture(scope="module")
def ex(tmp_path_factory) -> Iterator[ov.Explainer]:
    folder = reachable()
    files = specimens.healthy(folder)
    with ov.load(files["explainable"], threads=1) as explainer:
        for name, write in WRITERS.items():  # what is imported late is imported now: nobody may read it later
            write(explainer, tmp_path_factory.mktemp("once") / name)
        yield explainer
    shutil.rmtree(folder)


def reachable() -> Path:
    """A folder that other users may enter, which pytest's are not."""
    made = Path(tempfile.mkdtemp(prefix="onnxviz-test-"))
    made.chmod(0o755)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    made = reachable()
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def refused_in_a_child(prepare: Callable[[], object], ask: Callable[[], object]) -> str:
    """What the error says that ``ask`` ends in, in a child of this process that was prepared to fail."""
    reads, writes = os.pipe()
    if child := os.fork():
        os.close(writes)
        with os.fdopen(reads) as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return said
    said = "nothing"
    try:
        prepare()
        ask()
    except FileAccessError as error:
        said = str(error)
    except BaseException as error:  # noqa: BLE001 - it is what the test sees
        said = f"{type(error)}: {error}"
    finally:
        os.write(writes, said.encode())
        os._exit(0)


def without_rights() -> None:
    """Root may do everything."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def read_only(folder: Path) -> None:
    """As a file system answers that is mounted so."""

    def watch(event: str, arguments: tuple) -> None:
        changes = event in {"os.mkdir", "os.rename", "os.remove"}
        changes = changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)
        if changes and str(arguments[0]).startswith(str(folder)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    sys.addaudithook(watch)


def full(room: int) -> None:
    """A file larger than the room fails in the middle, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


FAULTS = {
    "no permission": (without_rights, "Permission denied"),
    "read-only": (None, "Read-only file system"),
    "full": (partial(full, 100), "File too large"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_written(ex, folder, fault, name):
    (folder / name).write_bytes(b"what was there")
    folder.chmod(0o755 if fault == "full" else 0o555)
    prepare, reason = FAULTS[fault]
    said = refused_in_a_child(prepare or partial(read_only, folder), lambda: WRITERS[name](ex, folder / name))
    assert said.startswith("cannot write ")
    assert name in said
    assert reason in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: b"what was there"}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("hidden", ["file", "folder"])
def test_what_cannot_be_read(ex, folder, name, hidden):
    (folder / "in").mkdir()
    (folder / "in" / name).write_bytes(b"secret")
    folder.chmod(0o777)
    (folder / "in" / name if hidden == "file" else folder / "in").chmod(0)
    said = refused_in_a_child(without_rights, lambda: READERS[name](ex, folder / "in" / name))
    (folder / "in").chmod(0o755)
    if name.endswith(".png"):  # of pictures it is the input that is wrong
        assert said.endswith(f"InputError'>: cannot read the picture {str(folder / 'in' / name)!r}: Permission denied")
    else:
        assert said == f"cannot read {folder / 'in' / name}: Permission denied"


@pytest.mark.parametrize("kind", ["plain beside", "explainable beside"])
def test_weights_that_cannot_be_read(folder, kind):
    net = specimens.healthy(folder)[kind]
    for path in [folder, *folder.iterdir(), *net.parent.iterdir()]:
        path.chmod(0o755)
    net.parent.chmod(0o777)
    (weights,) = [path for path in net.parent.iterdir() if path != net]
    weights.chmod(0)
    ask = (
        (lambda: ov.load(net)) if kind.startswith("expl") else (lambda: ov.convert(net, net.with_name("o"), quiet=True))
    )
    said = refused_in_a_child(without_rights, ask)
    assert said == f"cannot read {weights}: Permission denied"


# ----- providers -----


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this one has CUDA")
def test_cuda_that_this_onnxruntime_lacks(ex):
    with pytest.raises(ProviderError, match=r"'cuda' is not available .* install 'onnxviz\[gpu\]'"):
        ov.load(ex.path, providers="cuda")
    with pytest.warns(OnnxvizWarning, match="cuda is not in this onnxruntime: going on without it"):
        fallen = ov.load(ex.path, providers=["cuda", "cpu"], threads=1)
    with fallen:
        assert fallen.saliency(X, 1).provider == "CPUExecutionProvider"


@pytest.fixture
def broken_cuda(monkeypatch) -> None:
    """An onnxruntime for GPUs whose CUDA libraries are missing: it goes on with the CPU, and says so on stderr."""
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [session.CUDA, session.CPU])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options=None, providers=(): real(graph, options, ["CPUExecutionProvider"]),
    )
    session._starts.cache_clear()
    yield
    session._starts.cache_clear()


@pytest.mark.usefixtures("broken_cuda")
@pytest.mark.parametrize("providers", ["cuda", None, [("cuda", {"device_id": 0})]])
def test_cuda_that_does_not_start_is_told(ex, providers):
    with ov.load(ex.path, providers=providers) as found, pytest.raises(ProviderError, match="could not be started"):
        found.saliency(X, 1)


@pytest.mark.usefixtures("broken_cuda")
def test_cuda_that_does_not_start_is_left_out_where_asked(ex):
    with pytest.warns(OnnxvizWarning, match="CUDAExecutionProvider could not be started: going on without it"):
        found = ov.load(ex.path, providers=["cuda", "cpu"], threads=1)
    with found:
        np.testing.assert_array_equal(found.saliency(X, 1).values, ex.saliency(X, 1).values)
        assert found.saliency(X, 1).provider == "CPUExecutionProvider"


def test_errors_of_files_are_errors_of_the_system():
    assert issubclass(FileAccessError, OSError)
    assert issubclass(FileAccessError, OnnxvizError)
