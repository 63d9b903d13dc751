"""Gradients of sampling an image at places that are computed: they go to the image, and to the places.

An image has any number of axes; below, ``taps`` has a list for each of them, first to last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.body import BodyOps
from onnxviz.gradient.tape import dims
from onnxviz.gradient.training_ops import training_op

_CUBIC = -0.75
"""The a of the cubic kernel."""


@dataclass(frozen=True)
class _Tap:
    """One of the pixels along an axis that a sample is made of.

    Attributes:
        index: its number along the axis, within the image.
        weight: what it counts, 0 where it would lie outside and is to count as 0.
        slope: the derivative of the weight with respect to the grid's coordinate.
    """

    index: ir.Value
    weight: ir.Value
    slope: ir.Value


@training_op("GridSampleGrad")
def grid_sample_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, grid: ir.Value, *, mode: str, padding_mode: str, align_corners: int
) -> ir.Value:
    """dx: each pixel that a sample is made of gets its weight times dy."""
    taps = _taps(op, x, grid, mode, padding_mode, align_corners)
    weights = [reduce(op.Mul, (tap.weight for tap in corner)) for corner in product(*taps)]
    shares = op.Mul(op.Reshape(dy, [0, 0, 1, -1]), op.Unsqueeze(op.Concat(*weights, axis=1), [1]))
    return op.scatter_back(shares, _pixels(op, op.positions(x), x, taps), x)


@training_op("GridSampleGridGrad")
def grid_sample_grid_grad(
    op: BodyOps, dy: ir.Value, x: ir.Value, grid: ir.Value, *, mode: str, padding_mode: str, align_corners: int
) -> ir.Value:
    """dgrid: how the weights change with the place, times the pixels, times dy, summed over channels."""
    taps = _taps(op, x, grid, mode, padding_mode, align_corners)
    taken = op.Reshape(_pixels(op, x, x, taps), [0, 0, prod(map(len, taps)), -1])
    products = op.ReduceSum(op.Mul(taken, op.Reshape(dy, [0, 0, 1, -1])), [1], keepdims=0)  # (N, taps, places)
    parts = []
    for moved in reversed(range(len(taps))):  # the grid names the last axis first
        slopes = [
            reduce(op.Mul, (tap.slope if axis == moved else tap.weight for axis, tap in enumerate(corner)))
            for corner in product(*taps)
        ]
        parts.append(op.ReduceSum(op.Mul(products, op.Concat(*slopes, axis=1)), [1], keepdims=0))
    return op.Reshape(op.Concat(*(op.Unsqueeze(part, [2]) for part in parts), axis=2), op.Shape(grid))


def _pixels(op: BodyOps, image: ir.Value, x: ir.Value, taps: list[list[_Tap]]) -> ir.Value:
    """What stands in an image like x where the taps are: (N, C, taps·places)."""
    sizes = [op.Shape(x, start=axis + 2, end=axis + 3) for axis in range(1, len(taps))]
    flat = []
    for first, *others in product(*taps):
        index = first.index
        for size, tap in zip(sizes, others, strict=True):
            index = op.Add(op.Mul(index, size), tap.index)
        flat.append(index)
    target = op.Concat(op.Shape(x, end=2), op.constant(np.array([1], np.int64)), axis=0)
    places = op.Expand(op.Reshape(op.Concat(*flat, axis=1), [0, 1, -1]), target)
    return op.GatherElements(op.Reshape(image, [0, 0, -1]), places, axis=2)


def _taps(
    op: BodyOps, x: ir.Value, grid: ir.Value, mode: str, padding_mode: str, align_corners: int
) -> list[list[_Tap]]:
    """What each sample is made of along each axis of the image, as (N, 1, places)."""
    n = len(dims(x)) - 2
    coordinates = [op.Reshape(v, [0, 1, -1]) for v in op.several("Split", n, grid, axis=-1, num_outputs=n)]
    sizes = [op.CastLike(op.Shape(x, start=axis, end=axis + 1), grid) for axis in range(2, n + 2)]
    return [
        _along(op, coordinate, size, mode, padding_mode, align_corners)
        for coordinate, size in zip(reversed(coordinates), sizes, strict=True)
    ]


def _along(
    op: BodyOps, coordinate: ir.Value, size: ir.Value, mode: str, padding_mode: str, align_corners: int
) -> list[_Tap]:
    """The taps along one axis for coordinates that run from −1 to 1 over the image.

    With align_corners these are the centres of the first and last pixel, else their outer edges.
    """
    last = op.Sub(size, 1.0)
    scale = op.Mul(last if align_corners else size, 0.5)
    place = op.Add(op.Mul(coordinate, scale), op.Mul(last, 0.5))
    if mode == "bicubic" or padding_mode == "zeros":
        slope = scale
    else:
        place, slope = _held(op, place, last, padding_mode, align_corners)
        slope = op.Mul(slope, scale)
    if mode == "nearest":
        one = op.Expand(op.number(1.0, place), op.Shape(place))
        return [_tap(op, op.Round(place), last, padding_mode, align_corners, one, op.Sub(one, one))]
    first = op.Floor(place)
    offset = op.Sub(place, first)
    kernel = _linear(op, offset) if mode == "bilinear" else _cubic(op, offset)
    return [
        _tap(
            op, op.Add(first, float(k)) if k else first, last, padding_mode, align_corners, weight, op.Mul(steep, slope)
        )
        for k, weight, steep in kernel
    ]


def _tap(
    op: BodyOps,
    pixel: ir.Value,
    last: ir.Value,
    padding_mode: str,
    align_corners: int,
    weight: ir.Value,
    slope: ir.Value,
) -> _Tap:
    """The tap at a pixel, which may lie outside the image."""
    if padding_mode == "zeros":
        inside, zero = op.And(op.GreaterOrEqual(pixel, 0.0), op.LessOrEqual(pixel, last)), op.number(0.0, pixel)
        weight, slope = op.Where(inside, weight, zero), op.Where(inside, slope, zero)
    elif padding_mode == "reflection":
        pixel, _ = _reflected(op, pixel, last, align_corners)
    return _Tap(op.Cast(_clipped(op, pixel, last), to=ir.DataType.INT64), weight, slope)


def _held(
    op: BodyOps, place: ir.Value, last: ir.Value, padding_mode: str, align_corners: int
) -> tuple[ir.Value, ir.Value]:
    """A place brought into the image, and the derivative of that."""
    slope = op.number(1.0, place)
    if padding_mode == "reflection":
        place, slope = _reflected(op, place, last, align_corners)
    inside = op.And(op.Greater(place, 0.0), op.Less(place, last))
    return _clipped(op, place, last), op.Where(inside, slope, op.number(0.0, place))


def _clipped(op: BodyOps, place: ir.Value, last: ir.Value) -> ir.Value:
    return op.Min(op.Max(place, 0.0), last)


def _reflected(op: BodyOps, place: ir.Value, last: ir.Value, align_corners: int) -> tuple[ir.Value, ir.Value]:
    """A place reflected at the image's ends until it lies within, and ±1 for how it moves then."""
    low = 0.0 if align_corners else -0.5
    span = op.Max(op.Sub(last, 2.0 * low), 1.0)  # an image of one pixel has no extent between its corners
    distance = op.Sub(place, low)
    period = op.Mul(span, 2.0)
    within = op.Abs(distance)
    within = op.Sub(within, op.Mul(op.Floor(op.Div(within, period)), period))
    back = op.Sub(span, within)
    return op.Add(op.Sub(span, op.Abs(back)), low), op.Mul(op.Sign(distance), op.Sign(back))


