"""Pooling. Windows are described as ONNX does; the gradients are functions of the project's domain."""

from __future__ import annotations

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, vjp
from onnxviz.gradient.rules.linear import explicit_pads
from onnxviz.gradient.tape import Ops, dims


@vjp("MaxPool")
def max_pool(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    kernel_shape: list[int],
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    ceil_mode: int = 0,
    storage_order: int = 0,
    auto_pad: str = "NOTSET",
) -> Gradients:
    """y is the largest pixel of each window. ``storage_order`` only numbers the indices, a second output."""
    n = len(kernel_shape)
    return op.MaxPoolGrad(
        dy,
        x,
        kernel_shape=kernel_shape,
        strides=strides or [1] * n,
        pads=explicit_pads(y, pads, auto_pad, n),
        dilations=dilations or [1] * n,
        ceil_mode=ceil_mode,
    )


@vjp("GlobalMaxPool")
def global_max_pool(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y is the largest pixel of each channel, the first of several."""
    pixels = op.Reshape(x, [0, 0, -1])
    winner = op.ArgMax(pixels, axis=2, keepdims=1)
    return op.reshape_like(op.ScatterElements(op.zeros_like(pixels), winner, op.Reshape(dy, [0, 0, 1]), axis=2), x)


@vjp("AveragePool")
def average_pool(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    kernel_shape: list[int],
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    auto_pad: str = "NOTSET",
) -> Gradients:
    """y is the mean of each window, over the image's pixels or with the pads."""
    n = len(kernel_shape)
    return op.AveragePoolGrad(
        dy,
        x,
        kernel_shape=kernel_shape,
        strides=strides or [1] * n,
        pads=explicit_pads(y, pads, auto_pad, n),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


@vjp("GlobalAveragePool")
def global_average_pool(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y is the mean over the spatial axes: dx = dy/n at each pixel."""
    axes = range(2, len(dims(x)))
    return op.expand_along(op.Div(dy, op.count(x, axes, dy)), x, axes)


@vjp("LpPool")
def lp_pool(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    kernel_shape: list[int],
    p: int = 2,
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
) -> Gradients:
    """y = (Σ |x|ᵖ)^(1/p) over each window."""
    n = len(kernel_shape)
    return op.LpPoolGrad(
        dy,
        x,
        y,
        p=p,
        kernel_shape=kernel_shape,
        strides=strides or [1] * n,
        pads=explicit_pads(y, pads, auto_pad, n),
        dilations=dilations or [1] * n,
    )


@vjp("GlobalLpPool")
def global_lp_pool(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, p: int = 2) -> Gradients:
    """y = (Σ |x|ᵖ)^(1/p) over the spatial axes: dx = sign(x)·(|x|/y)^(p−1)·dy, 0 where y is 0."""
    share = op.Pow(op.ratio(op.Abs(x), y), op.number(p - 1.0, x))
    return op.Mul(dy, op.Mul(op.Sign(x), share))


@vjp("MaxUnpool")
def max_unpool(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    indices: ir.Value,
    output_shape: ir.Value | None = None,
    *,
    kernel_shape: list[int],
    strides: list[int] | None = None,
    pads: list[int] | None = None,
) -> Gradients:
    """y is zeros with the elements of x at their indices, which count the elements of y."""
    return op.Gather(op.Reshape(dy, [-1]), indices)
