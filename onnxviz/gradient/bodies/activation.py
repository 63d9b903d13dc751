"""Gradients of activations.

At a kink the derivative is what PyTorch and TensorFlow take for the layer of that name: Relu at 0 and Clip at its
bounds (ReLU6, hardtanh) pass nothing, a clamp passes what is at its bounds; LeakyRelu, PRelu and the ELUs take the
slope of the negative side at 0.
"""

from __future__ import annotations

import math
from functools import reduce

import onnx_ir as ir

from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.training_ops import MICROSOFT, training_op


@training_op("ReluGrad", domain=MICROSOFT)
def relu_grad(op: BodyOps, dy: ir.Value, y: ir.Value) -> ir.Value:
    """dx = dy where y > 0, else 0."""
    return op.Where(op.Greater(y, 0.0), dy, op.number(0.0, dy))


@training_op("LeakyReluGrad", domain=MICROSOFT)
def leaky_relu_grad(op: BodyOps, dy: ir.Value, y: ir.Value, *, alpha: float) -> ir.Value:
    """dx = dy where y > 0, else α·dy; for α > 0, where y has the sign of x."""
    return op.Where(op.Greater(y, 0.0), dy, op.Mul(dy, alpha))


@training_op("PReluGrad")
def prelu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, slope: ir.Value) -> ir.Value:
    """dx = dy where x > 0, else slope·dy."""
    return op.Where(op.Greater(x, 0.0), dy, op.Mul(dy, slope))


@training_op("EluGrad")
def elu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, alpha: float) -> ir.Value:
    """dx = dy where x > 0, else α·exp(x)·dy."""
    return _exponential_tail(op, dy, x, 1.0, alpha, 1.0)


@training_op("SeluGrad")
def selu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, alpha: float, gamma: float) -> ir.Value:
    """dx = γ·dy where x > 0, else γ·α·exp(x)·dy."""
    return _exponential_tail(op, dy, x, gamma, gamma * alpha, 1.0)


@training_op("CeluGrad")
def celu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, alpha: float) -> ir.Value:
    """dx = dy where x > 0, else exp(x/α)·dy."""
    return _exponential_tail(op, dy, x, 1.0, 1.0, alpha)


def _exponential_tail(op: BodyOps, dy: ir.Value, x: ir.Value, right: float, left: float, width: float) -> ir.Value:
    """right·dy where x > 0, else left·exp(x/width)·dy. The exponent is held ≤ 0, so that it never overflows."""
    tail = op.Mul(op.Exp(op.Div(op.Min(x, 0.0), width)), left)
    return op.Mul(dy, op.Where(op.Greater(x, 0.0), op.number(right, x), tail))


@training_op("ClipGrad")
def clip_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, low: ir.Value | None = None, high: ir.Value | None = None
) -> ir.Value:
    """dx = dy where low < x < high, else 0; a bound that is left out does not bind."""
    inside = [op.Greater(x, low)] if low is not None else []
    inside += [op.Less(x, high)] if high is not None else []
    return _where_all(op, inside, dy)


@training_op("ClampGrad")
def clamp_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, low: ir.Value | None = None, high: ir.Value | None = None
) -> ir.Value:
    """dx = dy where low ≤ x ≤ high, else 0; a bound that is left out does not bind."""
    inside = [op.GreaterOrEqual(x, low)] if low is not None else []
    inside += [op.LessOrEqual(x, high)] if high is not None else []
    return _where_all(op, inside, dy)


def _where_all(op: BodyOps, conditions: list[ir.Value], dy: ir.Value) -> ir.Value:
    """dy where all conditions hold, else 0."""
    return op.Where(reduce(op.And, conditions), dy, op.number(0.0, dy)) if conditions else op.Identity(dy)


@training_op("SlopedReluGrad")
def sloped_relu_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, *, slope: float, threshold: float, low: float, high: float | None = None
) -> ir.Value:
    """dx = dy where low < x ≤ high, slope·dy where x < threshold, else 0."""
    inside = op.Greater(x, low) if high is None else op.And(op.Greater(x, low), op.LessOrEqual(x, high))
    below = op.Where(op.Less(x, threshold), op.Mul(dy, slope), op.number(0.0, dy)) if slope else op.number(0.0, dy)
    return op.Where(inside, dy, below)


@training_op("ThresholdedReluGrad")
def thresholded_relu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, alpha: float) -> ir.Value:
    """dx = dy where x > α, else 0."""
    return op.Where(op.Greater(x, alpha), dy, op.number(0.0, dy))


@training_op("ShrinkGrad")
def shrink_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, lambd: float) -> ir.Value:
    """dx = dy where x < −λ or x > λ, else 0."""
    return op.Where(op.Or(op.Less(x, -lambd), op.Greater(x, lambd)), dy, op.number(0.0, dy))


@training_op("SigmoidGrad", domain=MICROSOFT)
def sigmoid_grad(op: BodyOps, dy: ir.Value, y: ir.Value) -> ir.Value:
    """dx = y·(1 − y)·dy."""
    return op.Mul(dy, op.Mul(y, op.Sub(op.number(1.0, y), y)))


@training_op("TanhGrad", domain=MICROSOFT)
def tanh_grad(op: BodyOps, dy: ir.Value, y: ir.Value) -> ir.Value:
    """dx = (1 − y²)·dy."""
    return op.Mul(dy, op.Sub(op.number(1.0, y), op.Mul(y, y)))


