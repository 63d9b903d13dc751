"""What takes the place of parts of a picture: a blurred picture, and guesses from what is around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.image import resize_linear
from onnxviz.source import Array

Numbers = npt.NDArray[np.float64]

STENCIL = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
"""Rong 2022: a neighbour counts 1/6, a diagonal one 1/12."""
EXACT = 1e-4
"""How far what was solved may be from the mean of its neighbours, as a part of the picture's range. The noise that
is added is a hundred times as large."""
MOST = 500
"""Steps of the solver."""


def blurred(x: Array, axes: Sequence[int], *, sigma: float = 5.0, radius: int = 5) -> Array:
    """Gaussian means along ``axes``, of windows of 2·radius + 1 entries; edges are repeated."""
    window = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    result = np.asarray(x, np.float64)
    for axis in axes:
        pads = [(radius, radius) if i == axis else (0, 0) for i in range(x.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(result, pads, "edge"), 2 * radius + 1, axis)
        result = windows @ (window / window.sum())
    return result.astype(x.dtype)


def imputed(picture: Array, missing: npt.NDArray[np.bool_]) -> Array:
    """A picture (H, W, C) in which each missing pixel is the weighted mean of its up to eight neighbours.

    These are as many linear equations as pixels are missing (Rong 2022, arXiv:2202.00449, section 4.2): solved coarse
    to fine, at each size by conjugate gradients, until no pixel is further from that mean than 0.0001 of the range.
    """
    known = ~missing
    if not known.any():
        raise ValueError("nothing is known")
    start = np.asarray(picture, np.float64)
    return _solved(start, known, EXACT * float(np.ptp(start[known]) or 1.0)).astype(picture.dtype)


def _solved(picture: Numbers, known: npt.NDArray[np.bool_], tolerance: float) -> Numbers:
    if known.all():
        return picture
    filled = np.where(known[..., None], picture, _guess(picture, known, tolerance))
    weight = _neighbours(np.ones(known.shape))[..., None]  # less than 1 along the edges
    free = (~known[..., None]).astype(np.float64)

    def excess(values: Numbers) -> Numbers:
        return np.asarray(free * (weight * values - _neighbours(values)))

    residual = -excess(filled)
    direction, size = residual, (residual**2).sum((0, 1))
    for _ in range(MOST):
        if np.abs(residual).max() <= tolerance:
            break
        applied = excess(direction)
        step = _divided(size, (direction * applied).sum((0, 1)))
        filled, residual = filled + step * direction, residual - step * applied
        after = (residual**2).sum((0, 1))
        direction, size = residual + _divided(after, size) * direction, after
    return filled


def _guess(picture: Numbers, known: npt.NDArray[np.bool_], tolerance: float) -> Numbers:
    """The same problem at half the size, whose pixels are the means of what is known of four, brought to this size."""
    height, width = known.shape
    if min(height, width) < 2:
        return np.broadcast_to(picture[known].mean(0), picture.shape)
    pads = ((0, height % 2), (0, width % 2))
    counts = _of_four(np.pad(known.astype(np.float64), pads)[..., None])
    sums = _of_four(np.pad(picture * known[..., None], (*pads, (0, 0))))
    coarse = _solved(_divided(sums, counts), counts[..., 0] > 0, tolerance)
    return resize_linear(coarse, [2 * n for n in coarse.shape[:2]], (0, 1))[:height, :width].astype(np.float64)


def _of_four(values: Numbers) -> Numbers:
    return np.asarray(values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2])


def _neighbours(values: Numbers) -> Numbers:
    """The weighted sum of the neighbours that there are, (H, W) or (H, W, C)."""
    import cv2

    found = cv2.filter2D(np.ascontiguousarray(values), -1, STENCIL, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(found, np.float64).reshape(values.shape)


def _divided(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)
