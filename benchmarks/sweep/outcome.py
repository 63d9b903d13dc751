"""What is known of a model after its turn, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Status = Literal["passed", "failed", "not installed"]


@dataclass(frozen=True)
class Agreement:
    """How far gradients are from the source framework's, relative to their largest absolute value.

    Attributes:
        by: what they were compared with.
        largest: the largest difference on the best of the inputs; stage by stage, of the worst stage.
        median: the median difference; of several inputs the largest, or the usual at a layer in the middle.
        cosine: the least over the inputs; 1 where slopes were compared.
        layer: the layer with respect to which they were taken, or None for the inputs.
    """

    by: str
    largest: float
    median: float
    cosine: float = 1.0
    layer: str | None = None


@dataclass(frozen=True)
class Outcome:
    """One model's line in the report.

    Attributes:
        key: ``family/name``.
        status: whether it was converted and every comparison held.
        reason: of a failure, its first sentence; of a model that is not installed, what installs it.
        layers: how many layers the file has.
        values: the largest difference of any layer's or output's values, relative to its largest absolute value.
        gradient: of the inputs (of the first layer, where no input is a float), as the conversion checked it.
        middle: of a layer in the middle, compared by the sweep itself.
        optimized: the largest difference that the engine's optimisations make to the gradient, relative to its largest
            absolute value.
        seconds: from building the model to the last comparison.
    """

    key: str
    status: Status
    reason: str = ""
    layers: int = 0
    values: float = 0.0
    gradient: Agreement | None = None
    middle: Agreement | None = None
    optimized: float | None = None
    seconds: float = 0.0

    @property
    def family(self) -> str:
        """The row of the table."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.key.partition("/")[2]

    def json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: str) -> Outcome:
        """From the line that :meth:`json` made."""
        found = json.loads(line)
        for key in ("gradient", "middle"):
            found[key] = Agreement(**found[key]) if found[key] else None
        return cls(**found)


def append(path: Path, outcome: Outcome) -> None:
    """Add a line to the file: a sweep that is stopped leaves what it has found."""
    with path.open("a", encoding="utf-8") as file:
        file.write(outcome.json() + "\n")


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes by key; where a model had several turns, the last. A line cut off by a stop is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return by_key(Outcome.parse(line) for line in lines if line.endswith("\n"))


def by_key(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """The last outcome of each model."""
    return {outcome.key: outcome for outcome in outcomes}


def first_sentence(message: str) -> str:
    """Up to the first full stop, on one line."""
    return " ".join(message.split()).split(". ")[0].rstrip(".")
