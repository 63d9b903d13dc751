"""Fourier transforms. They are linear, and F is symmetric: its adjoint is the conjugate, n times the inverse transform.

A last axis of size 2 holds real and imaginary parts, one of size 1 real numbers, whose gradient is the real part.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, constant_ints, dims, static_dims


@vjp("DFT")
def dft(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    length: ir.Value | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Gradients:
    """y = F·x, or F⁻¹·x, of x cut or filled with zeros to the length of the transform."""
    axis %= len(dims(x))
    size = static_dims(x, axis)[0]
    if inverse and onesided:
        return _onesided_adjoint(op, dy, y, size, axis)
    n = size if length is None else _constant(y, "dft_length", length)
    dx = _adjoint(op, dy, y, n, axis, inverse=inverse)
    if dims(x)[-1] == 1:
        dx = op.Slice(dx, [0], [1], [-1])
    return op.margins(dx, len(dims(x)), {axis: (0, size - n)}) if n != size else dx


@vjp("STFT")
def stft(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    step: ir.Value,
    window: ir.Value | None = None,
    length: ir.Value | None = None,
    *,
    onesided: int = 1,
) -> Gradients:
    """y are the transforms of x·window in frames, which lie ``step`` apart: dx adds up what the frames send back."""
    hop = _constant(y, "frame_step", step)
    n = _constant(y, "frame_length", length) if length is not None else static_dims(window)[0] if window else 0
    frames = static_dims(y, 1)[0]
    dx = _adjoint(op, dy, y, n, 2, inverse=0)
    if len(dims(x)) < 3 or dims(x)[-1] == 1:
        dx = op.Slice(dx, [0], [1], [-1])
    if window is not None:
        dx = op.Mul(dx, op.Reshape(window, [-1, 1]))
    taken = np.arange(frames)[:, None] * hop + np.arange(n)
    return op.scatter_back(dx, op.Gather(op.positions(x), op.constant(taken.astype(np.int64)), axis=1), x)


def _onesided_adjoint(op: Ops, dy: ir.Value, y: ir.Value, bins: int, axis: int) -> ir.Value:
    """The adjoint of what makes n real numbers of the first bins of their spectrum. Most bins stand for two: the others
    are their conjugates.
    """
    n = static_dims(y, axis)[0]
    if bins != n // 2 + 1:
        raise unsupported(
            y,
            f"supports inverse=1 with onesided=1 for n // 2 + 1 bins, not {bins} for n = {n}: onnxruntime does not cut "
            "or fill these as the specification asks",
        )
    twice = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == n), 1.0, 2.0) / n
    weights = op.constant(twice.reshape(bins, *[1] * (len(dims(dy)) - axis - 1)).astype(np.float32))
    return op.Mul(op.DFT(dy, axis=axis, onesided=1), op.cast_like(weights, dy))


def _adjoint(op: Ops, dy: ir.Value, y: ir.Value, n: int, axis: int, *, inverse: int) -> ir.Value:
    """The adjoint of the transform of length n, of which only the first bins may have been kept."""
    bins = static_dims(y, axis)[0]
    if bins < n:
        dy = op.margins(dy, len(dims(y)), {axis: (0, n - bins)})
    return op.Mul(op.DFT(dy, axis=axis, inverse=1 - inverse), 1.0 / n if inverse else float(n))


def _constant(y: ir.Value, name: str, value: ir.Value) -> int:
    given = constant_ints(value)
    if given is None:
        raise unsupported(y, f"needs a constant {name}, but {value.name!r} is computed when the model runs")
    return given[0]
