"""What goes wrong while a file is written: the file that was there stays, or the new one is whole."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxviz as ov
from tests.hostile import specimens

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def prepared(folder: Path, *, beside: bool) -> tuple[np.ndarray, np.ndarray]:
    """A file in ``out``, another model beside ``out`` that is to take its place; what each predicts."""
    (folder / "out").mkdir()
    ov.convert(specimens.plain(), folder / "out" / "net.onnx", external_data=beside, quiet=True)
    new = specimens.plain()
    for tensor in new.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) / 2, tensor.name))
    onnx.save(new, folder / "plain.onnx")
    ov.convert(new, folder / "new.onnx", quiet=True)
    return ov.load(folder / "out" / "net.onnx").predict(X), ov.load(folder / "new.onnx").predict(X)


def convert_killed(folder: Path, *, beside: bool, at: int) -> int:
    """Convert in a child that kills itself when it is about to change the folder for the ``at``-th time."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        changes = event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)
        if changes and str(folder / "out") in str(arguments[0]):
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    ov.convert(onnx.load(folder / "plain.onnx"), folder / "out" / "net.onnx", external_data=beside, quiet=True)
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("beside", [False, True])
def test_killed_at_every_step_of_writing(tmp_path, beside):
    old, new = prepared(tmp_path, beside=beside)
    seen = []
    for at in range(1, 40):
        ended = convert_killed(tmp_path, beside=beside, at=at)
        assert ended in (0, -signal.SIGKILL)
        found = ov.load(tmp_path / "out" / "net.onnx", providers="cpu").predict(X)
        seen.append("old" if np.array_equal(found, old) else "new" if np.array_equal(found, new) else "half")
        if ended == 0:
            break
    assert ended == 0
    assert "half" not in seen
    assert seen[0] == "old"
    assert seen == sorted(seen, reverse=True), "once it is new it stays new"
    assert len(seen) > (4 if beside else 3), "each step of writing was met"


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("room", [0, 100, 3000, 6000])
def test_no_room_left_on_the_disk(tmp_path, beside, room):
    """The limit of a file's size stands for the disk's: write() fails in the middle, in a place that nobody chose."""
    old, _ = prepared(tmp_path, beside=beside)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    model = onnx.load(tmp_path / "plain.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            ov.convert(model, tmp_path / "out" / "net.onnx", external_data=beside, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    np.testing.assert_array_equal(ov.load(tmp_path / "out" / "net.onnx").predict(X), old)
