"""The vocabulary of gradients: ONNX Runtime's training operators as functions that travel in the file.

Where ONNX Runtime has a training operator of exactly the meaning needed, the gradient graph uses it under its own name
in ``com.microsoft``; a training build runs its native kernel on the same file. Stock ONNX Runtime has no kernel of that
name and inlines the function given here before it optimises the graph. Gradients that no training operator states
exactly live in the domain ``onnxviz``.

A body sees the shapes and attributes of its call, so it is written for them; equal bodies are stored once, different
ones as overloads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.tape import ARGUMENT, OPSET

MICROSOFT, PROJECT = "com.microsoft", "onnxviz"

Body = Callable[..., ir.Value | Sequence[ir.Value]]
BODIES: dict[str, tuple[str, Body]] = {}
"""Operator → (domain, body). Filled by :func:`training_op` in :mod:`onnxviz.gradient.bodies`."""


def training_op(name: str, *, domain: str = PROJECT) -> Callable[[Body], Body]:
    """Register the decorated function ``body(op, *inputs, **attributes)`` as the definition of an operator."""

    def register(body: Body) -> Body:
        BODIES[name] = (domain, body)
        return body

    return register


class TrainingOps:
    """The functions in use by one model (a :class:`~onnxviz.gradient.tape.Library`)."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._overloads: dict[tuple[str, bytes], str] = {}

    def __contains__(self, op_type: str) -> bool:
        return op_type in BODIES

    def require(self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]) -> tuple[str, str]:
        """Add the function for this call to the model unless an equal one is there; its domain and overload."""
        domain, body = BODIES[op_type]
        return domain, self.define(domain, op_type, body, inputs, attributes)

    def define(
        self, domain: str, op_type: str, body: Body, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]
    ) -> str:
        """Add a function with this body, written for these inputs and attributes; its overload."""
        function = self._build(domain, op_type, body, inputs, attributes)
        key = op_type, ir.to_proto(function).SerializeToString(deterministic=True)
        if key not in self._overloads:
            count = sum(known == op_type for known, _ in self._overloads)
            self._overloads[key] = str(count) if count else ""
            function.overload = self._overloads[key]
            self.model.functions[function.identifier()] = function
            self.model.graph.opset_imports.setdefault(domain, 1)
        return self._overloads[key]

    def _build(
        self, domain: str, op_type: str, body: Body, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]
    ) -> ir.Function:
        given = {name: value for name, value in attributes.items() if value is not None}
        names = [p.name for p in inspect.signature(body).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        arguments = [*inputs, *[None] * (len(names) - len(inputs))]
        formal = [_formal(name, argument) for name, argument in zip(names, arguments, strict=True)]
        graph = ir.Graph(formal, [], nodes=[], opset_imports={"": OPSET}, name=op_type)
        actual = [value if argument is not None else None for value, argument in zip(formal, arguments, strict=True)]
        returned = body(BodyOps(graph, self), *actual, **given)
        results = [returned] if isinstance(returned, ir.Value) else returned
        for i, result in enumerate(results):
            result.name = f"result_{i}" if i else "result"
        graph.outputs.extend(results)
        graph.opset_imports.update((node.domain, 1) for node in graph.all_nodes() if node.domain)
        for value in [*formal, *(y for node in graph.all_nodes() for y in node.outputs)]:
            value.shape = value.type = None  # only what the body depends on may tell functions apart
        declared = [ir.Attr(name, ir.convenience.convert_attribute(name, v).type, None) for name, v in given.items()]
        return ir.Function(domain, op_type, graph=graph, attributes=declared)


def _formal(name: str, argument: ir.Value | None) -> ir.Value:
    """A function's input with the shape and type of what it is called with; error messages name the latter."""
    if argument is None:
        return ir.Value(name=name)
    value = ir.Value(name=name, shape=argument.shape, type=argument.type)
    value.meta[ARGUMENT] = argument
    return value
