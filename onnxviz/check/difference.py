"""How far one array is from another, and how far it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxviz.source import Array

EVERYWHERE, MEDIAN, COSINE = 1e-4, 1e-6, 0.999
"""Bars for float32: largest and median difference, relative to the largest absolute value, and direction."""
HALF = 2e-2
"""The bar for everything in float16 and bfloat16, which have 10 and 7 bits."""


@dataclass(frozen=True)
class Difference:
    """How far one array is from another, relative to the other's largest absolute value."""

    largest: float
    median: float
    cosine: float

    @classmethod
    def between(cls, got: Array, expected: Array) -> Difference:
        """Compare; infinities and NaN must stand in the same places."""
        a, b = np.asarray(got, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
        if a.shape != b.shape:
            return cls(np.inf, np.inf, 0.0)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            return cls(np.inf, np.inf, 0.0)
        a, b = a[finite], b[finite]
        scale = float(np.abs(b).max(initial=0.0))
        if scale == 0.0:
            largest = float(np.abs(a).max(initial=0.0))
            return cls(largest, largest, float(largest == 0.0))
        error = np.abs(a - b) / scale
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return cls(float(error.max()), float(np.median(error)), float(a @ b) / norms if norms else 0.0)

    def passes_everywhere(self, *, half: bool) -> bool:
        """Whether no entry differs by more than rounding explains."""
        return self.largest <= (HALF if half else EVERYWHERE)

    def passes_mostly(self, *, half: bool) -> bool:
        """Whether the two are the same but for a few entries: a wrong rule is not."""
        return self.median <= (HALF if half else MEDIAN) and self.cosine >= COSINE


def largest_difference(got: Array, expected: Array) -> float:
    """The largest difference relative to the largest absolute value; infinite where NaN and infinities differ."""
    if got.shape != expected.shape:
        return np.inf
    if np.isfinite(scale := float(np.abs(expected).max(initial=0))) and np.issubdtype(expected.dtype, np.floating):
        largest = float(np.abs(got - expected).max(initial=0))
        return (largest / scale if scale else largest) if np.isfinite(largest) else np.inf
    return Difference.between(got, expected).largest