_Kernel = list[tuple[int, ir.Value, ir.Value]]
"""Of each tap its place after the first pixel, its weight, and the derivative of that with respect to the offset."""


def _linear(op: BodyOps, t: ir.Value) -> _Kernel:
    one, ones = op.number(1.0, t), op.Expand(op.number(1.0, t), op.Shape(t))
    return [(0, op.Sub(one, t), op.Neg(ones)), (1, t, ones)]


def _cubic(op: BodyOps, t: ir.Value) -> _Kernel:
    """w(d) = (a+2)·d³ − (a+3)·d² + 1 for distances d < 1, a·d³ − 5a·d² + 8a·d − 4a for d < 2 (Keys 1981)."""
    a = _CUBIC
    inner, outer = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
    rest = op.Sub(op.number(1.0, t), t)
    taps = [
        (-1, op.Add(t, 1.0), outer, 1.0),
        (0, t, inner, 1.0),
        (1, rest, inner, -1.0),
        (2, op.Add(rest, 1.0), outer, -1.0),
    ]
    return [(k, *_cube(op, d, factors, sign)) for k, d, factors, sign in taps]


def _cube(
    op: BodyOps, d: ir.Value, factors: tuple[float, float, float, float], sign: float
) -> tuple[ir.Value, ir.Value]:
    """A polynomial of degree three at d, and ± its derivative."""
    a, b, c, e = factors
    value = op.Add(op.Mul(op.Add(op.Mul(op.Add(op.Mul(d, a), b), d), c), d), e)
    slope = op.Add(op.Mul(op.Add(op.Mul(d, 3 * a * sign), 2 * b * sign), d), c * sign)
    return value, slope
