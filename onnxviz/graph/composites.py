"""Activations that exporters write as several nodes become one call each, so that their gradient is one node too.

The call's function is the very nodes that were found (onnxruntime puts them back in their place before it optimises),
so the numbers of the forward pass do not change. :mod:`onnxviz.graph.spellings` has the ways of writing an activation,
each of which is both the pattern that is looked for and the body of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import OPSET, Ops
from onnxviz.gradient.training_ops import PROJECT, TrainingOps
from onnxviz.graph.spellings import NEGATED, SPELLINGS, Spelling

_COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min"})
_DEFAULTS = {"HardSigmoid": {"alpha": 0.2, "beta": 0.5}, "Elu": {"alpha": 1.0}}
"""What attributes are where a node leaves them out."""


@dataclass
class _Match:
    """What stands for the pattern's x and for its open numbers, and the nodes found so far."""

    x: ir.Value | None = None
    nodes: list[ir.Node] = field(default_factory=list)
    numbers: Mapping[str, float] = field(default_factory=dict)


class _Pattern:
    """A spelling as a graph to compare with."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        double = ir.TensorType(ir.DataType.DOUBLE)
        self.x = ir.Value(name="x", type=double)
        self.places = {ir.Value(name=name, type=double): name for name in spelling.numbers}
        graph = ir.Graph([self.x], [], nodes=[], opset_imports={"": OPSET})
        places = {name: place for place, name in self.places.items()}
        self.root = spelling.write(Ops(graph), self.x, **places).producer()
        self.size = sum(1 for _ in graph)

    def match(self, node: ir.Node) -> _Match | None:
        """The match that ends in this node; None if there is none, or if others read what lies inside."""
        assert self.root is not None
        for found in self._nodes(self.root, node, _Match()):
            inner = [n for n in found.nodes if n is not node]
            private = all(use.node in found.nodes for n in inner for use in n.outputs[0].uses()) and not any(
                n.outputs[0].is_graph_output() for n in inner
            )
            if private and found.x is not None and self.spelling.allowed(**found.numbers):
                return _Match(found.x, list(dict.fromkeys(found.nodes)), found.numbers)
        return None

    def _nodes(self, pattern: ir.Node, node: ir.Node, match: _Match) -> Iterator[_Match]:
        if (node.domain, node.op_type) != ("", pattern.op_type) or len(node.inputs) != len(pattern.inputs):
            return
        if not _equal_attributes(pattern, node):
            return
        orders = [node.inputs, node.inputs[::-1]] if node.op_type in _COMMUTATIVE else [node.inputs]
        for inputs in orders:
            states = [_Match(match.x, [*match.nodes, node], match.numbers)]
            for expected, actual in zip(pattern.inputs, inputs, strict=True):
                states = [after for state in states for after in self._values(expected, actual, state)]
            yield from states

    def _values(self, expected: ir.Value | None, actual: ir.Value | None, match: _Match) -> Iterator[_Match]:
        if expected is None or actual is None:
            if expected is actual:
                yield match
        elif expected is self.x:
            if match.x in {None, actual} and ir.convenience.get_const_tensor(actual) is None:
                yield _Match(actual, match.nodes, match.numbers)
        elif (inner := expected.producer()) is None:
            yield from self._numbers(expected, actual, match)
        elif (node := actual.producer()) is not None:
            yield from self._nodes(inner, node, match)

    def _numbers(self, expected: ir.Value, actual: ir.Value, match: _Match) -> Iterator[_Match]:
        given = _number(actual, match.x)
        if given is None:
            return
        if expected.const_value is not None:
            if given == expected.const_value.numpy().astype(given.dtype):
                yield match
            return
        place = expected.meta.get(NEGATED, expected)
        number = float(given) if place is expected else -float(given)
        if match.numbers.get(name := self.places[place], number) == number:
            yield _Match(match.x, match.nodes, {**match.numbers, name: number})


def _number(value: ir.Value, x: ir.Value | None) -> np.ndarray[tuple[()], np.dtype[np.floating]] | None:
    """The constant float, in its own type, that a value is, also where it was given the shape of x."""
    node = value.producer()
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None and node is not None and node.op_type == "ConstantOfShape" and node.inputs[0] is not None:
        shape = node.inputs[0].producer()
        if shape is not None and shape.op_type == "Shape" and shape.inputs[0] is x and not shape.attributes:
            fill = node.attributes.get("value")
            tensor = fill.as_tensor() if fill is not None else ir.tensor(np.zeros(1, np.float32))
    if tensor is None or tensor.size != 1 or len(tensor.shape) > 1 or not tensor.dtype.is_floating_point():
        return None
    return tensor.numpy().reshape(())


def _equal_attributes(pattern: ir.Node, node: ir.Node) -> bool:
    """Whether each attribute of the pattern has, to float's precision, that value in the node."""
    for name, expected in pattern.attributes.items():
        given = node.attributes.get_float(name, _DEFAULTS[pattern.op_type][name])
        if np.float32(given) != np.float32(expected.as_float()):
            return False
    return True


def written_out(model: ir.Model) -> dict[str, tuple[str, set[str]]]:
    """The activations that are written as several nodes: name of the result → activation, names of what lies inside."""
    found: dict[str, tuple[str, set[str]]] = {}
    taken: set[ir.Node] = set()
    for pattern in _patterns():
        for node in model.graph:
            if node not in taken and (match := pattern.match(node)) is not None:
                taken.update(match.nodes)
                inside = {n.outputs[0].name or "" for n in match.nodes if n is not node}
                found[node.outputs[0].name or ""] = pattern.spelling.activation, inside
    return found


def _patterns() -> list[_Pattern]:
    """All spellings, the longest first, and of those the ones that leave the fewest numbers open."""
    patterns = [_Pattern(spelling) for spelling in SPELLINGS]
    return sorted(patterns, key=lambda pattern: (-pattern.size, len(pattern.places)))


def recognise(model: ir.Model) -> int:
    """Replace the activations that are written as several nodes by calls; returns how many were found.

    A call stands where the last node stood, under the name of its output; the numbers that its spelling leaves open are
    its attributes. Nodes whose inner values are outputs of the graph, or read by others, stay as they are.
    """
    graph, functions = model.graph, TrainingOps(model)
    found = 0
    for pattern in _patterns():
        name, write = pattern.spelling.activation, pattern.spelling.write
        for node in list(graph):
            if node.graph is not graph or (match := pattern.match(node)) is None:
                continue
            overload = functions.define(PROJECT, name, write, [match.x], dict(match.numbers))
            attributes = [ir.AttrFloat32(key, value) for key, value in match.numbers.items()]
            call = ir.Node(PROJECT, name, [match.x], attributes, overload=overload, name=node.name)
            ir.convenience.replace_nodes_and_values(
                graph, node, match.nodes, [call], [node.outputs[0]], [call.outputs[0]]
            )
            found += 1
    return found
