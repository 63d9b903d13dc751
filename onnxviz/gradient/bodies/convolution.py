"""Gradients of convolutions: the transposed convolution, in the form that runs fastest."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.tape import static_dims
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
        op,
        dy,
        w,
        sizes=static_dims(x, 2),
        windows=static_dims(dy, 2),
        reach=reach,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
    )


def transposed_convolution(
    op: BodyOps,
    dy: ir.Value,
    w: ir.Value,
    *,
    sizes: Sequence[int],
    windows: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> ir.Value:
    """What a convolution from ``sizes`` to ``windows`` pixels has for its transpose, applied to dy.

    Windows stop ``rest`` pixels before the padded end of x; those pixels get nothing. CUDA has no ConvTranspose with
    asymmetric pads, so only the smaller pad is given to it and what the larger one has in excess is cut off.
    """
    n = len(sizes)
    begin, end = pads[:n], pads[n:]
    small = [min(b, e) for b, e in zip(begin, end, strict=True)]
    rest = [
        size + b + e - ((o - 1) * s + r + 1)
        for size, b, e, o, s, r in zip(sizes, begin, end, windows, strides, reach, strict=True)
    ]
    dx = op.ConvTranspose(dy, w, strides=strides, pads=small * 2, dilations=dilations, group=group, output_padding=rest)
    if list(begin) == list(end):
        return dx
    starts = [b - m for b, m in zip(begin, small, strict=True)]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return op.Slice(dx, starts, ends, list(range(2, n + 2)))


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
