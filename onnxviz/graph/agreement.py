"""Showing that a lifted graph computes what the original computes, or naming the operator where it first does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxviz.check.difference import HALF
from onnxviz.errors import UnsupportedOperatorError
from onnxviz.graph.onnx_file import OnnxFile
from onnxviz.graph.original import FLOATS, ORT_ERRORS, Original, value_nodes
from onnxviz.source import Array, Feeds

TOLERANCE = 1e-4
"""Largest deviation of a float value, relative to its largest absolute value: DESIGN's bar for layer values. In half
precision it is the check's: a fusion keeps in float32 what its parts round."""

_FED_BYTES = 1024


def require_agreement(file: OnnxFile, original: Original, model: ir.Model, feeds: Feeds) -> None:
    """Run both graphs on the same inputs and compare the outputs and all values that ``original`` exposes.

    Raises:
        UnsupportedOperatorError: they differ, or the lifted graph does not run.
    """
    known = {value.name for node in model.graph for value in node.outputs}
    expected = {name: value for name, value in original.run(feeds).items() if name in known}
    got = _run(model, feeds, list(expected))
    if all(agree(expected[name], got[name]) for name in expected):
        return
    nodes = value_nodes(file.proto.graph)
    everything = [name for name in nodes if name in known]
    original = Original(file, everything)
    expected = original.run(feeds)
    got = _run(model, feeds, everything)
    first = next(name for name in everything if not agree(expected[name], got[name]))
    raise UnsupportedOperatorError(
        f"{nodes[first].op_type} {nodes[first].name or first!r} means something else after it was lifted to opset 18: "
        f"its output {first!r} is the first that differs from the original. Export the model at opset 18"
    )


def agree(expected: Array, got: Array) -> bool:
    """Whether two values are the same: floats within the tolerance, everything else exactly."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not np.issubdtype(expected.dtype, np.floating):
        return bool(np.array_equal(expected, got))
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
        return False
    deviation = np.abs(expected[finite] - got[finite]).max(initial=0)
    tolerance = HALF if expected.dtype == np.float16 else TOLERANCE
    return bool(deviation <= tolerance * np.abs(expected[finite]).max(initial=0))


def _run(model: ir.Model, feeds: Feeds, names: Sequence[str]) -> dict[str, Array]:
    """Run a graph with its large weights as further inputs, so that no session holds a second copy of them."""
    graph = model.graph
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    weights = _feedable(graph.initializers.values())
    for name in weights:
        graph.inputs.append(graph.initializers.pop(name))
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in names)
    try:
        data = ir.to_proto(model).SerializeToString()
    finally:
        for name in weights:
            graph.register_initializer(values[name])
        for container, kept in ((graph.inputs, inputs), (graph.outputs, outputs)):
            container.clear()
            container.extend(kept)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(list(names), {**feeds, **arrays}), strict=True))
    except ORT_ERRORS as error:
        raise UnsupportedOperatorError(f"onnxruntime does not run the graph lifted to opset 18: {error}") from error


def _feedable(initializers: Iterable[ir.Value]) -> Mapping[str, ir.TensorProtocol]:
    floats = set(FLOATS.values())
    return {
        value.name: tensor
        for value in initializers
        if value.name
        and (tensor := value.const_value) is not None
        and tensor.nbytes > _FED_BYTES
        and tensor.dtype.numpy() in floats
    }
