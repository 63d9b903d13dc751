"""Why something has no gradient: said where a conversion is refused, and in the layer table where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from onnxviz.explainable.heads import Head
from onnxviz.gradient import backward as differentiate
from onnxviz.gradient.registry import describe
from onnxviz.gradient.ruleless import why_no_rule


def after(blocked: Iterable[ir.Node], forward: list[ir.Node], wrt: list[ir.Value]) -> list[ir.Value]:
    """Those of ``wrt`` from which no blocked node is reached."""
    behind = _read_for([y for b in blocked for y in b.outputs], forward)
    return [v for v in wrt if v not in behind]


def _read_for(values: list[ir.Value], forward: list[ir.Node]) -> set[ir.Value]:
    """All that is read on the way to ``values``, also by the bodies of control flow."""
    return {x for node in differentiate.upstream(values, forward) for x in differentiate.operands(node)}


def missing_message(
    blocked: Mapping[ir.Node, str], forward: list[ir.Node], layers: list[ir.Value], starts: list[ir.Value]
) -> str:
    """Which operators block the way from ``starts``, and what can be done."""
    listed = ", ".join(
        f"{describe(node)}{_on_the_way_to(node, forward, layers)}{f' (its gradient {refused})' if refused else ''}"
        for node, refused in list(blocked.items())[:5]
    )
    more = f" and {len(blocked) - 5} more" if len(blocked) > 5 else ""
    usable = {*starts, *(x for node in differentiate.upstream(starts, forward) for x in node.inputs)}
    explainable = [v.name for v in after(blocked, forward, layers) if v in usable and v.dtype in differentiate.FLOATS]
    ways = "convert with gradient=False to have the layers' values alone"
    if explainable:
        shown = ", ".join(repr(n) for n in explainable[-5:])
        ways += (
            f", or with gradient='available' for the {len(explainable)} layers behind it, which still can be explained "
            f"(the last: {shown})"
        )
    why = "".join(f" {each}" for each in dict.fromkeys(filter(None, map(why_no_rule, blocked))))
    return f"no gradient rule for {listed}{more}.{why} Way out: {ways}"


def _on_the_way_to(node: ir.Node, forward: list[ir.Node], layers: list[ir.Value]) -> str:
    """The first layer that the node is computed for."""
    for layer in layers:
        if node in differentiate.upstream([layer], forward):
            return f" in layer {layer.name!r}" if layer in node.outputs else f" before layer {layer.name!r}"
    return ""


def why_none(
    layers: list[ir.Value],
    totals: dict[ir.Value, ir.Value],
    forward: list[ir.Node],
    heads: list[Head],
    blocked: Mapping[ir.Node, str],
) -> dict[str, str]:
    """Layer's value → why it has no gradient."""
    used = _read_for([h.value for h in heads], forward) | {h.value for h in heads}
    before = {node: _read_for(list(node.outputs), forward) for node in blocked}
    reasons = {}
    for value in layers:
        if value in totals:
            continue
        if value.dtype not in differentiate.FLOATS:
            why = "its values are not floats"
        elif first := next((node for node in forward if value in before.get(node, ())), None):
            refused = f"whose gradient {blocked[first]}" if blocked[first] else "which has no gradient rule"
            why = f"it lies before {first.op_type}, {refused}"
        elif value not in used:
            why = "no output depends on it"
        elif any(h.activation for h in heads):
            why = "it lies after the logits, at which the gradient starts"
        else:
            why = "the output depends on it only through operators without a gradient"
        reasons[value.name or ""] = why
    return reasons
