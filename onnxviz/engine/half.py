"""A graph in float16: half the memory and, on a GPU, its fastest units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

SINGLE = {"Resize": (1, 2), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
"""Operator → its inputs that are float32 whatever the rest is."""


def in_half(model: onnx.ModelProto) -> None:
    """Change a cut graph in place: what is fed and the weights are rounded to float16, results come back in float32.

    The casts of the weights are folded when the session starts, so that float16 is what it keeps. Values beyond 65504
    become infinite, gradients below 6e-8 zero.
    """
    graph = model.graph
    del graph.value_info[:]  # they tell of float32
    single = {
        node.input[i]
        for node in graph.node
        for i in SINGLE.get(node.op_type, ())
        if not node.domain and i < len(node.input)
    }
    floats = [v.name for v in graph.input if v.type.tensor_type.elem_type == FLOAT]
    floats += [t.name for t in graph.initializer if t.data_type == FLOAT]
    outputs = [v.name for v in onnx.shape_inference.infer_shapes(model).graph.output if _is_float(v)]
    halved = {name: f"{name}#half" for name in floats if name not in single}
    casts = [helper.make_node("Cast", [name], [half], name=half, to=HALF) for name, half in halved.items()]
    results = {name: f"{name}#half" for name in outputs}
    _convert(graph.node, halved, results)
    for function in model.functions:
        _convert(function.node, {}, {})
    widened = [
        helper.make_node("Cast", [half], [name], name=f"{name}#single", to=FLOAT) for name, half in results.items()
    ]
    nodes = [*casts, *graph.node, *widened]
    del graph.node[:]
    graph.node.extend(nodes)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in (FLOAT, onnx.TensorProto.UNDEFINED)


def _convert(nodes: Iterable[onnx.NodeProto], halved: Mapping[str, str], results: Mapping[str, str]) -> None:
    """Let nodes read and make the halves, and make float16 where they say float32."""
    names = {**halved, **results}
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [results.get(name, name) for name in node.output]
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float16))))
        for attribute in node.attribute:
            if attribute.name in {"to", "dtype"} and attribute.i == FLOAT:
                attribute.i = HALF
            elif attribute.name == "value" and attribute.t.data_type == FLOAT:
                half = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(half, attribute.t.name))
            for body in (attribute.g, *attribute.graphs):
                _convert(body.node, halved, results)
