"""Seeds and the backward pass, appended to the forward graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import onnx_ir as ir

from onnxviz.errors import ConversionError, UnsupportedOperatorError
from onnxviz.explainable.heads import Head, seeds_of, shape_of_gradient
from onnxviz.explainable.reasons import after, missing_message, why_none
from onnxviz.gradient import backward as differentiate
from onnxviz.gradient.refusals import refusals, withdraw
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import TrainingOps
from onnxviz.manifest import grad_name

GradientChoice = bool | Literal["available"]


def append_gradient(
    model: ir.Model,
    heads: list[Head],
    layers: list[ir.Value],
    gradient: GradientChoice,
    refused: Mapping[ir.Node, str] = MappingProxyType({}),
) -> tuple[set[str], dict[str, str]]:
    """Append seeds and the backward pass; the names that have a gradient, and why others have none.

    ``refused`` are the nodes that their rules turned out to refuse, and why: they count as nodes without a rule.
    """
    graph = model.graph
    forward = list(graph)
    wrt = [v for v in [*graph.inputs, *layers] if v.dtype in differentiate.FLOATS]
    active = differentiate.downstream(wrt, forward)
    starts = list(dict.fromkeys(h.logits for h in heads if h.logits in active))
    needed = differentiate.upstream(starts, forward)
    missing = differentiate.missing_rules([n for n in forward if n in needed], active)
    blocked = dict.fromkeys(missing, "") | dict(refused)
    if blocked and gradient is not True:
        wrt = after(blocked, forward, wrt)
        active = differentiate.downstream(wrt, forward)
    elif blocked:
        raise UnsupportedOperatorError(missing_message(blocked, forward, layers, starts))
    starts = [s for s in starts if s in active]
    if not starts:
        raise ConversionError(
            "no output is a float that depends on an input through differentiable operators: there is nothing to take "
            "the gradient of. Convert with gradient=False to have the layers' values alone"
        )
    op = Ops(graph, TrainingOps(model), prefix="backward/")
    seeds = seeds_of(op, heads, starts)
    names = {v: grad_name(v.name or "") for v in wrt}
    needed = differentiate.upstream(starts, forward)
    nodes = [n for n in forward if n in needed]
    try:
        totals = differentiate.backward(op, nodes, seeds, wrt, names)
    except UnsupportedOperatorError:
        if not (found := refusals(nodes, active)):
            raise
        _withdraw(graph, forward)
        return append_gradient(model, heads, layers, gradient, {**refused, **found})
    _declare(graph, totals, [*graph.inputs, *layers])
    return {v.name or "" for v in totals}, why_none(layers, totals, forward, heads, blocked)


def _declare(graph: ir.Graph, totals: dict[ir.Value, ir.Value], values: list[ir.Value]) -> None:
    """Make the gradients of the values outputs of the graph."""
    for value in values:
        if value in totals and totals[value] not in graph.outputs:
            total = totals[value]
            total.shape, total.type = shape_of_gradient(value), value.type
            graph.outputs.append(total)


def _withdraw(graph: ir.Graph, forward: list[ir.Node]) -> None:
    """Take back the seeds and the backward pass."""
    withdraw(graph, forward)
    for name in [name for name in graph.initializers if name.startswith(("seed/", "backward/"))]:
        value = graph.initializers.pop(name)
        if value.is_graph_input():
            graph.inputs.remove(value)
