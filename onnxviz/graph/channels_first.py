"""How operators read when the channels of their operands move from the last axis to the second.

A rule says for a node with channels-last operands which node with channels-first operands computes the same; None where
there is no such node. Frameworks with channels last (Keras, TensorFlow) are exported with a Transpose on either side of
each convolution; by these rules :mod:`onnxviz.graph.layout` moves what lies in between to the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.training_ops import PROJECT
from onnxviz.graph.fold import INPUT_LIMIT
from onnxviz.source import Array

T = TypeVar("T")


@dataclass(frozen=True)
class Rewrite:
    """A node as it reads with channels-first operands.

    Attributes:
        operands: which inputs are read channels first; constants among them broadcast against the output.
        constants: new contents of other inputs.
        attributes: new values of attributes.
        settled: the results are the same in both layouts; otherwise they have channels first.
    """

    operands: tuple[int, ...] = (0,)
    constants: Mapping[int, Sequence[int] | Array] = field(default_factory=dict)
    attributes: Mapping[str, int | list[int]] = field(default_factory=dict)
    settled: bool = False


Rule = Callable[[ir.Node], Rewrite | None]
RULES: dict[str, Rule] = {}

ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log",
    "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip


def to_first(rank: int) -> list[int]:
    """The permutation that brings the last axis to the second place."""
    return [0, rank - 1, *range(1, rank - 1)]


def to_last(rank: int) -> list[int]:
    """The permutation that brings the second axis to the last place."""
    return [0, *range(2, rank), 1]


def permuted(items: Sequence[T], perm: Sequence[int]) -> list[T]:
    """One item per axis, in the order in which the axes then are."""
    return [items[axis] for axis in perm]


def moved(axes: Sequence[int], rank: int) -> list[int]:
    """Where channels-last axes lie channels first."""
    order = to_first(rank)
    return [order.index(axis % rank) for axis in axes]


def rewrite(node: ir.Node) -> Rewrite | None:
    """The rule's answer for a node."""
    if is_elementwise(node):
        return _elementwise(node)
    rule = RULES.get(node.op_type) if node.domain == "" else None
    return rule(node) if rule is not None else None


def is_elementwise(node: ir.Node) -> bool:
    """Whether each number of the result depends on one number of each operand: the project's activations do so too."""
    return node.domain == PROJECT or (node.domain == "" and node.op_type in ELEMENTWISE)


def rank(value: ir.Value | None) -> int:
    """The number of axes; 0 where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is a stored tensor."""
    return value is not None and value.const_value is not None


def constant(node: ir.Node, index: int) -> list[float] | None:
    """The content of a constant input; None if there is no such input, or if it is computed."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None:
        return None
    numbers: list[float] = value.const_value.numpy().reshape(-1).tolist()
    return numbers


def _ints(node: ir.Node, index: int) -> list[int] | None:
    numbers = constant(node, index)
    return None if numbers is None else [int(number) for number in numbers]


def _given(node: ir.Node, index: int) -> bool:
    """Whether an optional input is there and not empty."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value is not None and constant(node, index) != []


# ----- the rules -----


