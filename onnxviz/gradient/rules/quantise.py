"""Quantised values. Rounding is passed straight through (Bengio et al. 2013, arXiv:1308.3432), clipping is not.

The cotangent of a quantised value is a float: the gradient with respect to that number, were it not rounded.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, quantiser, vjp
from onnxviz.gradient.tape import Ops, dims
from onnxviz.gradient.training_ops import MICROSOFT

quantiser("QuantizeLinear", "DynamicQuantizeLinear")
quantiser("QuantizeLinear", domain=MICROSOFT)  # which has 16 bits


@vjp("QuantizeLinear")
@vjp("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    scale: ir.Value,
    zero: ir.Value | None = None,
    *,
    axis: int = 1,
) -> Gradients:
    """y = round(x/scale) + zero, held in the range of its type: dx = dy/scale in that range, 0 outside."""
    limits = np.iinfo((y.dtype or ir.DataType.UINT8).numpy())
    step = _along(op, scale, x, axis)
    level = op.Round(op.Div(x, step))
    if zero is not None:
        level = op.Add(level, op.cast_like(_along(op, zero, x, axis), x))
    inside = op.And(op.GreaterOrEqual(level, float(limits.min)), op.LessOrEqual(level, float(limits.max)))
    return op.Where(inside, op.Div(dy, step), op.number(0.0, dy))


@vjp("DequantizeLinear")
@vjp("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    scale: ir.Value,
    zero: ir.Value | None = None,
    *,
    axis: int = 1,
) -> Gradients:
    """y = (x − zero)·scale."""
    return op.Mul(dy, _along(op, scale, x, axis))


def _along(op: Ops, parameter: ir.Value, x: ir.Value, axis: int) -> ir.Value:
    """A scalar as it is; one value per element of the axis in a shape that broadcasts over x."""
    rank = len(dims(x))
    if not dims(parameter):
        return parameter
    return op.Reshape(parameter, [-1 if i == axis % rank else 1 for i in range(rank)])
