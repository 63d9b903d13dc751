"""Shapes by measurement: the graph is run at several sizes, and each value's sizes tell how they depend on the inputs'.

Shape inference gives up at data-dependent reshapes and knows nothing of onnxruntime's own rounding; a run does not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from onnxviz.engine.session import create_session, runtime_errors
from onnxviz.engine.weights import Weights
from onnxviz.errors import ConversionError, ProviderError
from onnxviz.graph.original import missing_kernel
from onnxviz.graph.symbols import Symbols
from onnxviz.graph.weights import skeleton_and_weights
from onnxviz.limits import patience
from onnxviz.source import BATCH, Array, Feeds

_ELEMENT_TYPES = {
    "float": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "double": ir.DataType.DOUBLE,
    "bfloat16": ir.DataType.BFLOAT16, "bool": ir.DataType.BOOL, "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32, "uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8,
    "uint64": ir.DataType.UINT64, "uint32": ir.DataType.UINT32, "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16, "string": ir.DataType.STRING,
}  # fmt: skip

_STEPS = (1, 2, 4, 8, 16, 32, 64)
"""What the sizes tried are multiples of away from the example's: many networks halve them a number of times."""

_LARGER = 64
"""A size that is tried is larger by half, and at least by this: networks divide sizes by 32 and round."""

Shapes = dict[str, tuple[int, ...] | None]


@dataclass
class Measured:
    """What the runs told.

    Attributes:
        activation_bytes: what the values of one sample take together, at the example's size; a Transpose is not
            counted, it mostly vanishes.
        symbols: the sizes that are open, by their names.
        resized: the example at a larger size; empty where no size but the batch is open.
        fixed: input → axes that were to be open, but at which the graph runs at the example's size alone.
    """

    activation_bytes: int
    symbols: Symbols
    resized: dict[str, Array] = field(default_factory=dict)
    fixed: dict[str, tuple[int, ...]] = field(default_factory=dict)


def with_batch(feeds: Feeds, batch: int, batched: Collection[str]) -> dict[str, Array]:
    """The same inputs, of which ``batched`` have another batch size: samples repeat, or are left out."""
    return {
        name: np.take(x, np.arange(batch) % x.shape[0], axis=0) if name in batched else x for name, x in feeds.items()
    }


def probe(model: ir.Model, feeds: Feeds) -> Measured:
    """Set the measured shape and element type of every value of the graph.

    Args:
        model: the forward graph. Axis 0 of an input is the batch where it is ``"N"``; other axes without a number are
            open too. A size that grows with the batch becomes ``"N"`` or ``"k*N"``, one that follows an input's other
            sizes an expression of their symbols.
        feeds: inputs to run it on.
    """
    graph = model.graph
    batched = [v.name or "" for v in graph.inputs if v.shape is not None and len(v.shape) and _symbol(v, 0) == BATCH]
    batches = (2, 3) if batched else (next((len(x) for x in feeds.values() if x.ndim), 1),)
    values = [y for node in graph for y in node.outputs if y.name]
    copies = {y for node in graph if node.op_type == "Transpose" for y in node.outputs}
    session = _Session(model, [v.name or "" for v in values])
    runs = [session.shapes(with_batch(feeds, batch, batched)) for batch in batches]
    symbols = Symbols(graph.inputs, feeds, batches)
    resized: dict[str, Array] = {}
    for one, other in _other_sizes(symbols, feeds) if symbols.axes else ():
        more = session.try_shapes([with_batch(each, batches[0], batched) for each in (one, other)])
        if more:
            runs, resized = runs + more, other
            symbols.tried(one, other)
            break
    fixed = {} if resized else {name: tuple(axes) for name, axes in symbols.axes.items()}
    if fixed:
        symbols = Symbols([], feeds, batches)
    total = 0
    for value in values:
        sizes = [run[value.name or ""] for run in runs]
        if sizes[0] is None:
            continue
        if (dtype := _ELEMENT_TYPES.get(session.types[value.name or ""])) is not None:
            value.dtype = dtype
        value.shape = ir.Shape([symbols.dim(d) for d in zip(*[s for s in sizes if s is not None], strict=True)])
        if value not in copies:
            total += math.prod(sizes[0]) * int(value.dtype.itemsize if value.dtype else 4)
    for value in graph.inputs:
        name = value.name or ""
        batch = [BATCH] if name in batched else []
        rest = list(enumerate(feeds[name].shape))[len(batch) :]
        value.shape = ir.Shape([*batch, *(symbols.axes.get(name, {}).get(axis, int(size)) for axis, size in rest)])
    return Measured(total // batches[0], symbols, resized, fixed)


def _symbol(value: ir.Value, axis: int) -> object:
    size = (value.shape or ())[axis]
    return size.value if isinstance(size, ir.SymbolicDim) else size


def _other_sizes(symbols: Symbols, feeds: Feeds) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Pairs of the example at sizes nearby, and at larger ones; no two symbols change alike."""
    for step in _STEPS:
        near, far = {}, {}
        for index, (name, size) in enumerate(symbols.sizes.items()):
            near[name] = size + step * (index + 1)
            more = max(size // 2, _LARGER) * (2 + index) // 2 // step + 3 + 2 * index
            far[name] = size + step * more
        yield symbols.resize(feeds, near), symbols.resize(feeds, far)
    shorter = {name: max(size - 1 - index, 1) for index, (name, size) in enumerate(symbols.sizes.items())}
    half = {name: max(size // 2 - index, 1) for index, (name, size) in enumerate(symbols.sizes.items())}
    if all(half[name] < shorter[name] < size for name, size in symbols.sizes.items()):  # a longest sequence was given
        yield symbols.resize(feeds, shorter), symbols.resize(feeds, half)


class _Session:
    """Runs the graph with all its values as outputs."""

    def __init__(self, model: ir.Model, names: Sequence[str]) -> None:
        proto, weights = detached(model)
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            self._session = create_session(proto, weights, optimize=False)
        except ProviderError as error:
            if refusal := missing_kernel(proto, str(error)):
                raise refusal from error
            raise
        self._weights = weights  # the session reads them where they are
        self._names = names
        self.types = {o.name: o.type.removeprefix("tensor(").removesuffix(")") for o in self._session.get_outputs()}
        """Element type of each value."""

    def shapes(self, feeds: Mapping[str, Array]) -> Shapes:
        """The shape of each value, None of sequences and the like."""
        try:
            with patience() as options:
                results = self._session.run(None, dict(feeds), options)
        except runtime_errors() as error:
            raise ConversionError(
                f"the graph does not run on inputs of shape { {k: v.shape for k, v in feeds.items()} }: {error}"
            ) from error
        named = zip(self._names, results, strict=True)
        return {name: tuple(r.shape) if isinstance(r, np.ndarray) else None for name, r in named}

    def try_shapes(self, runs: Iterable[Mapping[str, Array]]) -> list[Shapes]:
        """The shapes of several runs; none if one of them fails."""
        try:
            return [self.shapes(feeds) for feeds in runs]
        except ConversionError:
            return []


def detached(model: ir.Model) -> tuple[onnx.ModelProto, Weights]:
    """The model as a protobuf whose large weights stay where they are in memory."""
    proto, weights = skeleton_and_weights(model)
    for name, weight in weights.items():
        tensor = proto.graph.initializer.add(name=name, data_type=int(weight.dtype), dims=list(weight.shape.numpy()))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
    return proto, Weights({name: np.ascontiguousarray(weight.numpy()) for name, weight in weights.items()})
