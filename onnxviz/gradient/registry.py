"""The table of gradient rules: one small function per operator.

A rule's signature is the operator's: ``rule(op, dy, y, *inputs, **attributes)`` returns one gradient per input, in
order; ``None``, or a tuple that ends early, where an input has none (weights, indices). Attributes that the signature
does not name are refused, so the signature is the support table. A rule returns gradients for all its inputs without
asking who needs them: nodes that nothing reads are removed afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from onnxviz.errors import UnsupportedOperatorError
from onnxviz.gradient.tape import Ops

Gradients = Sequence[ir.Value | None] | ir.Value | None


@dataclass(frozen=True)
class Rule:
    """A rule and what the backward pass must know about it.

    Attributes:
        function: ``rule(op, dy, y, *inputs, **attributes)``.
        attributes: the attribute names that it supports.
        broadcast: its gradients have the shape of y; the backward pass sums them to each input's shape.
        multiple: dy and y are tuples over all outputs of the node (None where an output has no cotangent).
    """

    function: Callable[..., Gradients]
    attributes: frozenset[str]
    broadcast: bool
    multiple: bool

    def apply(self, op: Ops, node: ir.Node, cotangents: Sequence[ir.Value | None]) -> Sequence[ir.Value | None]:
        """The gradients of the node's inputs; raises UnsupportedOperatorError for what the signature does not name."""
        attributes = {name: attribute_value(attr) for name, attr in node.attributes.items()}
        if unknown := sorted(attributes.keys() - self.attributes):
            raise unsupported(
                node.outputs[0],
                f"does not support its attribute {unknown[0]}={attributes[unknown[0]]!r} "
                f"(supported: {', '.join(sorted(self.attributes)) or 'none'})",
            )
        dy: Any = tuple(cotangents) if self.multiple else cotangents[0]
        y: Any = tuple(node.outputs) if self.multiple else node.outputs[0]
        gradients = self.function(op, dy, y, *node.inputs, **attributes)
        return [gradients] if gradients is None or isinstance(gradients, ir.Value) else list(gradients)


VJPS: dict[tuple[str, str], Rule] = {}
"""(domain, operator) → rule. Filled by the modules of :mod:`onnxviz.gradient.rules`."""

NO_GRADIENT: set[tuple[str, str]] = set()
"""Operators whose derivative is zero wherever it exists, or whose result is not a float."""

QUANTISERS: set[tuple[str, str]] = set()
"""Operators whose integer results stand for floats, so that gradients go on through them."""


def vjp(
    *op_types: str, domain: str = "", broadcast: bool = False, multiple: bool = False
) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Register the decorated function as the rule of these operators."""

    def register(function: Callable[..., Gradients]) -> Callable[..., Gradients]:
        parameters = inspect.signature(function).parameters.values()
        attributes = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        for op_type in op_types:
            VJPS[domain, op_type] = Rule(function, attributes, broadcast, multiple)
        return function

    return register


def no_gradient(*op_types: str, domain: str = "") -> None:
    """Declare operators through which nothing flows back."""
    NO_GRADIENT.update((domain, op_type) for op_type in op_types)


def quantiser(*op_types: str, domain: str = "") -> None:
    """Declare operators whose integer results stand for the floats that they were made of."""
    QUANTISERS.update((domain, op_type) for op_type in op_types)


def attribute_value(attr: ir.Attr) -> Any:
    """An attribute as a Python value: numbers, strings, lists, numpy arrays."""
    value = attr.value
    if isinstance(value, ir.TensorProtocol):
        return value.numpy()
    return list(value) if isinstance(value, (tuple, list)) else value


def describe(node: ir.Node) -> str:
    """``Conv 'node_conv1' (→ 'features.0')``: how error messages name a node."""
    domain = f"{node.domain}::" if node.domain else ""
    return f"{domain}{node.op_type} {node.name!r} (output {node.outputs[0].name!r})"


def unsupported(y: ir.Value, why: str) -> UnsupportedOperatorError:
    """The refusal of a rule for the node that computes ``y``; ``why`` continues "the gradient of <node> …"."""
    node = y.producer()
    assert node is not None
    return UnsupportedOperatorError(f"the gradient of {describe(node)} {why}")
