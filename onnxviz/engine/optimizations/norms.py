"""The scales of batch norms, multiplied into the weights of the convolutions whose gradients come next."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations.masks import CONV_GRAD, readers_of


def in_weights(sketch: Sketch) -> None:
    """The gradient of w ⋆ x at s·dy, with a scale for each channel, is that of (s·w) ⋆ x at dy.

    The products are constants, computed when the session starts; and the scale, which onnxruntime multiplies outside of
    the convolutions' layout, no longer parts one convolution from the next. It rounds differently.
    """
    readers = readers_of(sketch)
    scaled: dict[str, tuple[str, str]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        factors = _scale(sketch, node)
        if factors and _goes_to_one(node.output[0], readers):
            scaled[node.output[0]] = factors
            continue
        if (node.domain, node.op_type) == CONV_GRAD and node.input[0] in scaled:
            dy, scale = scaled[node.input[0]]
            column = np.array([-1, *[1] * (_rank(node) + 1)])
            factor = sketch.add("Reshape", scale, column, into=nodes)
            weights = sketch.add("Mul", node.input[2], factor, into=nodes)
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            changed.input[0], changed.input[2] = dy, weights
            node = changed  # noqa: PLW2901 - the same gradient of other weights
        nodes.append(node)
    sketch.backward[:] = nodes


def _scale(sketch: Sketch, node: onnx.NodeProto) -> tuple[str, str] | None:
    """dy and a constant with an element for each of its channels, if the node multiplies these."""
    graph = sketch.graph
    if node.op_type != "Mul" or node.input[0] not in graph.cotangents:
        return None
    dy, scale = node.input
    index, rank = graph.producer.get(scale), len(graph.sizes(dy) or ())
    if not rank or index is None or scale in graph.varying or scale in graph.cotangents:
        return None
    reshape = graph.nodes[index]
    target = graph.initializers.get(reshape.input[1]) if reshape.op_type == "Reshape" else None
    if target is None or list(numpy_helper.to_array(target))[-rank + 1 :] != [1] * (rank - 1) or target.dims[0] != rank:
        return None
    return dy, scale


def _goes_to_one(name: str, readers: dict[str, list[onnx.NodeProto]]) -> bool:
    """Whether a value is read by the gradient of one convolution, as what it passes back, and by nobody else."""
    found = readers[name]
    return len(found) == 1 and (found[0].domain, found[0].op_type) == CONV_GRAD and found[0].input[0] == name


def _rank(node: onnx.NodeProto) -> int:
    """How many spatial axes a convolution has."""
    return next(len(helper.get_attribute_value(a)) for a in node.attribute if a.name == "kernel_shape")
