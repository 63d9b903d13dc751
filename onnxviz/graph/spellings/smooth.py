"""Activations without kinks."""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxviz.gradient.tape import Ops
from onnxviz.graph.spellings.registry import Number, spelling

# ----- x·σ(x) -----


@spelling("Silu")
def silu(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch, Keras."""
    return op.Mul(x, op.Sigmoid(x))


@spelling("Silu")
def silu_with_unit_slope(op: Ops, x: ir.Value) -> ir.Value:
    """tf.nn.silu: x·σ(1·x)."""
    return op.Mul(x, op.Sigmoid(op.Mul(x, 1.0)))


@spelling("QuickGelu", allowed=lambda alpha: alpha > 0)
def quick_gelu(op: Ops, x: ir.Value, *, alpha: Number) -> ir.Value:
    """x·σ(αx): CLIP has α = 1.702, tf.nn.silu its β."""
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


# ----- x·Φ(x) -----


def _one_plus_erf(op: Ops, x: ir.Value) -> ir.Value:
    return op.Add(op.Erf(op.Div(x, math.sqrt(2.0))), 1.0)


@spelling("Gelu")
def gelu_half_inside(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by torch.export: x·(½·(1 + erf))."""
    return op.Mul(x, op.Mul(_one_plus_erf(op, x), 0.5))


@spelling("Gelu")
def gelu_half_last(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing: (x·(1 + erf))·½."""
    return op.Mul(op.Mul(x, _one_plus_erf(op, x)), 0.5)


@spelling("Gelu")
def gelu_half_first(op: Ops, x: ir.Value) -> ir.Value:
    """BERT, tf.nn.gelu: (½·x)·(1 + erf)."""
    return op.Mul(op.Mul(x, 0.5), _one_plus_erf(op, x))


@spelling("Gelu")
def gelu_by_reciprocal(op: Ops, x: ir.Value) -> ir.Value:
    """tf.nn.gelu after constant folding: (½·x)·(1 + erf(x·√½))."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1.0))


@spelling("Gelu")
def gelu_by_complement(op: Ops, x: ir.Value) -> ir.Value:
    """keras.activations.gelu: (½·x)·erfc(−x·√½), with erfc = 1 − erf."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Neg(op.Erf(op.Mul(op.Neg(x), math.sqrt(0.5)))), 1.0))


# ----- x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 -----


def _one_plus_tanh(op: Ops, x: ir.Value, cube: ir.Value) -> ir.Value:
    inner = op.Mul(op.Add(x, op.Mul(cube, 0.044715)), math.sqrt(2.0 / math.pi))
    return op.Add(op.Tanh(inner), 1.0)


@spelling("FastGelu")
def fast_gelu_half_inside(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by torch.export."""
    return op.Mul(x, op.Mul(_one_plus_tanh(op, x, op.Pow(x, 3.0)), 0.5))


@spelling("FastGelu")
def fast_gelu_half_last(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing."""
    return op.Mul(op.Mul(x, _one_plus_tanh(op, x, op.Mul(x, op.Mul(x, x)))), 0.5)


@spelling("FastGelu")
def fast_gelu_half_first(op: Ops, x: ir.Value) -> ir.Value:
    """GPT-2, tf.nn.gelu."""
    return op.Mul(op.Mul(x, 0.5), _one_plus_tanh(op, x, op.Pow(x, 3.0)))


@spelling("FastGelu")
def fast_gelu_factored(op: Ops, x: ir.Value) -> ir.Value:
    """transformers' gelu_fast: x³ taken apart."""
    inner = op.Mul(op.Mul(x, math.sqrt(2.0 / math.pi)), op.Add(op.Mul(op.Mul(x, 0.044715), x), 1.0))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0))


# ----- log(1 + exp(x)), and what is made of it -----


@spelling("Softplus")
def softplus_with_threshold(op: Ops, x: ir.Value, *, beta: Number, threshold: Number) -> ir.Value:
    """PyTorch: log(1 + exp(βx))/β, and x where βx is above the threshold."""
    scaled = op.Mul(x, beta)
    return op.Where(op.Greater(scaled, threshold), x, op.Div(op.Softplus(scaled), beta))


@spelling("Mish")
def mish(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's export by tracing, Keras."""
    return op.Mul(x, op.Tanh(op.Softplus(x)))


@spelling("Mish")
def mish_with_threshold(op: Ops, x: ir.Value) -> ir.Value:
    """x·tanh(torch.nn.functional.softplus(x))."""
    return op.Mul(x, op.Tanh(softplus_with_threshold(op, x, beta=1.0, threshold=20.0)))


@spelling("LogSigmoid")
def log_sigmoid_by_softplus(op: Ops, x: ir.Value) -> ir.Value:
    """tf.math.log_sigmoid, Keras."""
    return op.Neg(op.Softplus(op.Neg(x)))


@spelling("LogSigmoid")
def log_sigmoid(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch's own exporters."""
    return op.Log(op.Sigmoid(x))


# ----- algebraic -----


@spelling("Softsign")
def softsign(op: Ops, x: ir.Value) -> ir.Value:
    """PyTorch: x/(1 + |x|)."""
    return op.Div(x, op.Add(op.Abs(x), 1.0))


@spelling("Squareplus", allowed=lambda b: b > 0)
def squareplus(op: Ops, x: ir.Value, *, b: Number) -> ir.Value:
    """Keras: (x + √(x² + b))/2."""
    return op.Div(op.Add(x, op.Sqrt(op.Add(op.Mul(x, x), b))), 2.0)
