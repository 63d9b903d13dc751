"""Reverse-mode differentiation of an ONNX graph. Names no operator: those are in :mod:`onnxviz.gradient.rules`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce

import onnx_ir as ir

from onnxviz.gradient.registry import NO_GRADIENT, QUANTISERS, VJPS, Rule, unsupported
from onnxviz.gradient.tape import Ops

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
INTEGERS = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32})
"""What numbers are quantised to and summed up in."""


def operands(node: ir.Node) -> list[ir.Value]:
    """The values that a node reads: its inputs, and what the bodies of If, Loop and Scan take from outside."""
    inner = (n for attr in node.attributes.values() for graph in _graphs(attr) for n in graph.all_nodes())
    return [x for reader in (node, *inner) for x in reader.inputs if x is not None]


def _graphs(attr: ir.Attr) -> list[ir.Graph]:
    if attr.type == ir.AttributeType.GRAPH:
        return [attr.as_graph()]
    return list(attr.as_graphs()) if attr.type == ir.AttributeType.GRAPHS else []


def downstream(values: Iterable[ir.Value], nodes: Iterable[ir.Node]) -> set[ir.Value]:
    """The values that depend on any of ``values`` through floats, or integers that stand for them, these included."""
    reached = {value for value in values if value.dtype in FLOATS}
    for node in nodes:
        if any(x in reached for x in operands(node)) and (node.domain, node.op_type) not in NO_GRADIENT:
            quantised = (node.domain, node.op_type) in QUANTISERS or any(
                x in reached and x.dtype not in FLOATS for x in node.inputs if x is not None
            )
            reached.update(y for y in node.outputs if y.dtype in FLOATS or (quantised and y.dtype in INTEGERS))
    return reached


def upstream(values: Iterable[ir.Value], nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes that any of ``values`` depends on."""
    reached, found = set(values), set()
    for node in reversed(list(nodes)):
        if any(y in reached for y in node.outputs):
            found.add(node)
            reached.update(operands(node))
    return found


def missing_rules(nodes: Iterable[ir.Node], active: set[ir.Value]) -> list[ir.Node]:
    """The nodes that a gradient would have to pass and that have no rule."""
    return [
        node
        for node in nodes
        if (node.domain, node.op_type) not in VJPS
        and any(x in active for x in operands(node))
        and any(y in active for y in node.outputs)
    ]


def backward(
    op: Ops,
    nodes: Iterable[ir.Node],
    cotangents: Mapping[ir.Value, ir.Value],
    wrt: Iterable[ir.Value],
    names: Mapping[ir.Value, str],
) -> dict[ir.Value, ir.Value]:
    """Append to ``op`` the gradient of Σ (cotangent · value) with respect to each value of ``wrt``.

    Args:
        op: where the nodes go.
        nodes: the forward pass in topological order.
        cotangents: value → its cotangent (a seed), of the same shape.
        wrt: inputs or intermediate values.
        names: what the total gradient of a value is called. A named total is one value that all who read the
            gradient read, so that replacing it replaces the gradient of that value everywhere.

    Returns:
        Value → total gradient, without the values of ``wrt`` that nothing depends on.
    """
    nodes, wrt = list(nodes), set(wrt)
    active = downstream(wrt, nodes)
    gradients = _Gradients(op, cotangents, names)
    for node in reversed(nodes):
        if (node.domain, node.op_type) in NO_GRADIENT or not any(x in active for x in node.inputs):
            continue
        dys = [gradients.total(y) if y in active else None for y in node.outputs]
        if any(dy is not None for dy in dys):
            for x, dx in _through(op, node, VJPS[node.domain, node.op_type], dys, active):
                gradients.add(x, dx)
    return {value: grad for value in wrt if (grad := gradients.total(value)) is not None}


class _Gradients:
    """What has been found: the parts of each value's gradient, and their totals where these have been asked for."""

    def __init__(self, op: Ops, cotangents: Mapping[ir.Value, ir.Value], names: Mapping[ir.Value, str]) -> None:
        self._op = op
        self._names = names
        self._parts = {value: [seed] for value, seed in cotangents.items()}
        self._totals: dict[ir.Value, ir.Value] = {}
        self._taken = set(cotangents.values())

    def add(self, value: ir.Value, part: ir.Value) -> None:
        self._parts.setdefault(value, []).append(part)

    def total(self, value: ir.Value) -> ir.Value | None:
        """The sum of all parts, under its name if it is to have one; no part may be added afterwards."""
        if value not in self._totals and value in self._parts:
            result = reduce(self._op.Add, self._parts[value])
            if value in self._names:
                if result in self._taken:
                    result = self._op.Identity(result)
                result.name = self._names[value]
            if result.shape is None and value.shape is not None:
                result.shape = ir.Shape(value.shape)
            self._taken.add(result)
            self._totals[value] = result
        return self._totals.get(value)


def _through(
    op: Ops, node: ir.Node, rule: Rule, dys: Sequence[ir.Value | None], active: set[ir.Value]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The node's active inputs, each with its gradient."""
    if not rule.multiple and any(dy is not None for dy in dys[1:]):
        raise unsupported(node.outputs[0], "is not known through its further outputs")
    gradients = rule.apply(op, node, dys)
    for i, x in enumerate(node.inputs):
        if x is None or x not in active:
            continue
        dx = gradients[i] if i < len(gradients) else None
        if dx is None:
            raise unsupported(
                node.outputs[0],
                f"is not known with respect to its input {i} ({x.name!r}), which is computed from the model's input",
            )
        yield x, op.unbroadcast(dx, x, node.outputs[0]) if rule.broadcast else dx
