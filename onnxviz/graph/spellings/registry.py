"""The table of spellings: activations as exporters write them with several nodes.

A spelling is a function ``write(op, x, *, <numbers>)``: both the pattern that is looked for and the body of the call
that takes its place. Numbers that it names stand for any number in that place (a slope, a bound); the call has them as
attributes, so the rule of the activation takes them as any rule takes its attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from onnxviz.gradient.tape import Ops

Number = float | ir.Value
"""A number, or in a pattern the place where any number may stand."""
Write = Callable[..., ir.Value]

NEGATED = "onnxviz.negated"
"""Key in the ``meta`` of a place: the place whose number stands here with the other sign."""


@dataclass(frozen=True)
class Spelling:
    """One way of writing an activation.

    Attributes:
        activation: its name in the domain ``onnxviz``.
        write: appends the nodes.
        numbers: the names of those that the spelling leaves open.
        allowed: whether these numbers make it that activation.
    """

    activation: str
    write: Write
    numbers: tuple[str, ...]
    allowed: Callable[..., bool]


SPELLINGS: list[Spelling] = []


def spelling(activation: str, *, allowed: Callable[..., bool] = lambda **_: True) -> Callable[[Write], Write]:
    """Register the decorated function as a way of writing an activation; see :class:`Spelling`."""

    def register(function: Write) -> Write:
        parameters = inspect.signature(function).parameters.values()
        numbers = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        SPELLINGS.append(Spelling(activation, function, numbers, allowed))
        return function

    return register


def number(op: Ops, value: Number, like: ir.Value) -> ir.Value:
    """The number in the type of ``like``, for operators whose first input has another type."""
    return value if isinstance(value, ir.Value) else op.number(value, like)


def negative(value: Number) -> Number:
    """The number with the other sign."""
    if not isinstance(value, ir.Value):
        return -value
    place = ir.Value(name=f"minus {value.name}", type=value.type)
    place.meta[NEGATED] = value
    return place
