"""Where the gradient of an output starts, and the seeds that it starts with."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops
from onnxviz.manifest import OF_GRADIENT, seed_name

_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_PASSIVE = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")


@dataclass
class Head:
    """Where the gradient of one output starts."""

    name: str
    value: ir.Value
    logits: ir.Value
    activation: str | None = None
    axis: int | None = None
    between: tuple[ir.Value, ...] = ()


def head_of(name: str, value: ir.Value) -> Head:
    """Before a final softmax or sigmoid, where there is one: after it the gradient saturates."""
    cursor = value
    between: list[ir.Value] = []
    while (node := cursor.producer()) is not None:
        if node.domain == "" and node.op_type in _ACTIVATIONS and node.inputs[0] is not None:
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
            if shape_of(node.inputs[0])[:1] != shape_of(value)[:1]:
                break  # a reshape mixed the batch with something else
            along = None if node.op_type == "Sigmoid" else axis
            return Head(name, value, node.inputs[0], node.op_type, along, tuple(between))
        if node.domain != "" or node.op_type not in _PASSIVE or node.inputs[0] is None:
            break
        cursor = node.inputs[0]
        between.append(cursor)
    return Head(name, value, value)


def seeds_of(op: Ops, heads: Sequence[Head], starts: Collection[ir.Value]) -> dict[ir.Value, ir.Value]:
    """The seed of each start; where several outputs start at one, the sum of theirs."""
    seeds: dict[ir.Value, ir.Value] = {}
    for head in heads:
        if head.logits in starts:
            seed = _seed(op, head)
            seeds[head.logits] = op.Add(seeds[head.logits], seed) if head.logits in seeds else seed
    return seeds


def _seed(op: Ops, head: Head) -> ir.Value:
    """The input ``seed/<output>``, zero by default, stretched to the batch of the logits."""
    name, logits = seed_name(head.name), head.logits
    zeros = np.zeros(
        [d if isinstance(d, int) else 1 for d in shape_of(logits)], (logits.dtype or ir.DataType.FLOAT).numpy()
    )
    value = ir.Value(name=name, const_value=ir.tensor(zeros, name=name))
    value.shape, value.type = shape_of_gradient(logits), logits.type
    op.graph.inputs.append(value)
    op.graph.register_initializer(value)
    expanded: ir.Value = op.Expand(value, op.Shape(logits))
    expanded.shape, expanded.type = ir.Shape(logits.shape or ()), logits.type
    return expanded


def shape_of(value: ir.Value) -> tuple[int | str | None, ...]:
    """Sizes, and the symbols of open ones, as the manifest has them."""
    return tuple(d if isinstance(d, int) else d.value for d in value.shape or ())


def shape_of_gradient(value: ir.Value) -> ir.Shape:
    """The value's shape, with other names for open sizes: onnxruntime would share buffers of the inputs' wrongly."""
    return ir.Shape([d if isinstance(d, int) else _renamed(d) for d in shape_of(value)])


def _renamed(symbol: str | None) -> str | None:
    return re.sub(r"[A-Za-z_]\w*", rf"\g<0>{OF_GRADIENT}", symbol) if symbol else None
