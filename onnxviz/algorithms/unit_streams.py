"""What is known of a layer's units after some samples, brought up to date with the next ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.source import Array

PIECE = 2**22
"""How many numbers are taken into float64 at once."""

Floats = npt.NDArray[np.float64]


class Moments:
    """Mean, variance, extremes and correlation of units over all samples and places.

    Means and products of deviations are merged piece by piece (Chan, Golub and LeVeque 1983), which loses nothing where
    the mean is large against the deviation, as sums of squares would.

    Args:
        units: how many.
        limits: the ends of the units' range, each may be None.
        correlate: whether products of all pairs are kept, units² numbers, or only the squares.
    """

    def __init__(self, units: int, limits: tuple[float | None, float | None], *, correlate: bool) -> None:
        self.count = 0
        self.mean = np.zeros(units)
        self.products = np.zeros((units, units) if correlate else units)
        self.minimum, self.maximum = np.full(units, np.inf), np.full(units, -np.inf)
        self.zeros, self.nonpositive, self.limited = (np.zeros(units, np.int64) for _ in range(3))
        self._low, self._high = near(limits)

    def add(self, values: Array) -> None:
        """Values (N, units, places)."""
        step = max(1, PIECE // max(values[0].size, 1))
        for start in range(0, len(values), step):
            piece = np.moveaxis(values[start : start + step], 1, 0).reshape(len(self.mean), -1)
            self._add(piece.astype(np.float64))

    def _add(self, values: Floats) -> None:
        """Values (units, M)."""
        added, mean = values.shape[1], values.mean(1)
        self.minimum, self.maximum = np.minimum(self.minimum, values.min(1)), np.maximum(self.maximum, values.max(1))
        self.zeros += (values == 0).sum(1)
        self.nonpositive += (values <= 0).sum(1)
        self.limited += ((values <= self._low) | (values >= self._high)).sum(1)
        values -= mean[:, None]
        shift, count = mean - self.mean, self.count + added
        both = self.count * added / count
        if self.products.ndim == 2:
            self.products += values @ values.T + both * np.outer(shift, shift)
        else:
            self.products += np.einsum("um,um->u", values, values) + both * shift**2
        self.mean += shift * (added / count)
        self.count = count

    @property
    def deviation(self) -> Floats:
        """The standard deviation of each unit; 0 of one that never changes."""
        squares = self.products.diagonal() if self.products.ndim == 2 else self.products
        return np.where(self.maximum > self.minimum, np.sqrt(np.maximum(squares, 0) / self.count), 0)

    @property
    def correlation(self) -> Floats | None:
        """Pearson's r of each pair (units, units); NaN where a unit never changes."""
        if self.products.ndim == 1:
            return None
        size = np.where(self.maximum > self.minimum, np.sqrt(self.products.diagonal()), np.nan)
        found: Floats = np.clip(self.products / size[:, None] / size, -1, 1)
        return found


def near(limits: tuple[float | None, float | None]) -> tuple[float, float]:
    """Where values count as being at a limit: within 1 % of the range, or of the limit where there is one only."""
    low, high = limits
    span = abs((high or 0) - (low or 0))
    return (-np.inf if low is None else low + span / 100, np.inf if high is None else high - span / 100)


class Tops:
    """The samples that make each unit fire most, the place of its largest value in each, and crops of some units.

    Args:
        units: how many.
        most: how many samples of each.
        kept: the units whose crops are kept.
    """

    def __init__(self, units: int, most: int, kept: Sequence[int]) -> None:
        self.most = most
        self.values = np.empty((units, 0))
        self.samples = np.empty((units, 0), np.int64)
        self.places: npt.NDArray[np.int64] | None = None
        self.crops: dict[int, tuple[Array, ...]] = dict.fromkeys(kept, ())

    def add(self, values: Array, first: int, cut: Callable[[int, Array], Array]) -> None:
        """The next samples.

        Args:
            values: (N, units, *places).
            first: the position of the first sample in the stream.
            cut: from the index of one of these samples and a place to the crop of its input.
        """
        flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
        where = flat.argmax(2).T
        highest = np.take_along_axis(flat, where.T[..., None], 2)[..., 0].T
        shape = values.shape[2:] or (1,)
        new = np.stack(np.unravel_index(where, shape), -1)[..., : values.ndim - 2]
        places = new if self.places is None else np.concatenate([self.places, new], 1)
        samples = np.concatenate([self.samples, np.broadcast_to(first + np.arange(len(values)), where.shape)], 1)
        joined, known = np.concatenate([self.values, highest], 1), self.values.shape[1]
        order = np.argsort(-joined, axis=1, kind="stable")[:, : self.most]  # of equal ones the first sample stays
        self.values = np.take_along_axis(joined, order, 1)
        self.samples = np.take_along_axis(samples, order, 1)
        self.places = np.take_along_axis(places, order[..., None], 1)
        for unit, old in self.crops.items():
            self.crops[unit] = tuple(old[i] if i < known else cut(int(i) - known, places[unit, i]) for i in order[unit])
