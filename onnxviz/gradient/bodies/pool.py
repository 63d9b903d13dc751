"""Gradients of pooling. ONNX Runtime's own live in the default domain, where a file can define no function."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.gradient.bodies.convolution import transposed_convolution
from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.tape import dims, fixed, static_dims
from onnxviz.gradient.training_ops import training_op


@training_op("MaxPoolGrad")
def max_pool_grad(
    op: BodyOps,
    dy: ir.Value,
    x: ir.Value,
    *,
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    ceil_mode: int,
) -> ir.Value:
    """Each dy goes to the pixel that won its window, the first of several; overlapping windows add up."""
    _, winners = op.several(
        "MaxPool", 2, x, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations, ceil_mode=ceil_mode
    )
    return op.scatter_back(dy, winners, x)


@training_op("AveragePoolGrad")
def average_pool_grad(
    op: BodyOps,
    dy: ir.Value,
    x: ir.Value,
    *,
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    ceil_mode: int,
    count_include_pad: int,
) -> ir.Value:
    """Each pixel of a window gets dy divided by the number of pixels that the window's mean was taken over."""
    n = len(kernel_shape)
    windows = list(zip(kernel_shape, strides, pads[:n], pads[n:], strict=True))
    if not ceil_mode and (count_include_pad or not any(pads)):
        share = op.Div(dy, float(np.prod(kernel_shape)))
    elif fixed(x, 2) and fixed(dy, 2):
        axes = zip(static_dims(x, 2), static_dims(dy, 2), windows, strict=True)
        counts = reduce(np.multiply.outer, [_counts(count_include_pad, m, o, *each) for m, o, each in axes])
        uniform = np.all(counts == counts.flat[0])
        share = op.Div(dy, float(counts.flat[0]) if uniform else op.cast_like(op.constant(counts), dy))
    else:
        along = [_counted(op, count_include_pad, x, dy, axis + 2, *each) for axis, each in enumerate(windows)]
        share = op.Div(dy, op.cast_like(reduce(op.Mul, along), dy))
    return _summed_over_windows(op, share, x, dy, kernel_shape, strides, pads, [1] * n)


@training_op("LpPoolGrad")
def lp_pool_grad(
    op: BodyOps,
    dy: ir.Value,
    x: ir.Value,
    y: ir.Value,
    *,
    p: int,
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
) -> ir.Value:
    """dx = sign(x)·|x|^(p−1)·Σ y^(1−p)·dy, summed over the windows that x is in; 0 where y is 0."""
    share = op.ratio(dy, op.Pow(y, op.number(p - 1.0, y)))
    spread = _summed_over_windows(op, share, x, dy, kernel_shape, strides, pads, dilations)
    return op.Mul(spread, op.Mul(op.Sign(x), op.Pow(op.Abs(x), op.number(p - 1.0, x))))


def _summed_over_windows(
    op: BodyOps,
    share: ir.Value,
    x: ir.Value,
    dy: ir.Value,
    kernel_shape: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
) -> ir.Value:
    """For each pixel of x the sum of what its windows have for each of their pixels.

    Channels become samples, so that one kernel of ones serves them all. With ceil_mode the last window may reach beyond
    the pads: that is as if there were more of them.
    """
    n = len(kernel_shape)
    reach = [d * (k - 1) for k, d in zip(kernel_shape, dilations, strict=True)]
    if fixed(x, 2) and fixed(dy, 2):
        axes = zip(static_dims(x, 2), static_dims(dy, 2), reach, strides, pads[:n], pads[n:], strict=True)
        pads = [*pads[:n], *(max(end, (o - 1) * s + r + 1 - size - begin) for size, o, r, s, begin, end in axes)]
    spread = transposed_convolution(
        op,
        op.arranged(share, [-1, 1, *(op.size(dy, axis) for axis in range(2, n + 2))]),
        op.cast_like(op.constant(np.ones((1, 1, *kernel_shape), np.float32)), share),
        x,
        windows_of=dy,
        reach=reach,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=1,
    )
    return op.arranged(spread, [-1, *static_dims(x, 1, 2), *(op.size(x, axis) for axis in range(2, n + 2))])


def _counts(
    include_pad: int, size: int, windows: int, kernel: int, stride: int, begin: int, end: int
) -> npt.NDArray[np.float32]:
    """How many pixels each window covers along one axis; pads count if asked for, what lies behind them never."""
    first = np.arange(windows) * stride - begin
    last = np.minimum(first + kernel, size + (end if include_pad else 0))
    return (last - (first if include_pad else np.maximum(first, 0))).astype(np.float32)


def _counted(
    op: BodyOps, include_pad: int, x: ir.Value, dy: ir.Value, axis: int, kernel: int, stride: int, begin: int, end: int
) -> ir.Value:
    """The same where sizes are open, int64, in a shape that broadcasts over dy."""
    zero, one = op.constant(np.array(0, np.int64)), op.constant(np.array(1, np.int64))
    ordinal = op.Range(zero, op.Squeeze(op.Shape(dy, start=axis, end=axis + 1)), one)
    first = op.Sub(op.Mul(ordinal, [stride]), [begin])
    size = op.Shape(x, start=axis, end=axis + 1)
    last = op.Min(op.Add(first, [kernel]), op.Add(size, [end]) if include_pad else size)
    count = op.Sub(last, first if include_pad else op.Max(first, [0]))
    return op.Reshape(count, [1 if i != axis else -1 for i in range(len(dims(x)))])
