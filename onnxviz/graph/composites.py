"""Activations that exporters write as several nodes become one call each, so that their gradient is one node too.

The call's function is the very nodes that were found (onnxruntime puts them back in their place before it optimises),
so the numbers of the forward pass do not change. Each way of writing an activation is a function here, which is both
the pattern that is looked for and the body of the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import OPSET, Ops
from onnxviz.gradient.training_ops import PROJECT, TrainingOps

Spelling = Callable[[Ops, ir.Value], ir.Value]

SPELLINGS: list[tuple[str, Spelling]] = []
"""(activation, one way of writing it)."""

_COMMUTATIVE = frozenset({"Add", "Mul"})


def spelling(activation: str) -> Callable[[Spelling], Spelling]:
    """Register the decorated function as a way of writing an activation."""

    def register(function: Spelling) -> Spelling:
        SPELLINGS.append((activation, function))
        return function

    return register


# ----- x·σ(x) -----


@spelling("Silu")
def silu(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch, Keras."""
    return op.Mul(x, op.Sigmoid(x))


@spelling("Silu")
def silu_with_unit_slope(op: Ops, x: ir.Value) -> ir.Value:
    """tf.nn.silu: x·σ(1·x)."""
    return op.Mul(x, op.Sigmoid(op.Mul(x, 1.0)))


@spelling("QuickGelu")
def quick_gelu(op: Ops, x: ir.Value) -> ir.Value:
    """CLIP."""
    return op.Mul(x, op.Sigmoid(op.Mul(x, 1.702)))


# ----- x·Φ(x) -----


def _one_plus_erf(op: Ops, x: ir.Value) -> ir.Value:
    return op.Add(op.Erf(op.Div(x, math.sqrt(2.0))), 1.0)


@spelling("Gelu")
def gelu_half_inside(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by torch.export: x·(½·(1 + erf))."""
    return op.Mul(x, op.Mul(_one_plus_erf(op, x), 0.5))


@spelling("Gelu")
def gelu_half_last(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing: (x·(1 + erf))·½."""
    return op.Mul(op.Mul(x, _one_plus_erf(op, x)), 0.5)


@spelling("Gelu")
def gelu_half_first(op: Ops, x: ir.Value) -> ir.Value:
    """BERT, tf.nn.gelu: (½·x)·(1 + erf)."""
    return op.Mul(op.Mul(x, 0.5), _one_plus_erf(op, x))


@spelling("Gelu")
def gelu_by_reciprocal(op: Ops, x: ir.Value) -> ir.Value:
    """tf.nn.gelu after constant folding: (½·x)·(1 + erf(x·√½))."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1.0))


@spelling("Gelu")
def gelu_by_complement(op: Ops, x: ir.Value) -> ir.Value:
    """keras.activations.gelu: (½·x)·erfc(−x·√½), with erfc = 1 − erf."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Neg(op.Erf(op.Mul(op.Neg(x), math.sqrt(0.5)))), 1.0))


# ----- x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 -----


def _one_plus_tanh(op: Ops, x: ir.Value, cube: ir.Value) -> ir.Value:
    inner = op.Mul(op.Add(x, op.Mul(cube, 0.044715)), math.sqrt(2.0 / math.pi))
    return op.Add(op.Tanh(inner), 1.0)


@spelling("FastGelu")
def fast_gelu_half_inside(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by torch.export."""
    return op.Mul(x, op.Mul(_one_plus_tanh(op, x, op.Pow(x, 3.0)), 0.5))


@spelling("FastGelu")
def fast_gelu_half_last(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing."""
    return op.Mul(op.Mul(x, _one_plus_tanh(op, x, op.Mul(x, op.Mul(x, x)))), 0.5)


@spelling("FastGelu")
def fast_gelu_half_first(op: Ops, x: ir.Value) -> ir.Value:
    """GPT-2, tf.nn.gelu."""
    return op.Mul(op.Mul(x, 0.5), _one_plus_tanh(op, x, op.Pow(x, 3.0)))


@spelling("FastGelu")
def fast_gelu_factored(op: Ops, x: ir.Value) -> ir.Value:
    """transformers' gelu_fast: x³ taken apart."""
    inner = op.Mul(op.Mul(x, math.sqrt(2.0 / math.pi)), op.Add(op.Mul(op.Mul(x, 0.044715), x), 1.0))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0))


# ----- x·tanh(softplus(x)) -----


