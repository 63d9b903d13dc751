"""The inputs of a plain ONNX model: what the file declares, the example that fills it, whether the batch is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from onnxviz.arguments import as_array
from onnxviz.errors import ConversionError, InputError, UnsupportedModelError
from onnxviz.limits import require_room
from onnxviz.source import Array, Feeds, seeded

Example = npt.ArrayLike | Mapping[str, npt.ArrayLike] | tuple[npt.ArrayLike, ...]

_SEEDED_BATCH = 2
"""Batch of the seeded example where it is open: the smallest at which samples could be mixed up."""


@dataclass(frozen=True)
class DeclaredInput:
    """``dims`` are numbers where fixed, symbols or None where open; None as a whole where even the rank is open."""

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[int | str | None, ...] | None

    @property
    def batch_is_open(self) -> bool:
        """Whether the file leaves axis 0 open."""
        return self.dims is None or (bool(self.dims) and not isinstance(self.dims[0], int))

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes beside the batch that the file leaves open."""
        return tuple(axis for axis, size in enumerate(self.dims or ()) if axis and not isinstance(size, int))

    def __str__(self) -> str:
        sizes = "any shape" if self.dims is None else ", ".join("?" if d is None else str(d) for d in self.dims)
        return f"{self.dtype} ({sizes})"


def declared_inputs(graph: onnx.GraphProto) -> list[DeclaredInput]:
    """The inputs that a caller must feed: those without a stored value.

    Raises:
        UnsupportedModelError: there is none, or one is not a tensor that numpy can hold.
    """
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [_declared(value) for value in graph.input if value.name not in stored]
    if not inputs:
        raise UnsupportedModelError("the model has no inputs, so there is nothing to explain its outputs by")
    return inputs


def _declared(value: onnx.ValueInfoProto) -> DeclaredInput:
    tensor = value.type.tensor_type
    known = tensor.elem_type in onnx.TensorProto.DataType.values()[1:]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if known else None
    if dtype is None or dtype.kind not in "fiubO":
        kind = value.type.WhichOneof("value") or "of no type"
        raise UnsupportedModelError(
            f"input {value.name!r} is {dtype or kind}; onnxviz takes tensors of numpy's own number types"
        )
    dims = tuple(
        each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else each.dim_param or None
        for each in tensor.shape.dim
    )
    return DeclaredInput(value.name, dtype, dims if tensor.HasField("shape") else None)


# ---------------------------------------------------------------------------------------------------------- example


def example_feeds(inputs: Sequence[DeclaredInput], example: Example | None) -> dict[str, Array]:
    """One array for each input: the user's, checked, or seeded ones.

    Raises:
        InputError: an array is missing, too many, or of the wrong dtype, rank or size; or no example was given where
            the declaration does not say what to feed.
    """
    if example is None:
        return {each.name: _seeded(each, seed) for seed, each in enumerate(inputs)}
    feeds = {each.name: _checked(each, given) for each, given in _by_input(inputs, example)}
    batches = {each.name: len(feeds[each.name]) for each in inputs if each.batch_is_open and feeds[each.name].ndim}
    if len(set(batches.values())) > 1:
        raise InputError(f"the inputs of the example differ in batch size: {batches}")
    return feeds


def _by_input(inputs: Sequence[DeclaredInput], example: Example) -> list[tuple[DeclaredInput, npt.ArrayLike]]:
    names = [each.name for each in inputs]
    if isinstance(example, Mapping):
        if set(example) != set(names):
            raise InputError(f"example= has {sorted(example)}; the inputs are {names}")
        return [(each, example[each.name]) for each in inputs]
    arrays = example if isinstance(example, tuple) else (example,)
    if len(arrays) != len(inputs):
        raise InputError(f"example= has {len(arrays)} array(s); the model has {len(inputs)} input(s): {names}")
    return list(zip(inputs, arrays, strict=True))


def _seeded(declared: DeclaredInput, seed: int) -> Array:
    if declared.dtype.kind != "f":
        raise InputError(f"input {declared.name!r} is {declared}: pass example= with values that mean something")
    if declared.dims is None:
        raise InputError(f"input {declared.name!r} declares no shape: pass example=")
    sizes: list[int] = [_SEEDED_BATCH] if declared.batch_is_open else []
    for axis, size in list(enumerate(declared.dims))[len(sizes) :]:
        if not isinstance(size, int):
            raise InputError(
                f"input {declared.name!r} leaves its dimension {size or '?'} (axis {axis} of {declared}) open: pass "
                "example= of the size that is to be explained"
            )
        sizes.append(size)
    require_room(sizes, declared.dtype.itemsize, f"input {declared.name!r}")
    return seeded(sizes, declared.dtype, seed=seed)


def _checked(declared: DeclaredInput, given: npt.ArrayLike) -> Array:
    array = as_array(given, "example")
    mismatch = f"example for input {declared.name!r} is {array.dtype} {array.shape}; expected {declared}"
    if array.dtype != declared.dtype and not (declared.dtype.kind == "O" and array.dtype.kind in "US"):
        raise InputError(f"{mismatch}: convert it with .astype")
    if declared.dims is not None and (
        array.ndim != len(declared.dims)
        or any(isinstance(size, int) and size != got for size, got in zip(declared.dims, array.shape, strict=True))
    ):
        raise InputError(mismatch)
    if array.size == 0:
        raise InputError(f"{mismatch}, and not empty")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"example for input {declared.name!r} has values that are not finite")
    return array


# ------------------------------------------------------------------------------------------------------------ batch


def settle_batch(
    run: Callable[[Feeds], object],
    inputs: Sequence[DeclaredInput],
    feeds: dict[str, Array],
    *,
    given: bool,
    notes: list[str],
) -> tuple[dict[str, Array], frozenset[str]]:
    """Find out whether a batch that is declared open really is: many exports declare it and then reshape to 1.

    Args:
        run: runs the original model.
        inputs: what the file declares.
        feeds: the example, from the user if ``given``; a seeded one is cut to one sample where more do not run.
        given: whether the user gave the example.
        notes: gets a sentence for each batch that is fixed.

    Returns:
        The example to use, and the names of the inputs whose batch is open.

    Raises:
        ConversionError: the model does not run on the example.
    """
    notes.extend(
        f"input {each.name!r} has the fixed batch {each.dims[0]}; the file keeps it"
        for each in inputs
        if each.dims and not each.batch_is_open
    )
    opened = frozenset(each.name for each in inputs if each.batch_is_open and feeds[each.name].ndim)
    if not given and opened and not _runs(run, feeds):
        feeds = {name: array[:1] if name in opened else array for name, array in feeds.items()}
    run(feeds)
    longer = {name: np.concatenate([a, a[:1]]) if name in opened else a for name, a in feeds.items()}
    if opened and not _runs(run, longer):
        size = len(feeds[min(opened)])
        notes.append(f"the batch is declared open, but the model does not run at {size + 1}; the file keeps {size}")
        opened = frozenset()
    return feeds, opened


def _runs(run: Callable[[Feeds], object], feeds: Feeds) -> bool:
    try:
        run(feeds)
    except ConversionError:
        return False
    return True
