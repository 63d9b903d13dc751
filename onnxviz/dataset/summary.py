"""What became of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SHOWN = 10
"""How many skipped samples are printed."""


class Skipped(NamedTuple):
    """A sample that could not be explained, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What :func:`onnxviz.explain_dataset` returns; it prints well.

    Attributes:
        path: of the sink.
        samples: in the source, and in the sink.
        skipped: those that could not be read or explained, in order, of earlier runs too.
        resumed: how many an earlier run had done.
        seconds: of this run.
    """

    path: Path
    samples: int
    skipped: tuple[Skipped, ...]
    resumed: int
    seconds: float

    @property
    def explained(self) -> int:
        """How many samples have a map."""
        return self.samples - len(self.skipped)

    @property
    def samples_per_second(self) -> float:
        """Of those that this run did."""
        return (self.samples - self.resumed) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.explained} of {self.samples} samples explained"]
        parts += [f"{len(self.skipped)} skipped"] if self.skipped else []
        parts += [f"{self.resumed} were there before"] if self.resumed else []
        parts += (
            [f"{self.seconds:.1f} s, {self.samples_per_second:.1f} samples/s"] if self.resumed < self.samples else []
        )
        lines = [f"  skipped {name}: {reason}" for name, reason in self.skipped[:SHOWN]]
        if len(self.skipped) > SHOWN:
            lines.append(f"  … and {len(self.skipped) - SHOWN} more")
        return "\n".join(["; ".join(parts), *lines])
