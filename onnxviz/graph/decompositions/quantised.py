"""Quantised numbers in forms that opset 18 lacks: of 2, 4 or 16 bits, or with a scale for each block."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops, dims
from onnxviz.graph.decompositions.registry import MICROSOFT, NEWER, NotDecomposed, constant, covered, decomposition
from onnxviz.source import Array

_BYTES = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32)
"""The types that opset 18 dequantises."""
_SHORTS = (ir.DataType.INT16, ir.DataType.UINT16)
"""Types that ONNX Runtime's own operator set has besides."""


@decomposition("DequantizeLinear", domain=MICROSOFT)
@decomposition("DequantizeLinear", domain=NEWER)
def dequantize_linear(
    op: Ops,
    x: ir.Value,
    scale: ir.Value,
    zero: ir.Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> ir.Value:
    """Of bytes the operator of opset 13; a constant of another type is dequantised once: the file stores floats."""
    covered({"output_dtype": output_dtype})
    axis = axis % max(len(dims(x)), 1)
    if x.dtype in _BYTES and not block_size:
        return _typed(op.DequantizeLinear(x, scale, zero, axis=axis), scale.dtype)
    if ir.convenience.get_const_tensor(x) is not None:
        return op.constant(_dequantised(x, scale, zero, axis, block_size))
    if x.dtype in _SHORTS and not block_size:
        return _own(op, "DequantizeLinear", x, scale, zero, axis)
    raise NotDecomposed(f"dequantises {x.dtype or 'numbers'} that are no constant" + " by blocks" * bool(block_size))


@decomposition("QuantizeLinear", domain=MICROSOFT)
@decomposition("QuantizeLinear", domain=NEWER)
def quantize_linear(
    op: Ops,
    x: ir.Value,
    scale: ir.Value,
    zero: ir.Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
) -> ir.Value:
    """To bytes the operator of opset 13."""
    covered({"block_size": block_size, "precision": precision})
    wanted = zero.dtype if zero is not None else ir.DataType(output_dtype or ir.DataType.UINT8)
    if zero is None and wanted is not None and wanted != ir.DataType.UINT8:
        zero = op.constant(np.zeros(constant(scale, "scale").shape, wanted.numpy()))
    axis = axis % max(len(dims(x)), 1)
    if wanted in _SHORTS:
        return _own(op, "QuantizeLinear", x, scale, zero, axis)
    if wanted not in _BYTES:
        raise NotDecomposed(f"quantises to {wanted}")
    return _typed(op.QuantizeLinear(x, scale, zero, axis=axis), wanted)


def _typed(y: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    y.type = ir.TensorType(dtype or ir.DataType.UNDEFINED)
    return y


def _own(op: Ops, op_type: str, x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int) -> ir.Value:
    """The operator of ONNX Runtime's own set, which has 16 bits."""
    attributes: list[Any] = [ir.AttrInt64("axis", axis)] if len(dims(scale)) else []
    node = ir.Node(MICROSOFT, op_type, [x, scale, zero], attributes, name=f"{op.prefix}{op_type}")
    node.outputs[0].name = node.name
    op.graph.append(node)
    like = scale if op_type == "DequantizeLinear" else zero
    return _typed(node.outputs[0], like.dtype if like is not None else None)


def _dequantised(x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int, block_size: int) -> Array:
    """(x − zero)·scale in the type of the scale."""
    levels, steps = constant(x, "numbers"), constant(scale, "scale")
    zeros = np.zeros_like(steps) if zero is None else constant(zero, "zero point").astype(steps.dtype)
    steps, zeros = (_stretched(each, levels.shape, axis, block_size) for each in (steps, zeros))
    floats: Array = (levels.astype(steps.dtype) - zeros) * steps
    return floats


def _stretched(parameter: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """One value for all, one per element of the axis, or one per block of it → what broadcasts over the shape."""
    if block_size:
        return np.take(parameter.repeat(block_size, axis), range(shape[axis]), axis)
    return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))]) if parameter.ndim else parameter