def _rule(*op_types: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


def _elementwise(node: ir.Node) -> Rewrite | None:
    axes, operands = rank(node.outputs[0]), []
    if axes < 3:
        return None
    for index, value in enumerate(node.inputs):
        if value is None or (value.shape is not None and all(size == 1 for size in value.shape)):
            continue
        stored = value.const_value
        if (rank(value) != axes) if stored is None else (stored.size > INPUT_LIMIT and len(value.uses()) > 1):
            return None
        operands.append(index)
    return Rewrite(tuple(operands))


@_rule("Concat", "Split", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization")
def _along_an_axis(node: ir.Node) -> Rewrite | None:
    axes = rank(node.inputs[0])
    operands = tuple(range(len(node.inputs))) if node.op_type == "Concat" else (0,)
    if axes < 3 or any(is_constant(node.inputs[i]) for i in operands):
        return None
    axis = node.attributes.get_int("axis", 0 if node.op_type == "Split" else -1)
    return Rewrite(operands, attributes={"axis": moved([axis], axes)[0]})


@_rule("Slice")
def _slice(node: ir.Node) -> Rewrite | None:
    axes, starts = rank(node.inputs[0]), node.inputs[1]
    if axes < 3 or starts is None or starts.shape is None or not isinstance(starts.shape[0], int):
        return None
    chosen = _ints(node, 3) if _given(node, 3) else list(range(starts.shape[0]))
    return None if chosen is None else Rewrite(constants={3: moved(chosen, axes)})


@_rule("Pad")
def _pad(node: ir.Node) -> Rewrite | None:
    """All axes are named, or none: onnxruntime moves Transposes wrongly over a Pad of some axes."""
    axes, pads = rank(node.inputs[0]), _ints(node, 1)
    chosen = _ints(node, 3) if (named := _given(node, 3)) else list(range(axes))
    if axes < 3 or pads is None or chosen is None:
        return None
    places = [*moved(chosen, axes), *(axes + place for place in moved(chosen, axes))]
    margins = dict(zip(places, pads, strict=True))
    constants = {1: [margins.get(place, 0) for place in range(2 * axes)]}
    return Rewrite(constants=constants | ({3: list(range(axes))} if named else {}))


@_rule("Tile")
def _tile(node: ir.Node) -> Rewrite | None:
    axes, repeats = rank(node.inputs[0]), _ints(node, 1)
    return None if axes < 3 or repeats is None else Rewrite(constants={1: permuted(repeats, to_first(axes))})


@_rule("Resize")
def _resize(node: ir.Node) -> Rewrite | None:
    axes = rank(node.inputs[0])
    if axes < 3:
        return None
    if "axes" in node.attributes:
        return Rewrite(attributes={"axes": moved(node.attributes.get_ints("axes"), axes)})
    order, constants = to_first(axes), {}
    for index in (1, 2, 3):
        if _given(node, index):
            numbers, value = constant(node, index), node.inputs[index]
            if numbers is None or value is None or value.dtype is None:
                return None
            halves = [numbers[i : i + axes] for i in range(0, len(numbers), axes)]
            constants[index] = np.array([x for half in halves for x in permuted(half, order)], value.dtype.numpy())
    return Rewrite(constants=constants)


@_rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp")
def _reduce(node: ir.Node) -> Rewrite | None:
    axes, chosen = rank(node.inputs[0]), _ints(node, 1)
    if axes < 3 or not chosen:
        return None
    gone, constants = {axis % axes for axis in chosen}, {1: sorted(moved(chosen, axes))}
    if node.attributes.get_int("keepdims", 1):
        return Rewrite(constants=constants)
    if axes - 1 in gone or gone >= set(range(1, axes - 1)):  # channels are gone, or nothing is left beside them
        return Rewrite(constants=constants, settled=True)
    return Rewrite(constants=constants) if 0 not in gone else None


@_rule("Squeeze")
def _squeeze(node: ir.Node) -> Rewrite | None:
    axes, chosen = rank(node.inputs[0]), _ints(node, 1)
    if axes < 3 or not chosen or not {axis % axes for axis in chosen} <= set(range(1, axes - 1)):
        return None
    return Rewrite(constants={1: sorted(moved(chosen, axes))}, settled=axes - len(chosen) == 2)


@_rule("Unsqueeze")
def _unsqueeze(node: ir.Node) -> Rewrite | None:
    axes, chosen = rank(node.outputs[0]), _ints(node, 1)
    if axes < 3 or not chosen or not {axis % axes for axis in chosen} <= set(range(1, axes - 1)):
        return None
    return Rewrite((0,) if axes - len(chosen) > 2 else (), {1: sorted(moved(chosen, axes))})


@_rule("Reshape", "Flatten")
def _reshape(node: ir.Node) -> Rewrite | None:
    """Where only sizes of 1 move, the numbers lie in memory in the same order in both layouts."""
    x, y = node.inputs[0], node.outputs[0]
    operands = (0,) if _moves_for_free(x) else ()
    if node.op_type == "Reshape" and _moves_for_free(y) and (target := reshape_target(y)) is not None:
        return Rewrite(operands, {1: permuted(target, to_first(len(target)))})
    keeps = 0 in (constant(node, 1) or [0]) if node.op_type == "Reshape" else node.attributes.get_int("axis", 1) != 1
    return Rewrite(operands, settled=True) if operands and not keeps else None


def _moves_for_free(value: ir.Value | None) -> bool:
    if value is None or value.shape is None or rank(value) < 3:
        return False
    sizes = list(value.shape)
    return all(size == 1 for size in sizes[1:-1]) or sizes[-1] == 1


def reshape_target(value: ir.Value) -> list[int] | None:
    """The target by which a Reshape gives the value's shape, whatever the batch; None if no target does."""
    sizes = list(value.shape or ())
    opened = [size for size in sizes if not isinstance(size, int)]
    if value.shape is None or 0 in sizes or len(opened) > 1 or any(size.value is None for size in opened):
        return None
    return [size if isinstance(size, int) else -1 for size in sizes]