@spelling("Mish")
def mish(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing."""
    return op.Mul(x, op.Tanh(op.Softplus(x)))


# ----- min(max(x/6 + ½, 0), 1), and x times that -----


def _clip(op: Ops, x: ir.Value, high: float) -> ir.Value:
    return op.Clip(x, op.number(0.0, x), op.number(high, x))


def _min_max(op: Ops, x: ir.Value, high: float) -> ir.Value:
    return op.Max(op.Min(x, high), 0.0)


def _max_min(op: Ops, x: ir.Value, high: float) -> ir.Value:
    return op.Min(op.Max(x, 0.0), high)


def _relu_min(op: Ops, x: ir.Value, high: float) -> ir.Value:
    return op.Min(op.Relu(x), high)


def _gated(gate: Spelling) -> Spelling:
    return lambda op, x: op.Mul(x, gate(op, x))


def _register_hard_sigmoids(clip: Callable[[Ops, ir.Value, float], ir.Value]) -> None:
    """Sixths are taken of x or of the result, by division or by multiplication."""

    def six(op: Ops, x: ir.Value) -> ir.Value:
        return clip(op, op.Add(x, 3.0), 6.0)

    gates: list[Spelling] = [
        lambda op, x: op.Div(six(op, x), 6.0),
        lambda op, x: op.Mul(six(op, x), 1.0 / 6.0),
        lambda op, x: clip(op, op.Add(op.Div(x, 6.0), 0.5), 1.0),
        lambda op, x: clip(op, op.Add(op.Mul(x, 1.0 / 6.0), 0.5), 1.0),
    ]
    for gate in gates:
        spelling("HardSigmoid")(gate)
        spelling("HardSwish")(_gated(gate))
    spelling("HardSwish")(lambda op, x: op.Div(op.Mul(x, six(op, x)), 6.0))
    spelling("HardSwish")(lambda op, x: op.Mul(op.Mul(x, six(op, x)), 1.0 / 6.0))


for _bounds in (_clip, _min_max, _max_min, _relu_min):
    _register_hard_sigmoids(_bounds)


@spelling("HardSwish")
def hard_swish_of_hard_sigmoid(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing before opset 14."""
    return op.Mul(x, op.HardSigmoid(x, alpha=1.0 / 6.0, beta=0.5))


# ----- the search -----


@dataclass
class _Match:
    """What stands for the pattern's x, and the nodes found so far."""

    x: ir.Value | None = None
    nodes: list[ir.Node] = field(default_factory=list)


class _Pattern:
    """A spelling as a graph to compare with."""

    def __init__(self, activation: str, write: Spelling) -> None:
        self.activation = activation
        self.write = write
        self.x = ir.Value(name="x", type=ir.TensorType(ir.DataType.DOUBLE))
        graph = ir.Graph([self.x], [], nodes=[], opset_imports={"": OPSET})
        self.root = write(Ops(graph), self.x).producer()
        self.size = sum(1 for _ in graph)

    def match(self, node: ir.Node) -> _Match | None:
        """The match that ends in this node; None if there is none, or if others read what lies inside."""
        assert self.root is not None
        for found in self._nodes(self.root, node, _Match()):
            inner = [n for n in found.nodes if n is not node]
            private = all(use.node in found.nodes for n in inner for use in n.outputs[0].uses()) and not any(
                n.outputs[0].is_graph_output() for n in inner
            )
            if private:
                return found
        return None

    def _nodes(self, pattern: ir.Node, node: ir.Node, match: _Match) -> Iterator[_Match]:
        if (node.domain, node.op_type) != ("", pattern.op_type) or len(node.inputs) != len(pattern.inputs):
            return
        if not _equal_attributes(pattern, node):
            return
        orders = [node.inputs, node.inputs[::-1]] if node.op_type in _COMMUTATIVE else [node.inputs]
        for inputs in orders:
            states = [_Match(match.x, [*match.nodes, node])]
            for expected, actual in zip(pattern.inputs, inputs, strict=True):
                states = [after for state in states for after in self._values(expected, actual, state)]
            yield from states

    def _values(self, expected: ir.Value | None, actual: ir.Value | None, match: _Match) -> Iterator[_Match]:
        if expected is None or actual is None:
            if expected is actual:
                yield match
        elif expected is self.x:
            if match.x in {None, actual} and ir.convenience.get_const_tensor(actual) is None:
                yield _Match(actual, match.nodes)
        elif expected.const_value is not None:
            if _equal_constants(expected.const_value, actual):
                yield match
        elif (inner := expected.producer()) is not None and (node := actual.producer()) is not None:
            yield from self._nodes(inner, node, match)


def _equal_constants(expected: ir.TensorProtocol, actual: ir.Value) -> bool:
    """Whether a value is the expected number, rounded to the value's own type."""
    tensor = ir.convenience.get_const_tensor(actual)
    if tensor is None or tensor.size != 1 or len(tensor.shape) > 1:
        return False
    number = tensor.numpy().reshape(())
    return bool(number == expected.numpy().astype(number.dtype))


def _equal_attributes(pattern: ir.Node, node: ir.Node) -> bool:
    """Whether each attribute of the pattern has, to float's precision, that value in the node."""
    defaults = {"alpha": 0.2, "beta": 0.5} if pattern.op_type == "HardSigmoid" else {}
    for name, expected in pattern.attributes.items():
        actual = node.attributes[name].as_float() if name in node.attributes else defaults[name]
        if np.float32(actual) != np.float32(expected.as_float()):
            return False
    return True


def written_out(model: ir.Model) -> dict[str, tuple[str, set[str]]]:
    """The activations that are written as several nodes: name of the result → activation, names of what lies inside."""
    found: dict[str, tuple[str, set[str]]] = {}
    taken: set[ir.Node] = set()
    for pattern in _patterns():
        for node in model.graph:
            if node not in taken and (match := pattern.match(node)) is not None and match.x is not None:
                taken.update(match.nodes)
                inside = {n.outputs[0].name or "" for n in match.nodes if n is not node}
                found[node.outputs[0].name or ""] = pattern.activation, inside
    return found


def _patterns() -> list[_Pattern]:
    """All spellings, the longest first."""
    return sorted((_Pattern(*each) for each in SPELLINGS), key=lambda pattern: -pattern.size)


def recognise(model: ir.Model) -> int:
    """Replace the activations that are written as several nodes by calls; returns how many were found.

    A call stands where the last node stood, under the name of its output. Nodes whose inner values are outputs of the
    graph, or read by others, stay as they are.
    """
    graph, functions = model.graph, TrainingOps(model)
    found = 0
    for pattern in _patterns():
        for node in list(graph):
            if node.graph is not graph or (match := pattern.match(node)) is None or match.x is None:
                continue
            overload = functions.define(PROJECT, pattern.activation, pattern.write, [match.x], {})
            call = ir.Node(PROJECT, pattern.activation, [match.x], overload=overload, name=node.name)
            ir.convenience.replace_nodes_and_values(
                graph, node, match.nodes, [call], [node.outputs[0]], [call.outputs[0]]
            )
            found += 1
    return found
