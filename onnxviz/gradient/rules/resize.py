"""Resizing. It is linear and acts on each axis by itself, so that a matrix per axis says all about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, dims, static_dims

_REPLICATING = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil")}
"""How nearest pixels are found such that an integer scale k repeats each pixel k times."""


@vjp("Resize")
def resize(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    roi: ir.Value | None = None,
    scales: ir.Value | None = None,
    sizes: ir.Value | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    axes: list[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Gradients:
    """dx = Aᵀ·dy along each resized axis; A is what Resize itself makes of the identity matrix.

    Repeating pixels an integer number of times is common enough to be done as what it is: dx sums over them.
    """
    if coordinate_transformation_mode == "tf_crop_and_resize" or keep_aspect_ratio_policy != "stretch":
        raise unsupported(y, "does not support cropping and keeping the aspect ratio")
    before, after = dims(x), dims(y)
    factors = _factors(y, before, after, scales, axes)
    copies = {axis: round(factor) for axis, factor in factors.items()}
    if mode == "nearest" and (coordinate_transformation_mode, nearest_mode) in _REPLICATING and copies == factors:
        return _summed_blocks(op, dy, x, copies)
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinate_transformation_mode,
        "nearest_mode": nearest_mode,
        "cubic_coeff_a": cubic_coeff_a,
        "exclude_outside": exclude_outside,
        "antialias": antialias,
    }
    return _by_matrices(op, dy, x, y, factors if sizes is None else None, attributes, list(factors))


def _by_matrices(
    op: Ops,
    dy: ir.Value,
    x: ir.Value,
    y: ir.Value,
    scales: dict[int, float] | None,
    attributes: dict[str, Any],
    axes: Sequence[int],
) -> ir.Value:
    """Aᵀ·dy along each axis. A is computed as y was, from a scale or from a size, so that both round alike."""
    for axis in axes:
        n, m = static_dims(x, axis)[0], static_dims(y, axis)[0]
        target = (None, [m, n]) if scales is None else (op.constant(np.array([scales[axis], 1.0], np.float32)), None)
        matrix = op.Resize(op.constant(np.eye(n, dtype=np.float32)), None, *target, **attributes)  # (m, n)
        dy = _along(op, dy, op.cast_like(matrix, x), axis, len(dims(x)))
    return dy


def _factors(
    y: ir.Value, before: tuple[Any, ...], after: tuple[Any, ...], scales: ir.Value | None, axes: list[int] | None
) -> dict[int, float]:
    """Axis → scale, of the axes that change."""
    if scales is None or not (given := ir.convenience.get_const_tensor(scales)) or not given.size:
        changed = [i for i in range(len(before)) if before[i] != after[i]]
        if not all(isinstance(size, int) for i in changed for size in (before[i], after[i])):
            raise unsupported(y, f"needs fixed sizes along the axes that change; they go from {before} to {after}")
        return {i: after[i] / before[i] for i in changed}
    along = range(len(before)) if axes is None else [axis % len(before) for axis in axes]
    return {i: float(scale) for i, scale in zip(along, given.numpy(), strict=True) if scale != 1.0}


def _summed_blocks(op: Ops, dy: ir.Value, x: ir.Value, copies: dict[int, int]) -> ir.Value:
    """Each pixel's copies lie side by side: their gradients are summed."""
    split: list[int] = []
    for i, size in enumerate(dims(x)):
        split += [size if isinstance(size, int) else -1, *([copies[i]] if i in copies else [])]
    summed = [i + 1 + sum(j < i for j in copies) for i in copies]
    return op.ReduceSum(op.Reshape(dy, split), summed, keepdims=0)


def _along(op: Ops, dy: ir.Value, matrix: ir.Value, axis: int, rank: int) -> ir.Value:
    """matrixᵀ·dy along one axis: (…, m, …) → (…, n, …)."""
    if axis == rank - 1:
        return op.MatMul(dy, matrix)
    if axis == rank - 2:
        return op.MatMul(op.Transpose(matrix, perm=[1, 0]), dy)
    swap = [rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank)]
    return op.Transpose(op.MatMul(op.Transpose(dy, perm=swap), matrix), perm=swap)
