"""Bounds on what a model may take: sizes and loops in a file that somebody handed over can be anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from onnxviz.errors import UnsupportedModelError

if TYPE_CHECKING:
    import onnxruntime

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells how many bytes a container may use."""
_SIZED = {*onnx.TensorProto.DataType.values()} - {onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING}
"""Types whose numbers have a size; a damaged file names others, which is told by who reads them."""
MOST_SECONDS = 600.0
"""Of one run in which a loop decides how long it takes: one that would never end ends then."""


def most_bytes() -> int:
    """What the values of a run may take in all: half of the memory that there is, since a conversion holds them twice.

    It is the machine's, or what the container may use of it.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**34
    try:
        container = int(CONTAINER.read_text())
    except (OSError, ValueError):  # there is none, or its limit is "max"
        container = machine
    return min(machine, container) // 2


def require_room(shape: Sequence[int], itemsize: int, called: str) -> None:
    """Raise UnsupportedModelError for an array that this machine cannot hold."""
    _require(prod(shape) * itemsize, f"{called} of shape {list(shape)}")


def require_bounded(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise UnsupportedModelError where values whose sizes can be told take more than this machine can hold.

    Args:
        model: large weights may be external.
        shapes: input → sizes.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for given in sized.graph.input:
        for dim, size in zip(given.type.tensor_type.shape.dim, shapes.get(given.name, ()), strict=False):
            dim.dim_value = size
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError):
        return  # what is wrong is told by who runs it
    total = 0
    for value in (*graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type in _SIZED:
            itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            total += prod(max(dim.dim_value, 1) for dim in tensor.shape.dim) * itemsize
        _require(total, f"what the model computes up to {value.name!r}")


def _require(size: int, what: str) -> None:
    if size > most_bytes():
        raise UnsupportedModelError(
            f"{what} takes {size / 2**30:,.1f} GiB; on this machine a model may take {most_bytes() / 2**30:,.1f} GiB"
        )


@contextmanager
def patience() -> Iterator[onnxruntime.RunOptions]:
    """Options of a run that is ended after :data:`MOST_SECONDS`; their ``terminate`` is then true."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(MOST_SECONDS, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()
