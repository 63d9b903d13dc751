"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, vjp
from onnxviz.gradient.tape import Ops


@vjp("Sin")
def sin(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = cos(x)·dy."""
    return op.Mul(dy, op.Cos(x))


@vjp("Cos")
def cos(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = −sin(x)·dy."""
    return op.Neg(op.Mul(dy, op.Sin(x)))


@vjp("Tan")
def tan(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = (1 + y²)·dy."""
    return op.Mul(dy, op.Add(op.Mul(y, y), 1.0))


@vjp("Asin")
def asin(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/√(1 − x²)."""
    return op.Div(dy, _cathetus(op, x))


@vjp("Acos")
def acos(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = −dy/√(1 − x²)."""
    return op.Neg(op.Div(dy, _cathetus(op, x)))


@vjp("Atan")
def atan(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/(1 + x²)."""
    return op.Div(dy, op.Add(op.Mul(x, x), 1.0))


@vjp("Sinh")
def sinh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = cosh(x)·dy."""
    return op.Mul(dy, op.Cosh(x))


@vjp("Cosh")
def cosh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = sinh(x)·dy."""
    return op.Mul(dy, op.Sinh(x))


@vjp("Asinh")
def asinh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/√(x² + 1)."""
    return op.Div(dy, op.Sqrt(op.Add(op.Mul(x, x), 1.0)))


@vjp("Acosh")
def acosh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/√(x² − 1)."""
    return op.Div(dy, op.Sqrt(op.Mul(op.Sub(x, 1.0), op.Add(x, 1.0))))


@vjp("Atanh")
def atanh(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value) -> Gradients:
    """dx = dy/(1 − x²)."""
    one = op.number(1.0, x)
    return op.Div(dy, op.Mul(op.Sub(one, x), op.Add(x, one)))


def _cathetus(op: Ops, x: ir.Value) -> ir.Value:
    """√(1 − x²), as a product, which does not cancel near ±1."""
    one = op.number(1.0, x)
    return op.Sqrt(op.Mul(op.Sub(one, x), op.Add(x, one)))
