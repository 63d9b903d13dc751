"""The masks of ReLU, computed where they are smallest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import onnx
from onnx import helper

from onnxviz.engine.cut import Sketch, reads
from onnxviz.manifest import PROJECT_DOMAIN

MICROSOFT = "com.microsoft"
CONV_GRAD, RELU_GRAD, MAX_POOL_GRAD = (MICROSOFT, "ConvGrad"), (MICROSOFT, "ReluGrad"), (PROJECT_DOMAIN, "MaxPoolGrad")


def before_splits(sketch: Sketch) -> None:
    """Where branches end in ReLUs and are joined, one mask of the whole is theirs, before the gradient is split."""
    readers = readers_of(sketch)
    joined = {tuple(node.input): node for node in sketch.forward if node.op_type == "Concat"}
    nodes: list[onnx.NodeProto] = []
    same: dict[str, str] = {}
    for node in sketch.backward:
        masks = _masks(node.output, readers) if node.op_type == "Split" else []
        whole = joined.get(tuple(mask.input[1] for mask in masks)) if masks else None
        if whole is not None and axis_of(whole) == axis_of(node):
            masked = _mask(masks[0], node.input[0], whole.output[0], f"{node.name}/masked")
            same |= {mask.output[0]: mask.input[0] for mask in masks}
            nodes += [masked, _of(node, masked.output[0])]
        else:
            nodes.append(_copied(node, same))
    sketch.backward[:] = nodes


def before_pools(sketch: Sketch) -> None:
    """The mask of a ReLU whose values a max pool takes is the mask of what the pool gives.

    A window's winner is positive where its largest value is. So few windows are masked instead of many pixels.
    """
    readers = readers_of(sketch)
    pooled = pooled_values(sketch)
    nodes: list[onnx.NodeProto] = []
    same: dict[str, str] = {}
    for node in sketch.backward:
        masks = _masks(node.output, readers) if (node.domain, node.op_type) == MAX_POOL_GRAD else []
        y = pooled.get(window_of(node, node.input[1])) if masks and masks[0].input[1] == node.input[1] else None
        if y is not None:
            masked = _mask(masks[0], node.input[0], y, f"{node.name}/masked")
            same[masks[0].output[0]] = node.output[0]
            nodes += [masked, _of(node, masked.output[0])]
        else:
            nodes.append(_copied(node, same))
    sketch.backward[:] = nodes


def pooled_values(sketch: Sketch) -> dict[Hashable, str]:
    """What max pools give, by their windows: several may read one value."""
    return {window_of(node, node.input[0]): node.output[0] for node in sketch.forward if node.op_type == "MaxPool"}


def window_of(node: onnx.NodeProto, x: str) -> Hashable:
    """What tells a max pool of x, or its gradient, from others."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    ones, zeros = ([n] * len(given["kernel_shape"]) for n in (1, 0))
    defaults = {"strides": ones, "dilations": ones, "pads": zeros * 2, "ceil_mode": 0}
    return x, *given["kernel_shape"], *(str(given.get(name, default)) for name, default in defaults.items())


def readers_of(sketch: Sketch) -> dict[str, list[onnx.NodeProto]]:
    """Value → who reads it."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in (*sketch.backward, *sketch.closing):
        for name in reads(node):
            readers[name].append(node)
    return readers


def _masks(values: Sequence[str], readers: dict[str, list[onnx.NodeProto]]) -> list[onnx.NodeProto]:
    """The ReLUs' gradients that values go to, each to one; none where one goes elsewhere, or nowhere."""
    found = []
    for name in values:
        if len(readers[name]) != 1:
            return []
        (reader,) = readers[name]
        if (reader.domain, reader.op_type) != RELU_GRAD or reader.input[0] != name:
            return []
        found.append(reader)
    return found


def _mask(like: onnx.NodeProto, dy: str, y: str, name: str) -> onnx.NodeProto:
    """Another ReLU's gradient."""
    node = onnx.NodeProto()
    node.CopyFrom(like)
    node.name = name
    node.input[:], node.output[:] = [dy, y], [name]
    return node


def _copied(node: onnx.NodeProto, same: dict[str, str]) -> onnx.NodeProto:
    """The node, or an Identity of what its result is now the same as."""
    origin = same.get(node.output[0])
    return node if origin is None else helper.make_node("Identity", [origin], node.output, name=node.name)


def _of(node: onnx.NodeProto, name: str) -> onnx.NodeProto:
    """The node with another first input."""
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.input[0] = name
    return changed


def axis_of(node: onnx.NodeProto) -> int:
    """Along which a Concat or Split works."""
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
