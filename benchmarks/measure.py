"""Timing that two programs can be compared by, on a machine that is never quite still."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Contestants = Mapping[str, Callable[[], Array]]

PAUSE = 0.02
"""Seconds between runs: waiting threads of one library spin for a while, and would take the other's cores."""


@dataclass(frozen=True)
class Effort:
    """How long one comparison goes on: ``seconds``, within these numbers of rounds."""

    seconds: float = 20.0
    least: int = 7
    most: int = 60


QUICK = Effort(seconds=0.5, least=3, most=5)


@dataclass(frozen=True)
class Quartiles:
    """Median, with the quartiles on both sides."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Quartiles:
        """Of any numbers."""
        return cls(*np.percentile(values, [25, 50, 75]).tolist())

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} – {self.high:.2f})"


def interleaved(contestants: Contestants, effort: Effort) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; all take one turn in a round, another one goes first in the next."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    for turn in range(effort.most):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(PAUSE)
            contestants[name]()  # wakes its own threads and fills the caches, whoever came before
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= effort.least and time.perf_counter() - started > effort.seconds:
            break
    return times


def ratio(times: Mapping[str, list[float]], above: str, below: str) -> Quartiles:
    """How much longer one takes than another in the same round."""
    return Quartiles.of(np.divide(times[above], times[below]))


def likeness(a: Array, b: Array) -> float:
    """The least cosine between samples of two results, each from its minimum up, as some libraries shift maps."""
    wide = [x.reshape(len(x), -1).astype(np.float64) for x in (a, b)]
    first, second = (x - x.min(axis=1, keepdims=True) for x in wide)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / lengths).min())
