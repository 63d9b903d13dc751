"""The table that a run prints, and the file that it writes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Quartiles, ratio

PACKAGES = ("onnxviz", "onnxruntime", "onnxruntime-gpu", "torch", "captum", "grad-cam", "keras", "tensorflow", "numpy")
OTHERS = ("torch", "captum", "pytorch-grad-cam", "from Keras", "tensorflow")


@dataclass(frozen=True)
class Row:
    """One network, batch size and method.

    Attributes:
        model, batch, method: what was timed.
        seconds: contestant → its time in each round.
        likenesses: contestant → how like its result is to ours, at most 1.
    """

    model: str
    batch: int
    method: str
    seconds: dict[str, list[float]]
    likenesses: dict[str, float]

    def cells(self, others: Sequence[str]) -> list[str]:
        """What the table shows: ours in milliseconds, over the forward pass, and how many times longer others take."""
        ours = Quartiles.of([1000 * s for s in self.seconds["onnxviz"]])
        taken = [str(ratio(self.seconds, name, "onnxviz")) if name in self.seconds else "–" for name in others]
        return [
            self.model, str(self.batch), self.method, str(ours), str(ratio(self.seconds, "onnxviz", "forward")), *taken,
        ]  # fmt: skip


def surroundings(*, provider: str, threads: int) -> dict[str, Any]:
    """Hardware, versions and date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if provider == "cuda" else "cpu",
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def table(rows: Sequence[Row], where: dict[str, Any]) -> str:
    """The rows in Markdown."""
    others = [name for name in OTHERS if any(name in row.seconds for row in rows)]
    heads = ["model", "batch", "method", "onnxviz, ms", "onnxviz / forward", *(f"{name} / onnxviz" for name in others)]
    lines = [heads, ["---"] * len(heads), *(row.cells(others) for row in rows)]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    note = (
        f"{where['date']}; {where['processor']}, {where['cores']} cores, {where['threads']} threads, on "
        f"{where['device']}; Python {where['python']}, {versions}. Medians of interleaved rounds, with quartiles; "
        f"forward is the plain export on ONNX Runtime, from Keras is onnxviz on the file of the Keras twin."
    )
    return "\n".join([*("| " + " | ".join(cells) + " |" for cells in lines), "", note])


def write(path: Path, rows: Sequence[Row], where: dict[str, Any]) -> None:
    """All times, as JSON."""
    path.write_text(json.dumps({"where": where, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