@training_op("HardSigmoidGrad")
def hard_sigmoid_grad(op: BodyOps, dy: ir.Value, y: ir.Value, *, alpha: float) -> ir.Value:
    """dx = α·dy where 0 < y < 1, else 0."""
    inside = op.And(op.Greater(y, 0.0), op.Less(y, 1.0))
    return op.Where(inside, op.Mul(dy, alpha), op.number(0.0, dy))


@training_op("HardSwishGrad")
def hard_swish_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """dx = (x/3 + 1/2)·dy where −3 < x < 3; beyond, 0 on the left and dy on the right."""
    slope = op.Add(op.Div(x, 3.0), 0.5)
    left = op.Where(op.Greater(x, -3.0), slope, op.number(0.0, x))
    return op.Mul(dy, op.Where(op.Less(x, 3.0), left, op.number(1.0, x)))


@training_op("SoftplusGrad")
def softplus_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, *, beta: float = 1.0, threshold: float | None = None
) -> ir.Value:
    """dx = σ(βx)·dy, and dy where βx is above the threshold."""
    scaled = x if beta == 1.0 else op.Mul(x, beta)
    dx = op.Mul(dy, op.Sigmoid(scaled))
    return dx if threshold is None else op.Where(op.Greater(scaled, threshold), dy, dx)


@training_op("LogSigmoidGrad")
def log_sigmoid_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """y = log σ(x): dx = σ(−x)·dy."""
    return op.Mul(dy, op.Sigmoid(op.Neg(x)))


@training_op("SquareplusGrad")
def squareplus_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, b: float) -> ir.Value:
    """y = (x + √(x² + b))/2: dx = (1 + x/√(x² + b))/2·dy."""
    root = op.Sqrt(op.Add(op.Mul(x, x), b))
    return op.Mul(dy, op.Mul(op.Add(op.Div(x, root), 1.0), 0.5))


@training_op("SoftsignGrad")
def softsign_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """dx = dy/(1 + |x|)²."""
    width = op.Add(op.Abs(x), 1.0)
    return op.Div(op.Div(dy, width), width)


@training_op("MishGrad")
def mish_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """y = x·t with t = tanh(softplus(x)): dx = (t + x·σ(x)·(1 − t²))·dy."""
    t = op.Tanh(op.Softplus(x))
    bend = op.Mul(op.Mul(x, op.Sigmoid(x)), op.Sub(op.number(1.0, x), op.Mul(t, t)))
    return op.Mul(dy, op.Add(t, bend))


@training_op("QuickGeluGrad", domain=MICROSOFT)
def quick_gelu_grad(op: BodyOps, dy: ir.Value, x: ir.Value, *, alpha: float) -> ir.Value:
    """y = x·s with s = σ(αx): dx = s·(1 + αx·(1 − s))·dy. SiLU is α = 1."""
    scaled = op.Mul(x, alpha)
    s = op.Sigmoid(scaled)
    bend = op.Mul(scaled, op.Sub(op.number(1.0, s), s))
    return op.Mul(dy, op.Mul(s, op.Add(bend, 1.0)))


@training_op("GeluGrad", domain=MICROSOFT)
def gelu_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """y = x·Φ(x) with the normal distribution Φ and its density φ: dx = (Φ(x) + x·φ(x))·dy."""
    scaled = op.Mul(x, math.sqrt(0.5))
    distribution = op.Mul(op.Add(op.Erf(scaled), 1.0), 0.5)
    density = op.Mul(op.Exp(op.Neg(op.Mul(scaled, scaled))), 1.0 / math.sqrt(2.0 * math.pi))
    return op.Mul(dy, op.Add(distribution, op.Mul(x, density)))


@training_op("FastGeluGrad", domain=MICROSOFT)
def fast_gelu_grad(op: BodyOps, dy: ir.Value, x: ir.Value) -> ir.Value:
    """y = x·(1 + t)/2 with t = tanh(u), u = √(2/π)·(x + 0.044715·x³): dx = ((1 + t)/2 + x·(1 − t²)·u′/2)·dy.

    Beyond ±10 the derivative is 0 or 1 to the last bit; the clip keeps the powers of x from overflowing.
    """
    x = op.Clip(x, op.number(-10.0, x), op.number(10.0, x))
    c, k = math.sqrt(2.0 / math.pi), 0.044715
    square = op.Mul(x, x)
    t = op.Tanh(op.Mul(op.Mul(x, c), op.Add(op.Mul(square, k), 1.0)))
    steepness = op.Mul(op.Add(op.Mul(square, 3.0 * k), 1.0), c)
    bend = op.Mul(op.Mul(x, op.Sub(op.number(1.0, t), op.Mul(t, t))), steepness)
    return op.Mul(dy, op.Mul(op.Add(op.Add(t, 1.0), bend), 0.5))


@training_op("SoftmaxGrad_13", domain=MICROSOFT)
def softmax_grad(op: BodyOps, dy: ir.Value, y: ir.Value, *, axis: int) -> ir.Value:
    """dx = y·(dy − Σ dy·y), summed along the axis."""
    weighted = op.Mul(dy, y)
    return op.Sub(weighted, op.Mul(y, op.ReduceSum(weighted, [axis], keepdims=1)))


@training_op("LogSoftmaxGrad_13", domain=MICROSOFT)
def log_softmax_grad(op: BodyOps, dy: ir.Value, y: ir.Value, *, axis: int) -> ir.Value:
    """dx = dy − exp(y)·Σ dy, summed along the axis."""
    return op.Sub(dy, op.Mul(op.Exp(y), op.ReduceSum(dy, [axis], keepdims=1)))
