"""The masks of ReLU, computed in the layout of onnxruntime's convolutions, and before a pool instead of behind it."""

from __future__ import annotations

from collections import defaultdict

import onnx
from onnx import helper

from onnxviz.engine.cut import Sketch, reads
from onnxviz.manifest import PROJECT_DOMAIN

STEEP = 3e38
"""The slope of a HardSigmoid that is a step from 0 to 1: finite, so that 0 stays 0."""

MICROSOFT = "com.microsoft"


def in_blocks(sketch: Sketch) -> None:
    """dy where y > 0, as dy times a step of y: both are computed as the convolutions' values lie, without a copy.

    It differs from a choice where dy is infinite, and for y below 3e-39.
    """
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        if (node.domain, node.op_type) == (MICROSOFT, "ReluGrad") and len(sketch.graph.sizes(node.input[1]) or ()) == 3:
            mask = sketch.add("HardSigmoid", node.input[1], into=nodes, alpha=STEEP, beta=0.0)
            node = helper.make_node("Mul", [node.input[0], mask], node.output, name=node.name)  # noqa: PLW2901
        nodes.append(node)
    sketch.backward[:] = nodes


def before_pools(sketch: Sketch) -> None:
    """A ReLU's mask, of what a max pool of its values passes back, is the mask of the pooled values.

    A window's winner is positive where its largest value is. So instead of many pixels few windows are masked. Where a
    pool's input is joined from several ReLUs, all of them mask.
    """
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in (*sketch.backward, *sketch.closing):
        for name in reads(node):
            readers[name].append(node)
    joined = {node.output[0]: list(node.input) for node in sketch.forward if node.op_type == "Concat"}
    pooled = {node.input[0]: node.output[0] for node in sketch.forward if node.op_type == "MaxPool"}
    nodes: list[onnx.NodeProto] = []
    masked: set[str] = set()
    for node in sketch.backward:
        if (node.domain, node.op_type) == (PROJECT_DOMAIN, "MaxPoolGrad") and node.input[1] in pooled:
            behind = _masks(node, readers, joined, set(sketch.outputs))
            if behind:
                masked.update(one.output[0] for one in behind)
                dy = f"{node.name}/masked"
                relu = helper.make_node("ReluGrad", [node.input[0], pooled[node.input[1]]], [dy], name=dy)
                relu.domain, relu.overload = MICROSOFT, behind[0].overload
                changed = onnx.NodeProto()
                changed.CopyFrom(node)
                changed.input[0] = dy
                nodes += [relu, changed]
                continue
        if node.output[0] in masked:
            node = helper.make_node("Identity", [node.input[0]], node.output, name=node.name)  # noqa: PLW2901
        nodes.append(node)
    sketch.backward[:] = nodes


def _masks(
    pool: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], joined: dict[str, list[str]], outputs: set[str]
) -> list[onnx.NodeProto]:
    """The ReLUs' gradients that read all of what a pool passes back; none where something else does too."""
    x, dx = pool.input[1], pool.output[0]
    parts, values = [dx], [x]
    if len(readers[dx]) == 1 and readers[dx][0].op_type == "Split" and x in joined:
        parts, values = list(readers[dx][0].output), joined[x]
    found = []
    for part, value in zip(parts, values, strict=True):
        if len(readers[part]) != 1 or not {part, dx}.isdisjoint(outputs):
            return []
        (reader,) = readers[part]
        if (reader.domain, reader.op_type, list(reader.input)) != (MICROSOFT, "ReluGrad", [part, value]):
            return []
        found.append(reader)
    return found
