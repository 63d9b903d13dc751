"""Shapes by measurement: the graph is run at two batch sizes, and each value's sizes tell how they depend on it.

Shape inference gives up at data-dependent reshapes and knows nothing of onnxruntime's own rounding; a run does not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from onnxviz.engine.session import Weights, create_session, runtime_errors
from onnxviz.errors import ConversionError, ProviderError
from onnxviz.graph.original import missing_kernel
from onnxviz.graph.weights import skeleton_and_weights
from onnxviz.source import BATCH, Array

_ELEMENT_TYPES = {
    "float": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "double": ir.DataType.DOUBLE,
    "bfloat16": ir.DataType.BFLOAT16, "bool": ir.DataType.BOOL, "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32, "uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8,
    "uint64": ir.DataType.UINT64, "uint32": ir.DataType.UINT32, "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16, "string": ir.DataType.STRING,
}  # fmt: skip

Dim = int | str | None


def with_batch(feeds: Mapping[str, Array], batch: int, batched: Collection[str]) -> dict[str, Array]:
    """The same inputs, of which ``batched`` have another batch size: samples repeat, or are left out."""
    return {
        name: np.take(x, np.arange(batch) % x.shape[0], axis=0) if name in batched else x for name, x in feeds.items()
    }


def probe(model: ir.Model, feeds: Mapping[str, Array], batched: Collection[str]) -> int:
    """Set the measured shape and element type of every value of the graph.

    Args:
        model: the forward graph.
        feeds: inputs to run it on.
        batched: the inputs whose axis 0 is the batch and may vary. A size that grows with it becomes ``"N"`` or
            ``"k*N"``, one that depends on it in another way None.

    Returns:
        The bytes that the values of one sample take together; a Transpose is not counted, it mostly vanishes.
    """
    graph = model.graph
    values = [y for node in graph for y in node.outputs if y.name]
    copies = {y for node in graph if node.op_type == "Transpose" for y in node.outputs}
    batches = (2, 3) if batched else (next((len(x) for x in feeds.values() if x.ndim), 1),)
    runs = [with_batch(feeds, b, batched) for b in batches]
    types, shapes = _measure(model, [v.name or "" for v in values], runs)
    total = 0
    for value in values:
        sizes = [run[value.name or ""] for run in shapes]
        if sizes[0] is None:
            continue
        if (dtype := _ELEMENT_TYPES.get(types[value.name or ""])) is not None:
            value.dtype = dtype
        value.shape = ir.Shape([_dim(d, batches) for d in zip(*[s for s in sizes if s is not None], strict=True)])
        if value not in copies:
            total += math.prod(sizes[0]) * int(value.dtype.itemsize if value.dtype else 4)
    for value in graph.inputs:
        feed = feeds[value.name or ""]
        value.shape = ir.Shape([BATCH if value.name in batched and not i else int(d) for i, d in enumerate(feed.shape)])
    return total // batches[0]


def _dim(sizes: Sequence[int], batches: Sequence[int]) -> Dim:
    """The size as a function of the batch, from its values at several batch sizes."""
    if len(set(sizes)) == 1:
        return sizes[0]
    per_sample = sizes[0] // batches[0]
    if any(size != per_sample * batch for size, batch in zip(sizes, batches, strict=True)):
        return None
    return BATCH if per_sample == 1 else f"{per_sample}*{BATCH}"


def _measure(
    model: ir.Model, names: Sequence[str], runs: Iterable[Mapping[str, Array]]
) -> tuple[dict[str, str], list[dict[str, tuple[int, ...] | None]]]:
    """Element type of each value, and its shape in each run (None for sequences and the like)."""
    proto, weights = detached(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = create_session(proto, weights, optimize=False)
    except ProviderError as error:
        if refusal := missing_kernel(proto, str(error)):
            raise refusal from error
        raise
    types = {o.name: o.type.removeprefix("tensor(").removesuffix(")") for o in session.get_outputs()}
    shapes = []
    for feeds in runs:
        try:
            results = session.run(None, dict(feeds))
        except runtime_errors() as error:
            raise ConversionError(
                f"the graph does not run on inputs of shape { {k: v.shape for k, v in feeds.items()} }: {error}"
            ) from error
        shapes.append(
            {n: tuple(r.shape) if isinstance(r, np.ndarray) else None for n, r in zip(names, results, strict=True)}
        )
        del results
    return types, shapes


def detached(model: ir.Model) -> tuple[onnx.ModelProto, Weights]:
    """The model as a protobuf whose large weights stay where they are in memory."""
    proto, weights = skeleton_and_weights(model)
    for name, weight in weights.items():
        tensor = proto.graph.initializer.add(name=name, data_type=int(weight.dtype), dims=list(weight.shape.numpy()))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
    return proto, Weights({name: np.ascontiguousarray(weight.numpy()) for name, weight in weights.items()})
