"""Arithmetic, element by element. The backward pass sums the gradients of what was broadcast."""

from __future__ import annotations

import math
from functools import reduce

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, no_gradient, unsupported, vjp
from onnxviz.gradient.tape import Ops

# Steps and choices, whose derivative is 0 wherever there is one.
no_gradient("Floor", "Ceil", "Round", "Sign", "ArgMax", "ArgMin", "Hardmax", "NonZero", "NonMaxSuppression", "OneHot")
no_gradient("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf", "Bernoulli", "Multinomial")
# What reads only shapes, truth values, integers or strings, or nothing.
no_gradient("Shape", "Size", "Range", "Constant", "ConstantOfShape", "EyeLike", "SequenceLength", "OptionalHasElement")
no_gradient("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "StringNormalizer")
no_gradient("Not", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor")
no_gradient("TfIdfVectorizer", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")


# ----- one input -----


@vjp("Identity")
def identity(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = x."""
    return dy


@vjp("Cast")
def cast(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, to: int) -> Gradients:
    """y = x in another float type; to integers nothing flows back, and quantised ones have a float's gradient."""
    return dy if x.dtype is not None and x.dtype.is_integer() else op.cast_like(dy, x)


@vjp("CastLike")
def cast_like(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, like: ir.Value) -> Gradients:
    """y = x in the type of ``like``, whose values do not matter."""
    return op.cast_like(dy, x), op.zeros_like(like)


@vjp("Dropout")
def dropout(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    ratio: ir.Value | None = None,
    training: ir.Value | None = None,
    *,
    seed: int | None = None,
) -> Gradients:
    """y = x, which is what Dropout does at inference."""
    if training is not None:
        mode = ir.convenience.get_const_tensor(training)
        if mode is None or mode.numpy().any():
            raise unsupported(y, "needs training_mode to be constant and false: convert the model for inference")
    return dy


@vjp("Exp")
def exp(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = y·dy."""
    return op.Mul(dy, y)


@vjp("Log")
def log(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/x."""
    return op.Div(dy, x)


@vjp("Neg")
def neg(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = −dy."""
    return op.Neg(dy)


@vjp("Abs")
def absolute(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = sign(x)·dy, 0 at 0."""
    return op.Mul(dy, op.Sign(x))


@vjp("Sqrt")
def sqrt(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/(2y)."""
    return op.Div(op.Mul(dy, 0.5), y)


@vjp("Reciprocal")
def reciprocal(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """y = 1/x: dx = −y²·dy."""
    return op.Neg(op.Mul(dy, op.Mul(y, y)))


@vjp("Erf")
def erf(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = 2/√π·exp(−x²)·dy."""
    return op.Mul(dy, op.Mul(op.Exp(op.Neg(op.Mul(x, x))), 2.0 / math.sqrt(math.pi)))


# ----- several inputs -----


@vjp("Add", broadcast=True)
def add(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a + b."""
    return dy, dy


@vjp("Sub", broadcast=True)
def sub(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a − b."""
    return dy, op.Neg(dy)


@vjp("Mul", broadcast=True)
def mul(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a·b."""
    return op.Mul(dy, b), op.Mul(dy, a)


@vjp("Div", broadcast=True)
def div(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a/b: da = dy/b, db = −y·dy/b."""
    da = op.Div(dy, b)
    return da, op.Neg(op.Mul(da, y))


@vjp("Pow", broadcast=True)
def power(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, p: ir.Value) -> Gradients:
    """y = x^p: dx = p·x^(p−1)·dy, 0 where p = 0; dp = y·log(x)·dy, 0 where x = 0."""
    exponent = ir.convenience.get_const_tensor(p)
    if exponent is not None and exponent.size == 1:
        value = float(exponent.numpy().item())
        if value == 0.5:
            return op.Div(op.Mul(dy, 0.5), y), None
        if value == 2.0:
            return op.Mul(dy, op.Mul(x, 2.0)), None
        if value != 0.0:
            return op.Mul(dy, op.Mul(op.Pow(x, op.number(value - 1.0, x)), value)), None
    zero = op.number(0.0, x)
    q = op.cast_like(p, x)
    slope = op.Mul(q, op.Pow(x, op.Sub(q, 1.0)))
    dx = op.Mul(dy, op.Where(op.Equal(q, 0.0), zero, slope))
    dp = op.Mul(dy, op.Where(op.Equal(x, 0.0), zero, op.Mul(y, op.Log(x))))
    return dx, dp


@vjp("Mod", broadcast=True)
def mod(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value, *, fmod: int = 0) -> Gradients:
    """y = a − n·b with the integer n = (a − y)/b."""
    return dy, op.Neg(op.Mul(dy, op.Round(op.Div(op.Sub(a, y), b))))


@vjp("Where", broadcast=True)
def where(op: Ops, dy: ir.Value, y: ir.Value, condition: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a where the condition holds, else b."""
    zero = op.number(0.0, dy)
    return None, op.Where(condition, dy, zero), op.Where(condition, zero, dy)


@vjp("Sum", broadcast=True)
def total(op: Ops, dy: ir.Value, y: ir.Value, *xs: ir.Value) -> Gradients:
    """y = x₁ + x₂ + …"""
    return [dy] * len(xs)


@vjp("Mean", broadcast=True)
def mean(op: Ops, dy: ir.Value, y: ir.Value, *xs: ir.Value) -> Gradients:
    """y = (x₁ + x₂ + …)/n."""
    return [op.Mul(dy, 1.0 / len(xs))] * len(xs)


@vjp("Max", "Min", broadcast=True)
def extremum(op: Ops, dy: ir.Value, y: ir.Value, *xs: ir.Value) -> Gradients:
    """dy goes to the input that is y; several that are share it equally, as in PyTorch."""
    if len(xs) == 1:
        return dy
    shares = [op.cast_like(op.Equal(x, y), y) for x in xs]
    share = op.Div(dy, reduce(op.Add, shares))
    return [op.Mul(share, taken) for taken in shares]
