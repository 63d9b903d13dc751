"""Gradients kept in the layout of onnxruntime's convolutions, which is in blocks of channels."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations.masks import CONV_GRAD, RELU_GRAD, readers_of
from onnxviz.manifest import PROJECT_DOMAIN

CLIP_GRAD = (PROJECT_DOMAIN, "ClipGrad")

BLOCK = 16
"""Channels that convolutions keep together at most; of a number that is no multiple, grouped ones are slow."""

STEEP = 3e38
"""The slope of a HardSigmoid that is a step from 0 to 1: finite, so that 0 stays 0."""


def masks(sketch: Sketch) -> None:
    """dy where y > 0, as dy times a step of y: both are computed as the convolutions' values lie, without a copy.

    For ReLU6 and other clips dy times two steps, of y too where it is at hand, so that convolution and clip are one.
    Where dy does not lie in blocks and a convolution reads the product, dy goes through a convolution that changes
    nothing: what follows then stays in blocks, sums of branches too. All this differs from a choice where dy is not
    finite, and within 3e-38 of a bound that is 0.
    """
    clipped = {tuple(node.input): node.output[0] for node in sketch.forward if node.op_type == "Clip"}
    readers = readers_of(sketch)
    blocked: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        steps = _steps(sketch, node)
        if not steps:
            if _gives_blocks(sketch, node, blocked):
                blocked.add(node.output[0])
            nodes.append(node)
            continue
        dy, y = node.input[0], clipped.get(tuple(node.input[1:]), node.input[1])
        channels = (sketch.graph.sizes(node.input[1]) or (0,))[0]
        if dy not in blocked and not channels % BLOCK and any(map(is_convolution, readers[node.output[0]])):
            dy = sketch.add("Conv", dy, np.ones((channels, 1, 1, 1), np.float32), into=nodes, group=channels)
            blocked.add(dy)
        if dy in blocked:
            blocked.add(node.output[0])
        for alpha, beta in steps:
            dy = sketch.add("Mul", dy, sketch.add("HardSigmoid", y, into=nodes, alpha=alpha, beta=beta), into=nodes)
        nodes[-1].output[0] = node.output[0]
    sketch.backward[:] = nodes


def _steps(sketch: Sketch, node: onnx.NodeProto) -> list[tuple[float, float]]:
    """α and β of the HardSigmoids whose product is the mask of a rectifier of images; none for other nodes."""
    kind = node.domain, node.op_type
    if kind not in {RELU_GRAD, CLIP_GRAD} or len(sketch.graph.sizes(node.input[1]) or ()) != 3:
        return []
    return [(STEEP, 0.0)] if kind == RELU_GRAD else _between(*(_number(sketch, name) for name in node.input[2:]))


def _number(sketch: Sketch, name: str) -> float | None:
    """A constant of one element; None if it is no such."""
    constant = sketch.graph.initializers.get(name)
    return numpy_helper.to_array(constant).item() if constant is not None and not constant.dims else None


def _between(low: float | None = None, high: float | None = None) -> list[tuple[float, float]]:
    """α and β of HardSigmoids that are 1 above the lower and below the upper bound, else 0; none if a bound is none.

    α is a power of two, so that αy + β is exact at the bounds.
    """
    if low is None or high is None or not max(abs(low), abs(high)) < 2.0**100:
        return []
    alpha = 2.0 ** (126 - max(0, math.frexp(max(abs(low), abs(high)))[1]))
    return [(alpha, -alpha * low), (-alpha, alpha * high)]


def is_convolution(node: onnx.NodeProto) -> bool:
    """Whether a node is the gradient of a convolution, and a convolution itself."""
    strides = next((list(a.ints) for a in node.attribute if a.name == "strides"), [])
    return (node.domain, node.op_type) == CONV_GRAD and {*strides} == {1}


def _gives_blocks(sketch: Sketch, node: onnx.NodeProto, blocked: set[str]) -> bool:
    """Whether onnxruntime leaves the node's result in blocks."""
    if node.op_type == "Add":
        return all(name in blocked for name in node.input)
    channels = (sketch.graph.sizes(node.input[1]) or (0,))[0] if is_convolution(node) else 0
    group = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "group"), 1)
    return channels > 0 and channels % BLOCK == 0 and group in {1, channels}
