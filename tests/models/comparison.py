"""How two programs' numbers are compared.

ReLU, Clip and MaxPool have kinks: where a value lies within rounding of one, two correct programs disagree by a whole
term. A wrong rule errs everywhere.
"""

from __future__ import annotations

import numpy as np

EVERYWHERE, MEDIAN, COSINE = 1e-4, 1e-6, 0.999


def difference(got, expected):
    """Largest and median difference relative to the largest absolute value, and the cosine."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    error = np.abs(a - b) / np.abs(b).max()
    return error.max(), np.median(error), (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))


def assert_values(got, expected, name, bar=EVERYWHERE):
    """Equal to ``bar`` of the largest absolute value."""
    assert got.shape == expected.shape, name
    largest = np.abs(got.astype(np.float64) - expected).max()
    assert largest <= bar * np.abs(expected).max(), f"{name}: {largest:.2e} of {np.abs(expected).max():.2e}"


def agree(found):
    """Whether all samples agree in median and direction, and one at least everywhere."""
    return (
        max(median for _, median, _ in found) <= MEDIAN
        and min(cosine for _, _, cosine in found) >= COSINE
        and min(largest for largest, _, _ in found) <= EVERYWHERE
    )


def assert_gradients(got, expected):
    """Of a batch of gradients, all agree in their median and direction, and one at least agrees everywhere."""
    found = [difference(a, b) for a, b in zip(got, expected, strict=True)]
    assert agree(found), found
