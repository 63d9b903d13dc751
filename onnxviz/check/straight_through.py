"""The file with its rounding taken out, so that finite differences can tell whether its gradient is right.

A quantised network is a staircase: its slopes are zero or infinite, and the gradient that passes straight through the
rounding predicts none of them. It is the derivative of the network that does not round, at the values of the one that
does; so the rules are shown right on a graph that computes everything else as the file does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.bundle import Bundle
from onnxviz.engine.cut import Graph

_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"


def rounds(bundle: Bundle) -> bool:
    """Whether the file quantises anything that depends on its inputs."""
    graph = Graph(bundle)
    return any(node.op_type == _QUANTISE and node.input[0] in graph.varying for node in graph.nodes)


def unrounded(bundle: Bundle) -> Bundle:
    """The same file, whose QuantizeLinear scales, shifts and clips, but gives the floats that it would round."""
    graph = Graph(bundle)
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(bundle.skeleton)
    del skeleton.graph.node[:]
    for node in graph.nodes:
        replaced = node.op_type in (_QUANTISE, _DEQUANTISE) and node.input[0] in graph.varying
        skeleton.graph.node.extend(_smooth(node, graph) if replaced else [node])
    return replace(bundle, skeleton=skeleton)


def _smooth(node: onnx.NodeProto, graph: Graph) -> Iterator[onnx.NodeProto]:
    x, scale, *zero = node.input
    y = node.output[0]
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    step, shift = f"{y}/step", f"{y}/shift"
    yield from _along(scale, step, axis, graph, x)
    if zero:
        yield helper.make_node("CastLike", [zero[0], scale], [f"{shift}/float"])
        yield from _along(f"{shift}/float", shift, axis, graph, x, like=scale)
    if node.op_type == _DEQUANTISE:
        yield helper.make_node("Sub" if zero else "Identity", [x, shift] if zero else [x], [f"{y}/level"])
        yield helper.make_node("Mul", [f"{y}/level", step], [y])
        return
    limits = np.iinfo(_levels(graph, zero))
    yield helper.make_node("Div", [x, step], [f"{y}/scaled"])
    yield helper.make_node("Add" if zero else "Identity", [f"{y}/scaled", *([shift] if zero else [])], [f"{y}/level"])
    bounds = []
    for name, bound in (("low", limits.min - 0.5), ("high", limits.max + 0.5)):  # what rounds into the range
        bounds.append(f"{y}/{name}")
        constant = numpy_helper.from_array(np.array(bound, np.float32))
        yield helper.make_node("Constant", [], [f"{bounds[-1]}/float"], value=constant)
        yield helper.make_node("CastLike", [f"{bounds[-1]}/float", scale], [bounds[-1]])
    yield helper.make_node("Clip", [f"{y}/level", *bounds], [y])


def _levels(graph: Graph, zero: list[str]) -> Any:
    """The integers of a quantised value: those of its zero point."""
    if not zero:
        return np.dtype(np.uint8)
    return helper.tensor_dtype_to_np_dtype(graph.initializers[zero[0]].data_type)


def _along(
    parameter: str, called: str, axis: int, graph: Graph, x: str, like: str | None = None
) -> Iterator[onnx.NodeProto]:
    """A scalar as it is; one value per element of an axis in a shape that broadcasts over x."""
    sizes = graph.initializers[like or parameter].dims
    rank = len(graph.info[x].type.tensor_type.shape.dim) if sizes else 0
    if not sizes:
        yield helper.make_node("Identity", [parameter], [called])
        return
    shape = np.array([-1 if i == axis % rank else 1 for i in range(rank)])
    yield helper.make_node("Constant", [], [f"{called}/shape"], value=numpy_helper.from_array(shape))
    yield helper.make_node("Reshape", [parameter, f"{called}/shape"], [called])
