"""Activations with kinks: clips, ReLUs with slopes, thresholds and limits, exponential tails, shrinking."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxviz.gradient.tape import Ops
from onnxviz.graph.spellings.registry import Number, Write, negative, number, spelling

Bounds = Callable[[Ops, ir.Value, float], ir.Value]

# ----- min(max(x, low), high) -----


@spelling("Clip")
def at_least(op: Ops, x: ir.Value, *, low: Number) -> ir.Value:
    """clamp(min=…), tf.maximum(x, 0)."""
    return op.Max(x, low)


@spelling("Clip")
def at_most(op: Ops, x: ir.Value, *, high: Number) -> ir.Value:
    """clamp(max=…)."""
    return op.Min(x, high)


@spelling("Clip")
def clamp(op: Ops, x: ir.Value, *, low: Number, high: Number) -> ir.Value:
    """PyTorch's clamp."""
    return op.Min(op.Max(x, low), high)


@spelling("Clip", allowed=lambda low, high: low <= high)
def clip_by_value(op: Ops, x: ir.Value, *, low: Number, high: Number) -> ir.Value:
    """TensorFlow's clip_by_value: Keras's clip and hard_tanh."""
    return op.Max(op.Min(x, high), low)


# ----- min(max(x/6 + ½, 0), 1), and x times that -----


def _clip(op: Ops, x: ir.Value, high: Number) -> ir.Value:
    return op.Clip(x, 0.0, high)


def _min_max(op: Ops, x: ir.Value, high: Number) -> ir.Value:
    return op.Max(op.Min(x, high), 0.0)


def _max_min(op: Ops, x: ir.Value, high: Number) -> ir.Value:
    return op.Min(op.Max(x, 0.0), high)


def _relu_min(op: Ops, x: ir.Value, high: Number) -> ir.Value:
    return op.Min(op.Relu(x), high)


def _gated(gate: Write) -> Write:
    return lambda op, x: op.Mul(x, gate(op, x))


def _register_hard_sigmoids(clip: Bounds) -> None:
    """Sixths are taken of x or of the result, by division or by multiplication."""

    def six(op: Ops, x: ir.Value) -> ir.Value:
        return clip(op, op.Add(x, 3.0), 6.0)

    gates: list[Write] = [
        lambda op, x: op.Div(six(op, x), 6.0),
        lambda op, x: op.Mul(six(op, x), 1.0 / 6.0),
        lambda op, x: clip(op, op.Add(op.Div(x, 6.0), 0.5), 1.0),
        lambda op, x: clip(op, op.Add(op.Mul(x, 1.0 / 6.0), 0.5), 1.0),
    ]
    for gate in gates:
        spelling("HardSigmoid")(gate)
        spelling("HardSwish")(_gated(gate))
    spelling("HardSwish")(lambda op, x: op.Div(op.Mul(x, six(op, x)), 6.0))
    spelling("HardSwish")(lambda op, x: op.Mul(op.Mul(x, six(op, x)), 1.0 / 6.0))


for _bounds in (_clip, _min_max, _max_min, _relu_min):
    _register_hard_sigmoids(_bounds)


