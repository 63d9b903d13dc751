"""Normalisation. Scales, biases and running statistics are constants: they get no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, dims


@vjp("BatchNormalization")
def batch_normalization(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    var: ir.Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Gradients:
    """y = scale·(x − mean)/√(var + ε) + bias with running statistics: dx = scale/√(var + ε)·dy."""
    if training_mode:
        raise unsupported(y, "needs training_mode=0: convert the model for inference")
    slope = op.Div(scale, op.Sqrt(op.Add(var, epsilon)))
    return op.Mul(dy, op.cast_like(_per_channel(op, slope, x), dy))


@vjp("InstanceNormalization")
def instance_normalization(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, scale: ir.Value, bias: ir.Value, *, epsilon: float = 1e-5
) -> Gradients:
    """As LayerNormalization, over the spatial axes of each channel."""
    return _standardised(op, op.Mul(dy, _per_channel(op, scale, x)), x, range(2, len(dims(x))), epsilon)


@vjp("LayerNormalization")
def layer_normalization(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Gradients:
    """y = scale·x̂ + bias with x̂ = (x − mean)/√(var + ε) over the axes from ``axis`` on."""
    rank = len(dims(x))
    return _standardised(op, op.Mul(dy, scale), x, range(axis % rank, rank), epsilon)


@vjp("GroupNormalization")
def group_normalization(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
) -> Gradients:
    """As LayerNormalization, over the channels and pixels of each group; opset 18 has a scale per group."""
    grouped = [op.Reshape(v, [0, num_groups, -1]) for v in (dy, x)]
    scaled = op.Mul(grouped[0], op.Reshape(scale, [-1, 1]))
    return op.reshape_like(_standardised(op, scaled, grouped[1], [2], epsilon), x)


@vjp("MeanVarianceNormalization")
def mean_variance_normalization(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, axes: Sequence[int] = (0, 2, 3)
) -> Gradients:
    """y = (x − mean)/(deviation + 1e-9) over the axes."""
    return _standardised(op, dy, x, axes, 1e-18)


@vjp("LpNormalization")
def lp_normalization(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, axis: int = -1, p: int = 2) -> Gradients:
    """y = x/n with n = ‖x‖ₚ along the axis: dx = (dy − n′·Σ dy·y)/n, where n′ is y for p = 2 and sign(x) for p = 1.

    Where n is 0, so is y, and nothing passes.
    """
    norm, slope = (op.ReduceL1, op.Sign(x)) if p == 1 else (op.ReduceL2, y)
    along = op.ReduceSum(op.Mul(dy, y), [axis], keepdims=1)
    return op.ratio(op.Sub(dy, op.Mul(slope, along)), norm(x, [axis], keepdims=1))


@vjp("LRN")
def local_response_normalization(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Gradients:
    """y = x·s^−β with s = bias + α/size·Σ x² over ``size`` neighbouring channels:
    dx = s^−β·dy − 2αβ/size·x·Σ dy·x·s^(−β−1), summed over the channels that x is a neighbour of.
    """
    before, after = (size - 1) // 2, size // 2
    s = op.Add(op.Mul(_channel_mean(op, op.Mul(x, x), x, before, after), alpha), bias)
    damped = op.Pow(s, op.number(-beta, x))
    bend = _channel_mean(op, op.Div(op.Mul(op.Mul(dy, x), damped), s), x, after, before)
    return op.Sub(op.Mul(dy, damped), op.Mul(op.Mul(x, bend), 2.0 * alpha * beta))


def _channel_mean(op: Ops, v: ir.Value, x: ir.Value, before: int, after: int) -> ir.Value:
    """Mean of v, shaped like x, over each channel's neighbours; beyond the first and last channel lie zeros."""
    columns = op.Reshape(v, [0, 1, dims(x)[1], -1])  # (N, 1, C, pixels)
    mean = op.AveragePool(
        columns, kernel_shape=[before + after + 1, 1], pads=[before, 0, after, 0], count_include_pad=1
    )
    return op.reshape_like(mean, x)


def _per_channel(op: Ops, weights: ir.Value, x: ir.Value) -> ir.Value:
    """(C,) → (C, 1, …, 1), which broadcasts over (N, C, *spatial)."""
    return op.Reshape(weights, [-1] + [1] * (len(dims(x)) - 2))


def _standardised(op: Ops, dy: ir.Value, x: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """The gradient of x̂ = (x − mean)/√(var + ε): dx = (dy − mean(dy) − x̂·mean(dy·x̂))/√(var + ε)."""

    def mean(value: ir.Value) -> ir.Value:
        return op.ReduceMean(value, list(axes), keepdims=1)

    centred = op.Sub(x, mean(x))
    deviation = op.Sqrt(op.Add(mean(op.Mul(centred, centred)), epsilon))
    standard = op.Div(centred, deviation)
    bend = op.Mul(standard, mean(op.Mul(dy, standard)))
    return op.Div(op.Sub(op.Sub(dy, mean(dy)), bend), deviation)
