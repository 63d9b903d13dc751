"""Operators of later opsets that the specification does not define by others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops, dims
from onnxviz.graph.decompositions.registry import (
    NEWER,
    NotDecomposed,
    constant,
    counted,
    decomposition,
    measured_shape,
    size,
)


@decomposition("DFT", domain=NEWER)
def dft(
    op: Ops,
    x: ir.Value,
    length: ir.Value | None = None,
    axis: ir.Value | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> ir.Value:
    """The operator of opset 17, whose axis was an attribute and counted from the front."""
    along = -2 if axis is None else int(constant(axis, "axis").item())
    return op.DFT(x, length, axis=along % len(dims(x)), inverse=inverse, onesided=onesided)


@decomposition("TensorScatter", domain=NEWER)
def tensor_scatter(
    op: Ops,
    cache: ir.Value,
    update: ir.Value,
    starts: ir.Value | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> ir.Value:
    """The cache (N, …) with the update written along an axis, in each sample from another position on."""
    rank = len(dims(cache))
    axis %= rank
    where = op.Unsqueeze(counted(op, size(op, update, axis)), [0])
    if starts is not None:
        where = op.Add(where, op.Unsqueeze(starts, [1]))
    if mode == "circular":
        where = op.Mod(where, size(op, cache, axis))
    spread = op.Unsqueeze(where, [i for i in range(1, rank) if i != axis])
    return op.ScatterElements(cache, op.Expand(spread, op.Shape(update)), update, axis=axis)


@decomposition("Pad", domain=NEWER)
def pad(
    op: Ops,
    x: ir.Value,
    pads: ir.Value,
    value: ir.Value | None = None,
    axes: ir.Value | None = None,
    *,
    mode: str,
) -> ir.Value:
    """Mode ``wrap``: along each axis the elements go on from the other end."""
    del value, mode
    amounts = constant(pads, "pads").reshape(2, -1)
    along = range(len(dims(x))) if axes is None else [int(i) % len(dims(x)) for i in constant(axes, "axes")]
    y = x
    for axis, (before, after) in zip(along, amounts.T, strict=True):
        if before or after:
            length = size(op, x, axis)
            steps = counted(op, op.Add(length, op.constant(np.array([before + after]))))
            places = op.Mod(op.Sub(steps, op.constant(np.array(before))), length)
            y = op.Gather(y, places, axis=axis)
    return y


@decomposition("AffineGrid", domain=NEWER)
def affine_grid(op: Ops, theta: ir.Value, sizes: ir.Value, *, align_corners: int = 0) -> ir.Value:
    """θ·(x, y, 1) at every position of a grid of −1 … 1, or (x, y, z, 1); the sizes are (N, C, D?, H, W).

    The specification's function gives Range tensors of one element, which ONNX Runtime refuses where they are fixed.
    """
    rank = measured_shape(sizes)[0] - 2
    lengths = [op.Slice(sizes, [2 + axis], [3 + axis], [0]) for axis in range(rank)]
    lines = [op.Unsqueeze(_line(op, n, theta, align_corners), _except(axis, rank)) for axis, n in enumerate(lengths)]
    full = op.Concat(*lengths, axis=0)
    ones = op.Expand(op.number(1.0, theta), full)
    parts = [*(op.Expand(line, full) for line in reversed(lines)), ones]
    points = op.Reshape(op.Concat(*(op.Unsqueeze(part, [rank]) for part in parts), axis=rank), [1, -1, rank + 1])
    moved = op.MatMul(points, op.Transpose(theta, perm=[0, 2, 1]))
    return op.Reshape(moved, _shape(op, [-1], op.Concat(full, op.constant(np.array([rank])), axis=0)))


def _line(op: Ops, length: ir.Value, like: ir.Value, align_corners: int) -> ir.Value:
    """So many positions from −1 to 1, which are the centres of the first and last pixel, or their outer edges."""
    steps, count = op.cast_like(counted(op, length), like), op.cast_like(length, like)
    if align_corners:
        return op.Sub(op.Div(op.Mul(steps, 2.0), op.Sub(count, 1.0)), 1.0)
    return op.Sub(op.Div(op.Add(op.Mul(steps, 2.0), 1.0), count), 1.0)


def _except(axis: int, rank: int) -> list[int]:
    return [i for i in range(rank) if i != axis]


@decomposition("DeformConv", domain=NEWER)
def deform_conv(
    op: Ops,
    x: ir.Value,
    w: ir.Value,
    offset: ir.Value,
    bias: ir.Value | None = None,
    mask: ir.Value | None = None,
    *,
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    offset_group: int = 1,
    pads: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
) -> ir.Value:
    """Deformable convolution (Dai et al. 2017, arXiv:1703.06211; with a mask Zhu et al. 2018, arXiv:1811.11168).

    A GridSample writes what every window sees side by side; a Conv whose stride is its kernel sums each window up.
    """
    if len(dims(x)) != 4:
        raise NotDecomposed(f"works on {len(dims(x)) - 2} spatial axes")
    per_group, *kernel = constant(w, "weight").shape[1:]
    assert list(kernel_shape or kernel) == kernel
    channels = per_group * group
    by_tap = _spread(op, offset, [offset_group, *kernel, 2], last=[6])
    down, right = (
        op.Add(
            op.Gather(by_tap, op.constant(np.array(i)), axis=6),
            _taps(op, x, offset, i, kernel, strides, pads, dilations),
        )
        for i in (0, 1)
    )
    grid = op.Concat(op.Unsqueeze(_unit(op, right, x, 3), [6]), op.Unsqueeze(_unit(op, down, x, 2), [6]), axis=6)
    seen = op.GridSample(
        op.Reshape(x, _shape(op, [-1, channels // offset_group], op.Shape(x, start=2))),
        _windows(op, grid, kernel, [2]),
        mode="bilinear",
    )
    if mask is not None:
        seen = op.Mul(seen, op.Unsqueeze(_windows(op, _spread(op, mask, [offset_group, *kernel]), kernel, []), [1]))
    seen = op.Reshape(seen, _shape(op, [-1, channels], op.Shape(seen, start=2)))
    return op.Conv(seen, w, bias, group=group, kernel_shape=kernel, strides=kernel)


def _spread(op: Ops, x: ir.Value, parts: list[int], last: Sequence[int] = ()) -> ir.Value:
    """(N, groups·kH·kW·…, H, W) → (N, groups, H, kH, W, kW, …)."""
    split = op.Reshape(op.Transpose(x, perm=[0, 2, 3, 1]), [0, 0, 0, *parts])
    return op.Transpose(split, perm=[0, 3, 1, 4, 2, 5, *last])


def _taps(
    op: Ops,
    x: ir.Value,
    offset: ir.Value,
    axis: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> ir.Value:
    """Where the taps of a plain convolution lie along a spatial axis: (H, kH, 1, 1) or (W, kW)."""
    taps = np.arange(kernel[axis]) * dilations[axis] - pads[axis]
    starts = op.Mul(counted(op, size(op, offset, 2 + axis)), op.constant(np.array(strides[axis])))
    positions = op.cast_like(op.Add(op.Unsqueeze(starts, [1]), op.constant(taps)), x)
    return positions if axis else op.Unsqueeze(positions, [2, 3])


def _unit(op: Ops, positions: ir.Value, x: ir.Value, axis: int) -> ir.Value:
    """Positions in pixels → GridSample's, −1 and 1 at the outer edges of the first and the last pixel."""
    return op.Sub(op.Div(op.Add(op.Mul(positions, 2.0), 1.0), op.cast_like(size(op, x, axis), x)), 1.0)


def _windows(op: Ops, x: ir.Value, kernel: Sequence[int], rest: list[int]) -> ir.Value:
    """(N, groups, H, kH, W, kW, …) → (N·groups, H·kH, W·kW, …)."""
    sides = [op.Mul(size(op, x, axis), op.constant(np.array(k))) for axis, k in zip((2, 4), kernel, strict=True)]
    return op.Reshape(x, op.Concat(op.constant(np.array([-1])), *sides, op.constant(np.array(rest, np.int64)), axis=0))


def _shape(op: Ops, front: Sequence[int], rest: ir.Value) -> ir.Value:
    return op.Concat(op.constant(np.array(front)), rest, axis=0)