@spelling("HardSwish")
def hard_swish_of_hard_sigmoid(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing before opset 14."""
    return op.Mul(x, op.HardSigmoid(x, alpha=1.0 / 6.0, beta=0.5))


# ----- x above a threshold -----


@spelling("ThresholdedRelu")
def threshold(op: Ops, x: ir.Value, *, alpha: Number, value: Number) -> ir.Value:
    """Keras: x where x > α, else a value."""
    return op.Where(op.Greater(x, alpha), x, number(op, value, x))


@spelling("ThresholdedRelu")
def threshold_from_below(op: Ops, x: ir.Value, *, alpha: Number, value: Number) -> ir.Value:
    """PyTorch: a value where x ≤ α, else x."""
    return op.Where(op.LessOrEqual(x, alpha), number(op, value, x), x)


# ----- x, and a slope below 0 -----


@spelling("LeakyRelu")
def leaky_relu_by_choice(op: Ops, x: ir.Value, *, alpha: Number) -> ir.Value:
    """torch.where(x > 0, x, α·x)."""
    return op.Where(op.Greater(x, 0.0), x, op.Mul(x, alpha))


@spelling("LeakyRelu", allowed=lambda alpha: 0 <= alpha < 1)
def leaky_relu_by_maximum(op: Ops, x: ir.Value, *, alpha: Number) -> ir.Value:
    """tf.maximum(x, α·x)."""
    return op.Max(x, op.Mul(x, alpha))


# ----- Keras's relu(x, negative_slope, max_value, threshold) -----


def _above(op: Ops, x: ir.Value, threshold: Number) -> ir.Value:
    return op.Where(op.Greater(x, threshold), x, op.number(0.0, x))


def _below(op: Ops, x: ir.Value, slope: Number) -> ir.Value:
    return op.Mul(op.Relu(op.Neg(x)), slope)


def _below_threshold(op: Ops, x: ir.Value, slope: Number, threshold: Number) -> ir.Value:
    return op.Mul(op.Relu(op.Add(op.Neg(x), threshold)), slope)


def _limited(op: Ops, x: ir.Value, limit: Number) -> ir.Value:
    return _min_max(op, op.Relu(x), limit)


@spelling("SlopedRelu")
def limited_relu(op: Ops, x: ir.Value, *, limit: Number) -> ir.Value:
    """Keras: max_value."""
    return _limited(op, x, limit)


@spelling("SlopedRelu")
def limited_relu_by_minimum(op: Ops, x: ir.Value, *, limit: Number) -> ir.Value:
    """relu(x).clamp(max=…), min(relu(x), …)."""
    return _relu_min(op, x, limit)


@spelling("SlopedRelu")
def limited_threshold(op: Ops, x: ir.Value, *, threshold: Number, limit: Number) -> ir.Value:
    """Keras: threshold and max_value."""
    return _min_max(op, _above(op, x, threshold), limit)


@spelling("SlopedRelu")
def sloped_relu(op: Ops, x: ir.Value, *, slope: Number) -> ir.Value:
    """TensorFlow: relu(x) − slope·relu(−x)."""
    return op.Sub(op.Relu(x), _below(op, x, slope))


@spelling("SlopedRelu")
def sloped_relu6(op: Ops, x: ir.Value, *, slope: Number, limit: Number) -> ir.Value:
    """Keras: negative_slope and max_value 6."""
    return op.Sub(_clip(op, x, limit), _below(op, x, slope))


@spelling("SlopedRelu")
def sloped_limited_relu(op: Ops, x: ir.Value, *, slope: Number, limit: Number) -> ir.Value:
    """Keras: negative_slope and max_value."""
    return op.Sub(_limited(op, x, limit), _below(op, x, slope))


@spelling("SlopedRelu")
def sloped_threshold(op: Ops, x: ir.Value, *, slope: Number, threshold: Number) -> ir.Value:
    """Keras: negative_slope and threshold."""
    return op.Sub(_above(op, x, threshold), _below_threshold(op, x, slope, threshold))


@spelling("SlopedRelu")
def sloped_limited_threshold(op: Ops, x: ir.Value, *, slope: Number, threshold: Number, limit: Number) -> ir.Value:
    """Keras: all three."""
    upper = _min_max(op, _above(op, x, threshold), limit)
    return op.Sub(upper, _below_threshold(op, x, slope, threshold))


# ----- x, and an exponential tail below 0 -----


@spelling("Elu")
def elu_by_choice(op: Ops, x: ir.Value, *, alpha: Number) -> ir.Value:
    """Keras: TensorFlow's elu, its negative side times α."""
    unit = op.Elu(x, alpha=1.0)
    return op.Where(op.Greater(x, 0.0), unit, op.Mul(unit, alpha))


@spelling("Celu")
def celu(op: Ops, x: ir.Value, *, alpha: Number) -> ir.Value:
    """Keras: max(x, 0) + α·(exp(min(x, 0)/α) − 1)."""
    tail = op.Sub(op.Exp(op.Div(op.Min(x, 0.0), alpha)), 1.0)
    return op.Add(op.Max(x, 0.0), op.Mul(tail, alpha))


# ----- 0 where |x| ≤ λ -----


@spelling("Shrink")
def soft_shrink(op: Ops, x: ir.Value, *, lambd: Number, bias: Number) -> ir.Value:
    """PyTorch."""
    moved = op.Sub(x, op.Mul(op.Sign(x), bias))
    return op.Where(op.Greater(op.Abs(x), lambd), moved, op.Mul(x, 0.0))


@spelling("Shrink")
def soft_shrink_by_sides(op: Ops, x: ir.Value, *, lambd: Number, bias: Number) -> ir.Value:
    """Keras."""
    left = op.Where(op.Less(x, negative(lambd)), op.Add(x, bias), op.number(0.0, x))
    return op.Where(op.Greater(x, lambd), op.Sub(x, bias), left)


@spelling("Shrink")
def hard_shrink(op: Ops, x: ir.Value, *, lambd: Number) -> ir.Value:
    """Keras."""
    return op.Where(op.Greater(op.Abs(x), lambd), x, op.number(0.0, x))


@spelling("Shrink")
def hard_shrink_from_within(op: Ops, x: ir.Value, *, lambd: Number) -> ir.Value:
    """PyTorch."""
    return op.Where(op.LessOrEqual(op.Abs(x), lambd), op.number(0.0, x), x)
