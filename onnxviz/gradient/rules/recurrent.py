"""Recurrent layers: each direction's gradient is one function, the products with the input's weights are outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.bodies.gate import ACTIVATIONS
from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, static_dims

_BACKWARDS = -(2**31)

Cotangents = Sequence[ir.Value | None]


@dataclass(frozen=True)
class _Direction:
    """Whether it goes from the last step to the first, and what its gradient's function is told."""

    backwards: bool
    attributes: dict[str, Any]


@vjp("RNN", multiple=True)
def rnn(
    op: Ops,
    dys: Cotangents,
    ys: Sequence[ir.Value],
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None = None,
    lengths: ir.Value | None = None,
    h0: ir.Value | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    layout: int = 0,
) -> Gradients:
    """h = f(W·x + R·h₋₁ + b), to which x, the initial state and the states before it are the inputs."""
    _refuse(ys[0], clip=clip, layout=layout)
    directions = _directions(ys[0], activations, ["Tanh"], direction, activation_alpha, activation_beta)
    dx, dh = _gradients(op, "RNNGrad", dys, ys[0], x, [h0], [w, r, b], lengths, directions)
    return dx, None, None, None, None, dh


@vjp("GRU", multiple=True)
def gru(
    op: Ops,
    dys: Cotangents,
    ys: Sequence[ir.Value],
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None = None,
    lengths: ir.Value | None = None,
    h0: ir.Value | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> Gradients:
    """h = (1 − u)·v + u·h₋₁ with gates u and s and a candidate v, into which h₋₁ goes by way of s."""
    _refuse(ys[0], clip=clip, layout=layout)
    directions = _directions(ys[0], activations, ["Sigmoid", "Tanh"], direction, activation_alpha, activation_beta)
    for each in directions:
        each.attributes.update(hidden_size=static_dims(r)[2], linear_before_reset=linear_before_reset)
    dx, dh = _gradients(op, "GRUGrad", dys, ys[0], x, [h0], [w, r, b], lengths, directions)
    return dx, None, None, None, None, dh


@vjp("LSTM", multiple=True)
def lstm(
    op: Ops,
    dys: Cotangents,
    ys: Sequence[ir.Value],
    x: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None = None,
    lengths: ir.Value | None = None,
    h0: ir.Value | None = None,
    c0: ir.Value | None = None,
    peepholes: ir.Value | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    layout: int = 0,
    input_forget: int = 0,
) -> Gradients:
    """c = q·c₋₁ + i·v and h = o·k(c) with gates i, o, q and a candidate v."""
    _refuse(ys[0], clip=clip, layout=layout, input_forget=input_forget)
    defaults = ["Sigmoid", "Tanh", "Tanh"]
    directions = _directions(ys[0], activations, defaults, direction, activation_alpha, activation_beta)
    dx, dh, dc = _gradients(op, "LSTMGrad", dys, ys[0], x, [h0, c0], [w, r, b], lengths, directions, peepholes)
    return dx, None, None, None, None, dh, dc


def _refuse(y: ir.Value, *, clip: float | None, layout: int, input_forget: int = 0) -> None:
    """What no current exporter writes; onnxruntime's CPU kernels have no layout=1 either."""
    for name, value in {"clip": clip, "layout": layout, "input_forget": input_forget}.items():
        if value:
            raise unsupported(y, f"does not support {name}={value!r} (supported: without it)")


def _directions(
    y: ir.Value,
    activations: list[str] | None,
    defaults: list[str],
    direction: str,
    alphas: Sequence[float],
    betas: Sequence[float],
) -> list[_Direction]:
    """Of each direction its activations; those that take α or β take the next one given, or the default."""
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    names = activations or defaults * len(turns)
    if unknown := [name for name in names if name not in ACTIVATIONS]:
        raise unsupported(y, f"does not support the activation {unknown[0]!r} (supported: {', '.join(ACTIVATIONS)})")
    sources = iter(alphas), iter(betas)
    parameters = [[_parameter(*each) for each in zip(ACTIVATIONS[name], sources, strict=True)] for name in names]
    functions = [(name, alpha, beta) for name, (alpha, beta) in zip(names, parameters, strict=True)]
    if negative := [f for f in functions if f[0] in {"LeakyRelu", "Elu"} and f[1] < 0]:
        raise unsupported(y, f"does not support {negative[0][0]} with the negative alpha {negative[0][1]:g}")
    n = len(defaults)
    told = [functions[k : k + n] for k in range(0, len(functions), n)]
    return [
        _Direction(backwards, {"names": [f[0] for f in fs], "alphas": [f[1] for f in fs], "betas": [f[2] for f in fs]})
        for backwards, fs in zip(turns, told, strict=True)
    ]


def _parameter(default: float | None, given: Iterator[float]) -> float:
    """The next one that is given, else the default; 0 for an activation that takes none."""
    return 0.0 if default is None else next(given, default)


def _gradients(
    op: Ops,
    function: str,
    dys: Cotangents,
    y: ir.Value,
    x: ir.Value,
    initial: Cotangents,
    weights: Cotangents,
    lengths: ir.Value | None,
    directions: list[_Direction],
    peepholes: ir.Value | None = None,
) -> list[ir.Value]:
    """The gradients of x and of the initial states, of which there are one (h) or two (h and c)."""
    states = len(initial)
    dy, finals = dys[0], [*dys[1:], *[None] * (states + 1 - len(dys))]
    found: list[list[ir.Value]] = []
    for k, each in enumerate(directions):
        part, turned = _part(op, k, len(directions)), _turned(op, lengths, backwards=each.backwards)
        h = part(op.computed(y), 1)
        zero = op.Expand(op.number(0.0, x), op.Shape(h, start=1))
        last = [zero if v is None else part(v, 0) for v in finals]
        first = [zero if v is None else part(v, 0) for v in initial]
        given = [None if v is None else part(v, 0) for v in weights]
        *starts, dz = op.several(
            function,
            states + 1,
            op.Expand(zero, op.Shape(h)) if dy is None else turned(part(dy, 1)),
            *last,
            turned(x),
            turned(h),
            *first,
            *given,
            lengths,
            *([] if peepholes is None else [part(peepholes, 0)]),
            **each.attributes,
        )
        found.append([turned(op.MatMul(dz, given[0])), *(op.Unsqueeze(start, [0]) for start in starts)])
    parts = list(zip(*found, strict=True))
    initials = [op.Concat(*each, axis=0) if len(each) > 1 else each[0] for each in parts[1:]]
    return [reduce(op.Add, parts[0]), *initials]


def _part(op: Ops, k: int, of: int) -> Callable[[ir.Value, int], ir.Value]:
    """What belongs to direction k, cut out of a value's axis of directions."""
    return lambda v, axis: op.Squeeze(v, [axis]) if of == 1 else op.Gather(v, op.constant(np.array(k)), axis=axis)


def _turned(op: Ops, lengths: ir.Value | None, *, backwards: bool) -> Callable[[ir.Value], ir.Value]:
    """From a direction's first step to its last; each sample's own steps where they have lengths."""
    if not backwards:
        return lambda v: v
    if lengths is None:
        return lambda v: op.Slice(v, [-1], [_BACKWARDS], [0], [-1])
    sizes = op.Cast(lengths, to=ir.DataType.INT64)
    return lambda v: op.ReverseSequence(v, sizes, time_axis=0, batch_axis=1)
