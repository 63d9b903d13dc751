"""Gradients of recurrent layers, one direction at a time, from the first step to the last.

The forward pass has given out every hidden state h, so the pre-activations of all steps are known at once and only
what is a recurrence is one: LSTM's cell states, and the way back. That is linear in d = dy + dh, what h gets from above
and from the step after it (LSTM's cell state gets dc likewise), with factors that the forward pass determines. They are
computed for all steps together, so that a step is a few products.

Equations and the order of gates are those of ONNX's LSTM, GRU and RNN. With T steps, batch N and H hidden units in G
gates the arguments are dy (T, N, H), the gradients dh (and dc) of the final states (N, H), x (T, N, I), y (T, N, H),
initial states (N, H), w (G·H, I), r (G·H, H), b (2·G·H,) and the lengths of the samples (N,). Returned are the
gradients of the initial states and dz (T, N, G·H), that of W·x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.bodies.gate import Activation
from onnxviz.gradient.body import BodyOps, Step, Stepped
from onnxviz.gradient.training_ops import training_op


def _activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    return [Activation(*each) for each in zip(names, alphas, betas, strict=True)]


@training_op("RNNGrad")
def rnn_grad(
    op: BodyOps,
    dy: ir.Value,
    dh: ir.Value,
    x: ir.Value,  # noqa: ARG001 - called as the others are, which need it
    y: ir.Value,
    h0: ir.Value,  # noqa: ARG001
    w: ir.Value,  # noqa: ARG001
    r: ir.Value,
    b: ir.Value | None = None,  # noqa: ARG001
    lengths: ir.Value | None = None,
    *,
    names: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> Sequence[ir.Value]:
    """h = f(W·x + R·h₋₁ + b): dz = f′·d, dh₋₁ = Rᵀ·dz."""
    (f,) = _activations(names, alphas, betas)

    def step(op: BodyOps, dh: ir.Value, dy: ir.Value, slope: ir.Value) -> Stepped:
        dz = op.Mul(op.Add(dy, dh), slope)
        return [op.MatMul(dz, r)], [dz]

    return _walk_back(op, step, [dh], [dy, f.slope(op, y)], lengths)


@training_op("GRUGrad")
def gru_grad(
    op: BodyOps,
    dy: ir.Value,
    dh: ir.Value,
    x: ir.Value,
    y: ir.Value,
    h0: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None = None,
    lengths: ir.Value | None = None,
    *,
    names: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
    hidden_size: int,
    linear_before_reset: int,
) -> Sequence[ir.Value]:
    """h = (1 − u)·v + u·h₋₁ with the gates u, s = f(W·x + R·h₋₁ + b) and the candidate v = g(W·x + R·(s·h₋₁) + b), or
    g(W·x + s·(R·h₋₁ + b)) where the product comes before the reset by s:
    dz = (u′·(h₋₁ − v)·d, s′·ds, dv) with dv = g′·(1 − u)·d; dh₋₁ = u·d + Rᵀ·dz, where dv reaches R through s.
    """
    f, g = _activations(names, alphas, betas)
    parts = [2 * hidden_size, hidden_size]  # of the weights: those of the gates, those of the candidate
    before = _before(op, h0, y)
    u, s, v, reset = _gru_gates(op, f, g, x, before, w, r, b, parts, linear_before_reset)
    factors = [
        op.Mul(op.Sub(before, v), f.slope(op, u)),
        op.Mul(reset, f.slope(op, s)),
        op.Mul(op.Sub(op.number(1.0, dy), u), g.slope(op, v)),
    ]
    to_gates, to_candidate = op.several("Split", 2, r, parts, axis=0)
    step = _gru_step(to_gates, to_candidate, linear_before_reset)
    return _walk_back(op, step, [dh], [dy, u, s, *factors], lengths)


def _gru_step(to_gates: ir.Value, to_candidate: ir.Value, linear_before_reset: int) -> Step:
    """One step of GRU's way back, of d = dy + dh and the factors of all that it goes through."""

    def step(op: BodyOps, dh: ir.Value, *elements: ir.Value) -> Stepped:
        dy, u, s, du, ds, dv = elements
        d = op.Add(dy, dh)
        dz_v = op.Mul(d, dv)
        if linear_before_reset:
            past, dz_s = op.MatMul(op.Mul(dz_v, s), to_candidate), op.Mul(dz_v, ds)
        else:
            product = op.MatMul(dz_v, to_candidate)
            past, dz_s = op.Mul(product, s), op.Mul(product, ds)
        gates = op.Concat(op.Mul(d, du), dz_s, axis=-1)
        dh = op.Add(op.Add(op.Mul(d, u), past), op.MatMul(gates, to_gates))
        return [dh], [op.Concat(gates, dz_v, axis=-1)]

    return step


