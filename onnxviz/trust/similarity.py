"""How alike two maps are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.source import Array

Numbers = npt.NDArray[np.float64]
SIGMA, RADIUS = 1.5, 5
"""Of SSIM's Gaussian window of 11 entries (Wang 2004)."""


def spearman(a: Array, b: Array) -> float:
    """Spearman's rank correlation of all entries' absolute values, −1 … 1; equal values share their mean rank.

    0 where one of the two has one absolute value throughout: such a map ranks nothing.
    """
    return _cosine(_centred_ranks(np.abs(a)), _centred_ranks(np.abs(b)))


def cosine(a: Array, b: Array) -> float:
    """⟨a, b⟩ / (‖a‖·‖b‖) of all entries with their signs, −1 … 1; 0 where one is 0 everywhere."""
    return _cosine(np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel())


def ssim(a: Array, b: Array, space: Sequence[int]) -> float:
    """Structural similarity (Wang 2004, doi:10.1109/TIP.2003.819861, eq. 13), −1 … 1.

    Of the absolute values, added up over what is no axis of space, each map divided by its largest value. The window is
    Gaussian (σ = 1.5, 11 entries along each axis, fewer where a map is smaller), K₁ = 0.01 and K₂ = 0.03; the mean is
    over the places where the window fits.
    """
    x, y = (_magnitude(values, space) for values in (a, b))
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


MEASURES: dict[str, Callable[[Array, Array, Sequence[int]], float]] = {
    "spearman": lambda a, b, _: spearman(a, b),
    "ssim": ssim,
    "cosine": lambda a, b, _: cosine(a, b),
}
"""By name: from two maps of one sample and their axes of space."""


def _magnitude(values: Array, space: Sequence[int]) -> Numbers:
    rest = tuple(axis for axis in range(values.ndim) if axis not in space) if space else ()
    size = np.abs(np.asarray(values, np.float64)).sum(rest)
    return np.asarray(size / (size.max() or 1.0), np.float64)


def _smooth(values: Numbers) -> Numbers:
    """Gaussian means along all axes, where the window fits."""
    for axis, length in enumerate(values.shape):
        radius = min(RADIUS, (length - 1) // 2)
        window = np.exp(-0.5 * (np.arange(-radius, radius + 1) / SIGMA) ** 2)
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * radius + 1, axis)
        values = np.asarray(windows @ (window / window.sum()), np.float64)
    return values


def _centred_ranks(values: Array) -> Numbers:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse.ravel()]
    return np.asarray(ranks - ranks.mean(), np.float64)


def _cosine(a: Numbers, b: Numbers) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0
