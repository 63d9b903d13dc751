"""Gradients of convolutions: the transposed convolution, in the form that runs fastest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.tape import fixed, static_dims
from onnxviz.gradient.training_ops import MICROSOFT, training_op

_BACKWARDS = -(2**31)


@training_op("ConvGrad", domain=MICROSOFT)
def conv_grad(
    op: BodyOps,
    dy: ir.Value,
    x: ir.Value,
    w: ir.Value,
    *,
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    group: int,
    kernel_shape: list[int],
) -> ir.Value:
    """dx is dy through the transposed convolution: for stride 1 a Conv with the kernel flipped, else ConvTranspose."""
    reach = [d * (k - 1) for k, d in zip(kernel_shape, dilations, strict=True)]
    flipped_pads = [r - p for r, p in zip(reach * 2, pads, strict=True)]
    if all(s == 1 for s in strides) and min(flipped_pads) >= 0:
        return op.Conv(dy, _flipped(op, w, group), pads=flipped_pads, dilations=dilations, group=group)
    return transposed_convolution(
        op, dy, w, x, windows_of=dy, reach=reach, strides=strides, pads=pads, dilations=dilations, group=group
    )


def transposed_convolution(
    op: BodyOps,
    dy: ir.Value,
    w: ir.Value,
    x: ir.Value,
    *,
    windows_of: ir.Value,
    reach: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> ir.Value:
    """What a convolution of x has for its transpose, applied to dy.

    Windows stop ``rest`` pixels before the padded end of x; those pixels get nothing. Where sizes are open, as many are
    added as it can be at most, and what is too much is cut off. CUDA has no ConvTranspose with asymmetric pads, so only
    the smaller pad is given to it and what the larger one has in excess is cut off too.
    ``windows_of`` has the spatial sizes of dy; ``reach`` is the way from a window's first pixel to its last.
    """
    n = len(reach)
    begin, end = pads[:n], pads[n:]
    small = [min(b, e) for b, e in zip(begin, end, strict=True)]
    known = fixed(x, 2) and fixed(windows_of, 2)
    rest = _unseen(static_dims(x, 2), static_dims(windows_of, 2), reach, strides, pads) if known else None
    dx = op.ConvTranspose(
        dy,
        w,
        strides=strides,
        pads=small * 2,
        dilations=dilations,
        group=group,
        output_padding=[s - 1 for s in strides] if rest is None else rest,
    )
    if list(begin) == list(end) and (known or max(strides) == 1):
        return dx
    starts = [b - m for b, m in zip(begin, small, strict=True)]
    if fixed(x, 2):
        stops: ir.Value | list[int] = [start + size for start, size in zip(starts, static_dims(x, 2), strict=True)]
    else:
        stops = op.Add(op.Shape(x, start=2), op.constant(np.array(starts, np.int64)))
    return op.Slice(dx, starts, stops, list(range(2, n + 2)))


def _unseen(
    sizes: Sequence[int], windows: Sequence[int], reach: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[int]:
    """How many pixels before the padded end of x its windows stop, along each axis."""
    axes = zip(sizes, windows, reach, strides, pads[: len(sizes)], pads[len(sizes) :], strict=True)
    return [size + begin + end - ((o - 1) * s + r + 1) for size, o, r, s, begin, end in axes]


def _flipped(op: BodyOps, w: ir.Value, group: int) -> ir.Value:
    """(M, C/g, *k) → (C, M/g, *k) with the kernel reversed: the weights of the transposed convolution as a Conv's."""
    out, per_group, *kernel = static_dims(w)
    axes = [i + 2 for i, k in enumerate(kernel) if k > 1]
    if axes:
        w = op.Slice(w, [-1] * len(axes), [_BACKWARDS] * len(axes), axes, [-1] * len(axes))
    swap = [1, 0, *range(2, len(kernel) + 2)]
    if group == 1:
        return op.Transpose(w, perm=swap)
    split = op.Reshape(w, [group, out // group, per_group, *kernel])
    swapped = op.Transpose(split, perm=[0, *(i + 1 for i in swap)])
    return op.Reshape(swapped, [group * per_group, out // group, *kernel])
