"""The splits behind gradients of convolutions of joined values, done to the convolutions' weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations.blocks import is_convolution
from onnxviz.engine.optimizations.masks import axis_of, readers_of


def in_weights(sketch: Sketch) -> None:
    """What a convolution passes back to each value that was joined before it comes from that value's share of weights.

    The shares are constants, made when the session starts, and nothing is copied out of the convolutions' layout.
    """
    readers = readers_of(sketch)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in sketch.backward:
        following = readers[node.output[0]] if _is_of_one_group(node) else []
        sizes = _channels(sketch, following[0]) if len(following) == 1 else []
        stops = np.cumsum(sizes, dtype=np.int64)
        for name, start, stop in zip(following[0].output if sizes else (), stops - sizes, stops, strict=True):
            weights = sketch.add("Slice", node.input[2], *(np.array([x]) for x in (start, stop, 1)), into=nodes)
            part = onnx.NodeProto()
            part.CopyFrom(node)
            part.input[2], part.output[0], part.name = weights, name, f"{node.name}/{start}"
            nodes.append(part)
            done.add(name)
        if not sizes and node.output[0] not in done:
            nodes.append(node)
    sketch.backward[:] = nodes


def _is_of_one_group(node: onnx.NodeProto) -> bool:
    return is_convolution(node) and all(a.i == 1 for a in node.attribute if a.name == "group")


def _channels(sketch: Sketch, node: onnx.NodeProto) -> list[int]:
    """How many channels each part of a split has; empty for other nodes."""
    if node.domain or node.op_type != "Split" or axis_of(node) != 1 or len(node.input) != 2:
        return []
    sizes = sketch.graph.initializers.get(node.input[1])
    return [] if sizes is None else [int(size) for size in numpy_helper.to_array(sizes)]
