"""Convolutions and matrix products that ONNX Runtime fused with what stands around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops, dims
from onnxviz.graph.decompositions.activation import activated, shaping
from onnxviz.graph.decompositions.registry import MICROSOFT, NotDecomposed, constant, covered, decomposition
from onnxviz.source import Array


@decomposition("FusedConv")
def fused_conv(
    op: Ops,
    x: ir.Value,
    w: ir.Value,
    bias: ir.Value | None = None,
    added: ir.Value | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str | None = None,
    dilations: Sequence[int] | None = None,
    group: int | None = None,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> ir.Value:
    """activation(Conv(x) + added)."""
    y = op.Conv(
        x,
        w,
        bias,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return activated(op, y if added is None else op.Add(y, added), activation, activation_params)


@decomposition("FusedGemm")
def fused_gemm(
    op: Ops,
    a: ir.Value,
    b: ir.Value,
    c: ir.Value | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    transA: int | None = None,
    transB: int | None = None,
) -> ir.Value:
    """activation(Gemm(a, b, c))."""
    y = op.Gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    numbers = shaping(activation, alpha=activation_alpha, beta=activation_beta, gamma=activation_gamma)
    return activated(op, y, activation, numbers)


@decomposition("FusedMatMul", "TransposeMatMul")
def fused_mat_mul(
    op: Ops,
    a: ir.Value,
    b: ir.Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> ir.Value:
    """alpha·A·B of matrices whose axes are put in order first."""
    y = op.MatMul(_ordered(op, a, transA, transBatchA), _ordered(op, b, transB, transBatchB))
    return y if alpha == 1 else op.Mul(y, alpha)


def _ordered(op: Ops, matrix: ir.Value, transposed: int, batch_last: int) -> ir.Value:
    """The matrices with the batch axes in front; ``batch_last`` says that the first axis is the matrix's own."""
    axes = list(range(len(dims(matrix))))
    if len(axes) < 2:
        return matrix
    if batch_last:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if transposed:
        axes[-2:] = axes[:-3:-1]
    return matrix if axes == sorted(axes) else op.Transpose(matrix, perm=axes)


@decomposition("MatMulNBits")
def mat_mul_n_bits(
    op: Ops,
    a: ir.Value,
    packed: ir.Value,
    scales: ir.Value,
    zero_points: ir.Value | None = None,
    order: ir.Value | None = None,
    bias: ir.Value | None = None,
    *,
    N: int,
    K: int,
    bits: int = 4,
    block_size: int,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> ir.Value:
    """A·Wᵀ with the weight dequantised once: the file stores it as floats. W (N, K) has a scale for each block of K."""
    del accuracy_level  # says how roughly the kernel may compute; where it does, the comparison with it tells
    covered({"g_idx": order, "weight_prepacked": weight_prepacked})
    if bits not in (2, 4, 8):
        raise NotDecomposed(f"has weights of {bits} bits")
    scale = constant(scales, "scales").reshape(N, -1, 1)
    levels = unpacked(constant(packed, "weight"), bits).reshape(N, scale.shape[1], -1)
    zero: Array | float = 2.0 ** (bits - 1)
    if zero_points is not None:
        stored = constant(zero_points, "zero points")
        stored = unpacked(stored.reshape(N, -1), bits) if stored.dtype == np.uint8 else stored
        zero = stored.reshape(N, -1)[:, : scale.shape[1], None].astype(scale.dtype)
    weight = ((levels[..., :block_size].astype(scale.dtype) - zero) * scale).reshape(N, -1)[:, :K]
    y = op.MatMul(a, op.constant(np.ascontiguousarray(weight.T)))
    return y if bias is None else op.Add(y, bias)


def unpacked(packed: Array, bits: int) -> Array:
    """Numbers of 2, 4 or 8 bits out of bytes, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[..., None] >> shifts) & np.uint8(2**bits - 1)).reshape(*packed.shape[:-1], -1)


# ----- what ONNX took over, and ONNX Runtime still writes in its own operator set -----


@decomposition("ExpandDims", domain=MICROSOFT)
def expand_dims(op: Ops, x: ir.Value, axis: ir.Value) -> ir.Value:
    """Unsqueeze along one axis."""
    return op.Unsqueeze(x, op.Reshape(op.Cast(axis, to=ir.DataType.INT64), [1]))


@decomposition("Trilu")
def trilu(op: Ops, x: ir.Value, k: ir.Value | None = None, *, upper: int = 1) -> ir.Value:
    """The operator of opset 14."""
    return op.Trilu(x, k, upper=upper)


@decomposition("Pad")
def pad(op: Ops, x: ir.Value, pads: ir.Value, value: ir.Value | None = None, *, mode: str = "constant") -> ir.Value:
    """The operator of opset 13; ``pads`` may be (1, 2·rank)."""
    return op.Pad(x, op.Reshape(pads, [-1]), value if value is None else op.Reshape(value, []), mode=mode)


@decomposition("GridSample")
def grid_sample(
    op: Ops,
    x: ir.Value,
    grid: ir.Value,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
) -> ir.Value:
    """The operator of opset 16."""
    return op.GridSample(x, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
