"""The crops behind gradients of convolutions of padded values, done by the convolutions."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations.masks import CONV_GRAD, readers_of


def in_convolutions(sketch: Sketch) -> None:
    """What a convolution passes back to a padded value, without the padding, is that with as much smaller pads.

    A network that pads in layers of its own has a crop for each in its gradient: a copy, outside of the convolutions'
    layout. Convolutions of stride 1 are convolutions backwards, too, whose pads can take it.
    """
    readers, functions = readers_of(sketch), {(f.domain, f.name, f.overload): f for f in sketch.functions}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in sketch.backward:
        kind, following = (node.domain, node.op_type), readers[node.output[0]]
        crop = _crop(sketch, following[0]) if kind == CONV_GRAD and len(following) == 1 else []
        smaller = _with_smaller_pads(functions[*kind, node.overload], crop) if crop else None
        if smaller is not None:
            functions[smaller.domain, smaller.name, smaller.overload] = smaller
            cropped = onnx.NodeProto()
            cropped.CopyFrom(node)
            cropped.overload, cropped.output[0] = smaller.overload, following[0].output[0]
            nodes.append(cropped)
            done.add(cropped.output[0])
        elif node.output[0] not in done:
            nodes.append(node)
    sketch.backward[:] = nodes
    sketch.functions[:] = functions.values()


def _crop(sketch: Sketch, node: onnx.NodeProto) -> list[int]:
    """How much a node cuts off each spatial axis, first before it, then behind it; empty if it does anything else."""
    if node.domain or node.op_type != "Pad" or len(node.input) > 2 or any(a.s != b"constant" for a in node.attribute):
        return []
    pads = sketch.graph.initializers.get(node.input[1])
    if pads is None:
        return []
    begin, end = numpy_helper.to_array(pads).reshape(2, -1)
    if begin[:2].any() or end[:2].any() or max(*begin, *end) > 0:
        return []
    return [-int(size) for size in (*begin[2:], *end[2:])]


def _with_smaller_pads(function: onnx.FunctionProto, crop: list[int]) -> onnx.FunctionProto | None:
    """A convolution's gradient that leaves out as much; None where its pads are too small, or it is no convolution."""
    conv = function.node[-1]
    found = [attribute for attribute in conv.attribute if attribute.name == "pads"]
    if conv.op_type != "Conv" or not found:
        return None
    left = [pad - cut for pad, cut in zip(found[0].ints, crop, strict=True)]
    if min(left) < 0:
        return None
    changed = onnx.FunctionProto()
    changed.CopyFrom(function)
    changed.overload = f"{function.overload} cropped by {crop}"
    for attribute in changed.node[-1].attribute:
        if attribute.name == "pads":
            attribute.CopyFrom(helper.make_attribute("pads", left))
    return changed
