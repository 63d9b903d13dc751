"""Activations. Each gradient is one named node whose first input is dy: overlays (guided backprop, …) match those."""

from __future__ import annotations

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, vjp
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import PROJECT


@vjp("Relu")
def relu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = max(x, 0): dx = dy where y > 0."""
    return op.ReluGrad(dy, y)


@vjp("LeakyRelu")
@vjp("LeakyRelu", domain=PROJECT)
def leaky_relu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float = 0.01) -> Gradients:
    """y = x where x > 0, else αx. Only for α > 0 does y have the sign of x."""
    if alpha > 0:
        return op.LeakyReluGrad(dy, y, alpha=alpha)
    return op.PReluGrad(dy, x, alpha)


@vjp("PRelu")
def prelu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, slope: ir.Value) -> Gradients:
    """y = x where x > 0, else slope·x. The slope is a weight: it gets no gradient."""
    return op.PReluGrad(dy, x, slope)


@vjp("Elu")
@vjp("Elu", domain=PROJECT)
def elu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float = 1.0) -> Gradients:
    """y = x where x > 0, else α·(exp(x) − 1)."""
    return op.EluGrad(dy, x, alpha=alpha)


@vjp("Selu")
def selu(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Gradients:
    """y = γx where x > 0, else γα·(exp(x) − 1)."""
    return op.SeluGrad(dy, x, alpha=alpha, gamma=gamma)


@vjp("Celu")
@vjp("Celu", domain=PROJECT)
def celu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float = 1.0) -> Gradients:
    """y = x where x > 0, else α·(exp(x/α) − 1)."""
    return op.CeluGrad(dy, x, alpha=alpha)


@vjp("ThresholdedRelu")
def thresholded_relu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float = 1.0) -> Gradients:
    """y = x where x > α, else 0."""
    return op.ThresholdedReluGrad(dy, x, alpha=alpha)


@vjp("ThresholdedRelu", domain=PROJECT)
def threshold(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float, value: float) -> Gradients:
    """y = x where x > α, else the value."""
    return op.ThresholdedReluGrad(dy, x, alpha=alpha)


@vjp("SlopedRelu", domain=PROJECT)
def sloped_relu(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    *,
    slope: float = 0.0,
    threshold: float = 0.0,
    limit: float | None = None,
) -> Gradients:
    """Keras: y = min(x, limit) where x > threshold (from 0 on, if there is a limit); slope·(x − threshold) below it."""
    low = threshold if limit is None else max(threshold, 0.0)
    return op.SlopedReluGrad(dy, x, slope=slope, threshold=threshold, low=low, high=limit)


@vjp("Shrink")
@vjp("Shrink", domain=PROJECT)
def shrink(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, bias: float = 0.0, lambd: float = 0.5) -> Gradients:
    """y = x + bias where x < −λ, x − bias where x > λ, else 0."""
    return op.ShrinkGrad(dy, x, lambd=lambd)


@vjp("Clip")
def clip(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, low: ir.Value | None = None, high: ir.Value | None = None
) -> Gradients:
    """y = min(max(x, low), high): dx = dy where low < x < high.

    Nothing passes at a bound, as in PyTorch's and TensorFlow's ReLU6 (their ``clamp`` lets it pass).
    """
    return op.ClipGrad(dy, x, low, high)


@vjp("Clip", domain=PROJECT)
def clamp(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, low: float | None = None, high: float | None = None
) -> Gradients:
    """y = min(max(x, low), high) of two nodes: dx = dy where low ≤ x ≤ high.

    What is at a bound passes, as in PyTorch's ``clamp`` and TensorFlow's ``clip_by_value``.
    """
    return op.ClampGrad(dy, x, low, high)


@vjp("Sigmoid")
def sigmoid(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = y·(1 − y)·dy."""
    return op.SigmoidGrad(dy, y)


@vjp("Tanh")
def tanh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = (1 − y²)·dy."""
    return op.TanhGrad(dy, y)


@vjp("HardSigmoid")
def hard_sigmoid(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float = 0.2, beta: float = 0.5
) -> Gradients:
    """y = min(max(αx + β, 0), 1)."""
    return op.HardSigmoidGrad(dy, y, alpha=alpha)


@vjp("HardSwish")
@vjp("HardSwish", domain=PROJECT)
def hard_swish(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x·min(max(x/6 + 1/2, 0), 1)."""
    return op.HardSwishGrad(dy, x)


@vjp("HardSigmoid", domain=PROJECT)
def hard_sigmoid_of_six(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = min(max(x/6 + 1/2, 0), 1)."""
    return op.HardSigmoidGrad(dy, y, alpha=1 / 6)


@vjp("Softplus")
def softplus(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = log(1 + exp(x))."""
    return op.SoftplusGrad(dy, x)


@vjp("Softplus", domain=PROJECT)
def softplus_with_threshold(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, beta: float, threshold: float
) -> Gradients:
    """y = log(1 + exp(βx))/β, and x where βx is above the threshold."""
    return op.SoftplusGrad(dy, x, beta=beta, threshold=threshold)


@vjp("LogSigmoid", domain=PROJECT)
def log_sigmoid(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = log σ(x)."""
    return op.LogSigmoidGrad(dy, x)


@vjp("Squareplus", domain=PROJECT)
def squareplus(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, b: float) -> Gradients:
    """y = (x + √(x² + b))/2."""
    return op.SquareplusGrad(dy, x, b=b)


@vjp("Softsign")
@vjp("Softsign", domain=PROJECT)
def softsign(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x/(1 + |x|)."""
    return op.SoftsignGrad(dy, x)


@vjp("Mish")
@vjp("Mish", domain=PROJECT)
def mish(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x·tanh(softplus(x))."""
    return op.MishGrad(dy, x)


@vjp("Silu", domain=PROJECT)
def silu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x·σ(x)."""
    return op.QuickGeluGrad(dy, x, alpha=1.0)


@vjp("QuickGelu", domain=PROJECT)
def quick_gelu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, alpha: float) -> Gradients:
    """y = x·σ(αx)."""
    return op.QuickGeluGrad(dy, x, alpha=alpha)


@vjp("Gelu", domain=PROJECT)
def gelu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x·Φ(x)."""
    return op.GeluGrad(dy, x)


@vjp("FastGelu", domain=PROJECT)
def fast_gelu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2."""
    return op.FastGeluGrad(dy, x)


@vjp("Softmax")
def softmax(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, axis: int = -1) -> Gradients:
    """dx = y·(dy − Σ dy·y); 0 for rows of −∞ alone, which attention masks make, where these are replaced."""
    return op.SoftmaxGrad_13(dy, op.Where(op.IsNaN(y), op.number(0.0, y), y) if _is_replaced(y) else y, axis=axis)


def _is_replaced(y: ir.Value) -> bool:
    """Whether a Where takes out some of y."""
    readers = [use.node for use in y.uses()]
    return any(
        node.op_type == "Where" or (node.op_type == "Cast" and _is_replaced(node.outputs[0])) for node in readers
    )


@vjp("LogSoftmax")
def log_softmax(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, axis: int = -1) -> Gradients:
    """dx = dy − exp(y)·Σ dy."""
    return op.LogSoftmaxGrad_13(dy, y, axis=axis)
