"""Sampling an image at places that are computed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, static_dims


@vjp("GridSample")
def grid_sample(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    grid: ir.Value,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
) -> Gradients:
    """y is x at the places of the grid; of the nearest pixels only x has a gradient, the grid's is 0."""
    how = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    return op.GridSampleGrad(dy, x, grid, **how), op.GridSampleGridGrad(dy, x, grid, **how)


@vjp("RoiAlign")
def roi_align(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    rois: ir.Value,
    batch: ir.Value,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Gradients:
    """y is x sampled linearly at s × s places in each bin of each region, and averaged: y = A·x·Bᵀ with a matrix A for
    the rows and B for the columns of each region, so dx = Σ Aᵀ·dy·B over the regions of a sample.

    The regions get no gradient, and need none unless they are computed from the input without a detour by selection.
    """
    if mode != "avg" or sampling_ratio < 1:
        raise unsupported(
            y,
            f"supports mode='avg' with sampling_ratio ≥ 1 only, not mode={mode!r}, sampling_ratio={sampling_ratio}: "
            f"without a ratio the number of samples depends on each region's size",
        )
    aligned = coordinate_transformation_mode == "half_pixel"
    scaled = op.Add(op.Mul(rois, spatial_scale), -0.5 if aligned else 0.0)
    x1, y1, x2, y2 = op.several("Split", 4, scaled, axis=1, num_outputs=4)
    rows = _bins(op, y1, y2, op.Shape(x, start=2, end=3), output_height, sampling_ratio, aligned=aligned)
    columns = _bins(op, x1, x2, op.Shape(x, start=3, end=4), output_width, sampling_ratio, aligned=aligned)
    samples = op.Squeeze(op.Shape(x, end=1))
    numbers = op.Range(op.constant(np.array(0, np.int64)), samples, op.constant(np.array(1, np.int64)))
    belongs = op.cast_like(op.Equal(op.Unsqueeze(numbers, [1]), op.Unsqueeze(batch, [0])), x)  # (N, regions)
    across = op.MatMul(dy, op.Unsqueeze(columns, [1]))  # (regions, C, bins, W)
    across = op.Flatten(op.Transpose(across, perm=[0, 2, 1, 3]), axis=2)  # (regions·bins, C·W)
    down = op.Mul(op.Unsqueeze(belongs, [2, 3]), rows)  # (N, regions, bins, H)
    down = op.Reshape(op.Transpose(down, perm=[0, 3, 1, 2]), [0, 0, -1])  # (N, H, regions·bins)
    dx = op.Reshape(op.MatMul(down, across), [0, 0, static_dims(x, 1, 2)[0], -1])
    return op.Transpose(dx, perm=[0, 2, 1, 3])


def _bins(
    op: Ops, start: ir.Value, stop: ir.Value, size: ir.Value, bins: int, samples: int, *, aligned: bool
) -> ir.Value:
    """(regions, bins, pixels): what each pixel along an axis counts in the mean over each bin of each region."""
    extent = op.Sub(stop, start) if aligned else op.Max(op.Sub(stop, start), 1.0)
    offsets = (np.arange(bins * samples) + 0.5) / (bins * samples)
    places = op.Add(start, op.Mul(extent, op.cast_like(op.constant(offsets), start)))
    length = op.cast_like(size, start)
    counted = op.And(op.GreaterOrEqual(places, -1.0), op.LessOrEqual(places, length))
    held = op.Min(op.Max(places, 0.0), op.Sub(length, 1.0))
    one, step = op.constant(np.array(1, np.int64)), op.constant(np.array(0, np.int64))
    pixels = op.cast_like(op.Range(step, op.Squeeze(size), one), start)
    near = op.Relu(op.Sub(op.number(1.0, start), op.Abs(op.Sub(op.Unsqueeze(held, [2]), pixels))))
    weights = op.Mul(near, op.Unsqueeze(op.cast_like(counted, start), [2]))
    return op.ReduceMean(op.Reshape(weights, [0, bins, samples, -1]), [2], keepdims=0)
