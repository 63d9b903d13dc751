"""Resizing. It is linear and acts on each axis by itself, so that a matrix per axis says all about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.errors import OpenSizeError
from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, constant_ints, dims, static_dims

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
    """dx = Aᵀ·dy along each resized axis; A is what Resize itself makes of the identity matrix."""
    along = range(len(dims(x))) if axes is None else [axis % len(dims(x)) for axis in axes]
    factors = _factors(y, x, scales, sizes, along, keep_aspect_ratio_policy)
    crops = _crops(y, roi, along, factors) if coordinate_transformation_mode == "tf_crop_and_resize" else {}
    copies = {axis: round(factor) for axis, factor in factors.items() if factor is not None}
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
    by_scale = sizes is None or keep_aspect_ratio_policy != "stretch"
    for axis, factor in factors.items():
        matrix = _matrix(op, y, x, axis, factor if by_scale else None, crops.get(axis, (0.0, 1.0)), attributes)
        dy = _along(op, dy, op.cast_like(matrix, x), axis, len(dims(x)))
    return dy


def _matrix(
    op: Ops,
    y: ir.Value,
    x: ir.Value,
    axis: int,
    scale: float | None,
    crop: tuple[float, float],
    attributes: dict[str, Any],
) -> ir.Value:
    """A (m, n), computed as y was, from a scale or from a size, so that both round alike."""
    n, m = op.size(x, axis), op.size(y, axis)
    if isinstance(n, int):
        identity = op.constant(np.eye(n, dtype=np.float32))
    else:
        identity = op.EyeLike(op.Expand(op.constant(np.array(0, np.float32)), op.Concat(n, n, axis=0)))
    region = op.constant(np.array([crop[0], 0.0, crop[1], 1.0], np.float32))
    if scale is not None:
        return op.Resize(identity, region, op.constant(np.array([scale, 1.0], np.float32)), None, **attributes)
    return op.Resize(identity, region, None, op.joined([m, n]), **attributes)


def _crops(
    y: ir.Value, roi: ir.Value | None, along: Sequence[int], factors: Mapping[int, float | None]
) -> dict[int, tuple[float, float]]:
    """Axis → start and end of what is taken of it, as parts of its length, of the axes that are cropped.

    Where no axis changes its size, onnxruntime copies x without cropping it.
    """
    given = None if roi is None else ir.convenience.get_const_tensor(roi)
    if given is None:
        raise unsupported(y, "needs a constant roi for tf_crop_and_resize")
    starts, ends = given.numpy().reshape(2, -1)
    regions = {axis: (float(a), float(b)) for axis, a, b in zip(along, starts, ends, strict=True)}
    crops = {axis: region for axis, region in regions.items() if region != (0.0, 1.0)}
    if factors and (same := crops.keys() - factors.keys()):
        raise unsupported(y, f"does not support a crop along axis {min(same)}, which keeps its size")
    return crops


def _factors(
    y: ir.Value, x: ir.Value, scales: ir.Value | None, sizes: ir.Value | None, along: Sequence[int], policy: str
) -> dict[int, float | None]:
    """Axis → scale, of the axes that change; None where only the run can tell."""
    if scales is not None and (given := ir.convenience.get_const_tensor(scales)) and given.size:
        return {i: float(scale) for i, scale in zip(along, given.numpy(), strict=True) if scale != 1.0}
    pairs = enumerate(zip(dims(x), dims(y), strict=True))
    changes = {i: pair for i, pair in pairs if i in along and (pair[0] != pair[1] or pair[0] is None)}
    before = {i: n for i, (n, _) in changes.items() if isinstance(n, int)}
    after = {i: m for i, (_, m) in changes.items() if isinstance(m, int)}
    if policy == "stretch":
        return {i: after[i] / before[i] if i in before and i in after else None for i in changes}
    if not before.keys() == after.keys() == changes.keys():
        raise OpenSizeError(
            f"a Resize with keep_aspect_ratio_policy={policy!r} needs fixed sizes along the axes that change; they go "
            f"from {list(dims(x))} to {list(dims(y))}"
        )
    wanted = None if sizes is None else constant_ints(sizes)
    if wanted is None:
        raise unsupported(y, f"needs constant sizes for keep_aspect_ratio_policy={policy!r}")
    ratios = [w / static_dims(x, i)[0] for i, w in zip(along, wanted, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    if any(int(scale * before[i]) != after[i] for i in changes):
        raise unsupported(y, f"does not support keep_aspect_ratio_policy={policy!r} where a size is rounded up")
    return dict.fromkeys(changes, scale)


def _summed_blocks(op: Ops, dy: ir.Value, x: ir.Value, copies: dict[int, int]) -> ir.Value:
    """Pixels repeated an integer number of times: the copies lie side by side, and their gradients are summed."""
    split: list[int | ir.Value] = []
    for i in range(len(dims(x))):
        split += [op.size(x, i), *([copies[i]] if i in copies else [])]
    summed = [i + 1 + sum(j < i for j in copies) for i in copies]
    return op.ReduceSum(op.arranged(dy, split), summed, keepdims=0)


def _along(op: Ops, dy: ir.Value, matrix: ir.Value, axis: int, rank: int) -> ir.Value:
    """matrixᵀ·dy along one axis: (…, m, …) → (…, n, …)."""
    if axis == rank - 1:
        return op.MatMul(dy, matrix)
    if axis == rank - 2:
        return op.MatMul(op.Transpose(matrix, perm=[1, 0]), dy)
    swap = [rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank)]
    return op.Transpose(op.MatMul(op.Transpose(dy, perm=swap), matrix), perm=swap)
