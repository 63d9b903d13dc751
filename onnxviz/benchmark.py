"""How long explanations take: timing that two programs can be compared by, and what ``Explainer.benchmark`` returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import OptionError

PAUSE = 0.02
"""Seconds between runs: waiting threads of one library spin for a while, and would take the other's cores."""
LONG = 0.5
"""Seconds from which a run is its own warm-up: waking threads and filling caches takes thousandths of that."""


@dataclass(frozen=True)
class Effort:
    """How long one comparison goes on: ``seconds``, within these numbers of rounds.

    Raises:
        OptionError: no time, or no rounds.
    """

    seconds: float = 5.0
    least: int = 5
    most: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or not self.seconds > 0:
            raise OptionError(f"seconds={self.seconds!r}: expected a positive number")
        if not 1 <= self.least <= self.most:
            raise OptionError(f"{self.least} to {self.most} rounds: expected at least one, and the least no more")


@dataclass(frozen=True)
class Quartiles:
    """Median, with the quartiles on both sides."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | npt.NDArray[np.float64]) -> Quartiles:
        """Of any numbers."""
        return cls(*np.percentile(values, [25, 50, 75]).tolist())

    def overlaps(self, other: Quartiles) -> bool:
        """Whether the two ranges from quartile to quartile share a number."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} – {short(self.high)})"


@dataclass(frozen=True)
class Benchmark:
    """How long one method takes on one model.

    Attributes:
        method: its name.
        batch: how many samples were explained at once.
        provider: the execution provider that ran.
        seconds: of each round.
        forward: seconds that the plain forward pass, ``predict``, took in the same rounds.
        versions: of onnxviz and onnxruntime.
    """

    method: str
    batch: int
    provider: str
    seconds: tuple[float, ...]
    forward: tuple[float, ...]
    versions: Mapping[str, str]

    @property
    def milliseconds(self) -> Quartiles:
        """Of one call."""
        return Quartiles.of(1000 * np.array(self.seconds))

    @property
    def images_per_second(self) -> Quartiles:
        """Samples per second, in calls one after the other."""
        return Quartiles.of(self.batch / np.array(self.seconds))

    @property
    def over_forward(self) -> Quartiles:
        """How many times longer than the forward pass in the same round."""
        return Quartiles.of(np.divide(self.seconds, self.forward))

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.method}, batch {self.batch}: {self.milliseconds} ms, {self.images_per_second} images per second, "
            f"{self.over_forward} × the forward pass\n"
            f"medians and quartiles of {len(self.seconds)} rounds on {self.provider}; {versions}"
        )


def measured(
    explain: Callable[[], Any], forward: Callable[[], Any], effort: Effort, *, method: str, batch: int
) -> Benchmark:
    """Time an explanation and the forward pass in turns.

    Args:
        explain: computes the explanation and returns it.
        forward: computes the model's outputs.
        effort: how long.
        method: the method's name.
        batch: how many samples.
    """
    from onnxviz import __version__
    from onnxviz.engine.session import runtime

    provider = explain().provider
    times = interleaved({"explain": explain, "forward": forward}, effort)
    versions = {"onnxviz": __version__, "onnxruntime": runtime().__version__}
    return Benchmark(method, batch, provider, tuple(times["explain"]), tuple(times["forward"]), versions)


def interleaved(contestants: Mapping[str, Callable[[], Any]], effort: Effort) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; all take one turn in a round, another one goes first in the next."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    for turn in range(effort.most):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(PAUSE)
            if not times[name] or times[name][-1] < LONG:
                contestants[name]()  # wakes its own threads and fills the caches, whoever came before
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= effort.least and time.perf_counter() - started > effort.seconds:
            break
    return times


def ratio(times: Mapping[str, Sequence[float]], above: str, below: str) -> Quartiles:
    """How much longer one takes than another in the same round."""
    return Quartiles.of(np.divide(times[above], times[below]))


def short(number: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{number:.0f}" if abs(number) >= 99.95 else f"{number:.3g}"
