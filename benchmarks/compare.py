"""What has become faster or slower since an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.report import Run, table
from onnxviz.benchmark import Quartiles

WITHIN = "within noise"


@dataclass(frozen=True)
class Change:
    """One contestant in one comparison, then and now.

    Attributes:
        place: model, method, batch size, precision, with or without the transfers.
        contestant: its name.
        before, now: milliseconds.
    """

    place: tuple[str, str, int, str, bool]
    contestant: str
    before: Quartiles
    now: Quartiles

    @property
    def verdict(self) -> str:
        """``faster`` or ``slower`` where the ranges from quartile to quartile share nothing, else ``within noise``."""
        if self.before.overlaps(self.now):
            return WITHIN
        return "faster" if self.now.median < self.before.median else "slower"


def changes(earlier: Run, later: Run) -> Iterator[Change]:
    """All that both runs have timed."""
    known = {row.key: row for row in earlier.rows}
    for row in later.rows:
        before = known[row.key].seconds if row.key in known else {}
        for name, seconds in row.seconds.items():
            if name in before:
                then, now = (Quartiles.of(1000 * np.array(values)) for values in (before[name], seconds))
                yield Change(row.key, name, then, now)


def differences(earlier: Run, later: Run) -> list[str]:
    """What was not the same around the two runs: hardware, threads, versions."""
    then, now = ({**run.where, **run.where["versions"]} for run in (earlier, later))
    keys = [key for key in {**then, **now} if key not in {"date", "versions"}]
    return [f"{key}: {then.get(key)} → {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def compared(earlier: Run, later: Run) -> str:
    """The changes as a table, those beyond noise first, with what else has changed."""
    found = list(changes(earlier, later))
    if not found:
        return "The two runs have timed nothing in common."
    found.sort(key=lambda change: (change.verdict == WITHIN, change.contestant != "onnxviz"))
    lines = [["model", "method", "batch", "tool", "before, ms", "now, ms", "now / before", "verdict"]]
    for change in found:
        model, method, batch, precision, transfer = change.place
        note = ("" if precision == "float32" else f", {precision}") + ("" if transfer else ", without transfer")
        lines.append([
            model, method + note, str(batch), change.contestant, str(change.before), str(change.now),
            f"{change.now.median / change.before.median:.2f}", change.verdict,
        ])  # fmt: skip
    beyond = sum(change.verdict != WITHIN for change in found)
    head = (
        f"Compared with the run of {earlier.where['date']}: {beyond} of {len(found)} times have changed beyond noise, "
        f"which means that the ranges from quartile to quartile do not overlap."
    )
    around = differences(earlier, later)
    return "\n\n".join([head, *(["Not the same: " + "; ".join(around) + "."] if around else []), table(lines)])