def _gru_gates(
    op: BodyOps,
    f: Activation,
    g: Activation,
    x: ir.Value,
    before: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None,
    parts: list[int],
    linear_before_reset: int,
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """The gates u and s and the candidate v of all steps, and what s multiplies."""
    to_gates, to_candidate = op.several("Split", 2, r, parts, axis=0)
    from_x, past = _biases(op, b)
    of_gates, of_candidate = op.several("Split", 2, past, parts, axis=0) if past is not None else (None, None)
    z, z_v = op.several("Split", 2, _affine(op, x, w, from_x), parts, axis=-1)
    z = op.Add(z, _affine(op, before, to_gates, of_gates))
    u, s = op.several("Split", 2, f(op, z), axis=-1, num_outputs=2)
    if linear_before_reset:
        reset = _affine(op, before, to_candidate, of_candidate)
        z_v = op.Add(z_v, op.Mul(s, reset))
    else:
        reset = before
        z_v = op.Add(z_v, _affine(op, op.Mul(s, before), to_candidate, of_candidate))
    return u, s, g(op, z_v), reset


@training_op("LSTMGrad")
def lstm_grad(
    op: BodyOps,
    dy: ir.Value,
    dh: ir.Value,
    dc: ir.Value,
    x: ir.Value,
    y: ir.Value,
    h0: ir.Value,
    c0: ir.Value,
    w: ir.Value,
    r: ir.Value,
    b: ir.Value | None = None,
    lengths: ir.Value | None = None,
    peepholes: ir.Value | None = None,
    *,
    names: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> Sequence[ir.Value]:
    """c = q·c₋₁ + i·v and h = o·k(c) with gates i, o, q = f(W·x + R·h₋₁ + b) and v = g(…), peepholes adding p·c₋₁ to
    what i and q are computed from and p·c to what o is:
    dc gets (o·k′ + p·k·o′)·d; dz = (v·i′·dc, k·o′·d, c₋₁·q′·dc, i·g′·dc); dc₋₁ = (q + p·v·i′ + p·c₋₁·q′)·dc,
    dh₋₁ = Rᵀ·dz.
    """
    functions = _activations(names, alphas, betas)
    p = [None] * 3 if peepholes is None else op.several("Split", 3, peepholes, num_outputs=3)
    from_x, from_h = _biases(op, b)
    z = op.Add(_affine(op, x, w, from_x), _affine(op, _before(op, h0, y), r, from_h))
    to_cell, kept, factors = _lstm_factors(op, functions, op.several("Split", 4, z, axis=-1, num_outputs=4), c0, p)

    def step(op: BodyOps, dh: ir.Value, dc: ir.Value, *elements: ir.Value) -> Stepped:
        dy, to_cell, kept, factors = elements
        d = op.Add(dy, dh)
        dc = op.Add(dc, op.Mul(d, to_cell))
        dz = op.Mul(op.Concat(dc, d, dc, dc, axis=-1), factors)
        return [op.MatMul(dz, r), op.Mul(dc, kept)], [dz]

    return _walk_back(op, step, [dh, dc], [dy, to_cell, kept, factors], lengths)


def _lstm_factors(
    op: BodyOps, functions: list[Activation], z: list[ir.Value], c0: ir.Value, p: Sequence[ir.Value | None]
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """What d is multiplied with on its way to dc, dc on its way to dc₋₁, and (dc, d, dc, dc) on their way to dz."""
    f, g, k = functions
    v = g(op, z[3])
    c = _cells(op, f, [z[0], z[2], v], c0, p)
    before = _before(op, c0, c)
    i, o, q = (f(op, _peep(op, *each)) for each in zip(z, p, [before, c, before], strict=False))
    out = k(op, c)
    di, do = op.Mul(v, f.slope(op, i)), op.Mul(out, f.slope(op, o))
    dq, dv = op.Mul(before, f.slope(op, q)), op.Mul(i, g.slope(op, v))
    to_cell = _peep(op, op.Mul(o, k.slope(op, out)), p[1], do)
    kept = _peep(op, _peep(op, q, p[0], di), p[2], dq)
    return to_cell, kept, op.Concat(di, do, dq, dv, axis=-1)


def _cells(
    op: BodyOps, f: Activation, sequences: list[ir.Value], c0: ir.Value, peepholes: Sequence[ir.Value | None]
) -> ir.Value:
    """LSTM's cell states after each step, which it does not give out: c = q·c₋₁ + i·v."""

    def step(op: BodyOps, c: ir.Value, z_i: ir.Value, z_q: ir.Value, v: ir.Value) -> Stepped:
        i, q = f(op, _peep(op, z_i, peepholes[0], c)), f(op, _peep(op, z_q, peepholes[2], c))
        c = op.Add(op.Mul(q, c), op.Mul(i, v))
        return [c], [c]

    return op.scan(step, [c0], sequences)[1]


def _peep(op: BodyOps, z: ir.Value, peephole: ir.Value | None, c: ir.Value) -> ir.Value:
    """z + p·c, or z where there is no peephole."""
    return z if peephole is None else op.Add(z, op.Mul(peephole, c))


# ----- what the three have in common -----


def _biases(op: BodyOps, b: ir.Value | None) -> Sequence[ir.Value | None]:
    """What is added to W·x and to R·h₋₁."""
    return op.several("Split", 2, b, axis=0, num_outputs=2) if b is not None else (None, None)


def _affine(op: BodyOps, v: ir.Value, weights: ir.Value, bias: ir.Value | None) -> ir.Value:
    """weights·v + bias of all steps and samples; Gemm reads the weights transposed instead of copying them."""
    product = op.Gemm(op.Flatten(v, axis=2), weights, bias, transB=1)
    return op.Reshape(product, op.Concat(op.Shape(v, end=2), op.constant(np.array([-1], np.int64)), axis=0))


def _before(op: BodyOps, first: ir.Value, states: ir.Value) -> ir.Value:
    """The state before each step, of those after each step."""
    return op.Concat(op.Unsqueeze(first, [0]), op.Slice(states, [0], [-1], [0]), axis=0)


def _walk_back(
    op: BodyOps, step: Step, states: list[ir.Value], sequences: list[ir.Value], lengths: ir.Value | None
) -> list[ir.Value]:
    """From the last step to the first. Behind a sample's end nothing happens: states stay, and dz is 0."""
    if lengths is None:
        return op.scan(step, states, sequences, backwards=True)
    steps = op.Squeeze(op.Shape(sequences[0], end=1))
    numbers = op.Range(op.constant(np.array(0, np.int64)), steps, op.constant(np.array(1, np.int64)))
    inside = op.Less(op.Unsqueeze(numbers, [1]), op.Cast(lengths, to=ir.DataType.INT64))

    def guarded(op: BodyOps, *values: ir.Value) -> Stepped:
        after, (dz,) = step(op, *values[:-1])
        kept = [op.Where(values[-1], new, old) for new, old in zip(after, values, strict=False)]
        return kept, [op.Where(values[-1], dz, op.number(0.0, dz))]

    return op.scan(guarded, states, [*sequences, op.Unsqueeze(inside, [-1])], backwards=True)
