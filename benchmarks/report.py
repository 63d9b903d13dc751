"""What a run measured: its tables, and the file that it is written to and read from."""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.contestants import PEERS
from benchmarks.race import FLOOR, OURS, Row
from benchmarks.subject import Setup
from onnxviz import __version__
from onnxviz.benchmark import Quartiles, ratio, short

PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "torch", "captum", "grad-cam", "keras", "tensorflow", "tf-keras-vis",
    "transformers", "numpy",
)  # fmt: skip
MEBI = 2**20


@dataclass(frozen=True)
class Run:
    """All that one run measured.

    Attributes:
        where: hardware, versions and date.
        rows: the comparisons.
        conversions: model → file → seconds and bytes.
        alone: what each contestant took in a process of its own, see :mod:`benchmarks.alone`.
        ablations: see :mod:`benchmarks.ablation`.
    """

    where: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    conversions: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    alone: list[dict[str, Any]] = field(default_factory=list)
    ablations: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON; the file is replaced as a whole."""
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        aside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What :meth:`write` wrote."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stored, "rows": [Row(**row) for row in stored["rows"]]})

    def __str__(self) -> str:
        parts = [
            table(speed_lines(self.rows)), table(conversion_lines(self.conversions)), table(alone_lines(self.alone)),
            table(ablation_lines(self.ablations)), absent_lines(self.rows), footnote(self.where),
        ]  # fmt: skip
        return "\n\n".join(part for part in parts if part)


def surroundings(setup: Setup) -> dict[str, Any]:
    """Hardware, versions and date."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if setup.provider == "cuda" else "cpu",
        "threads": setup.threads,
        **({"options": dict(setup.options)} if setup.options else {}),
        "python": platform.python_version(),
        "versions": {"onnxviz": __version__} | {name: found for name in PACKAGES if (found := _version(name))},
    }


# ----- tables -----


def table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown, from a head and rows; nothing where there are no rows."""
    if len(lines) < 2:
        return ""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def speed_lines(rows: Sequence[Row]) -> list[list[str]]:
    """Ours in milliseconds and images per second, over the forward pass, and how many times longer others take."""
    others = [name for name in PEERS if any(name in row.seconds for row in rows)]
    on_device = any(row.precision != "float32" or not row.transfer for row in rows)
    extra = ["precision", "transfer"] if on_device else []
    heads = ["model", "method", "batch", *extra, "onnxviz, ms", "images/s", "onnxviz / forward"]
    lines = [[*heads, *(f"{name} / onnxviz" for name in others)]]
    for row in rows:
        taken = np.array(row.seconds[OURS])
        lines.append([
            row.model, row.method, str(row.batch), *([row.precision, _yes(row.transfer)] if extra else []),
            str(Quartiles.of(1000 * taken)), short(row.batch / float(np.median(taken))),
            str(ratio(row.seconds, OURS, FLOOR)),
            *(str(ratio(row.seconds, name, OURS)) if name in row.seconds else "–" for name in others),
        ])  # fmt: skip
    return lines


def conversion_lines(conversions: dict[str, dict[str, dict[str, float]]]) -> list[list[str]]:
    """Seconds, the check included, and size."""
    born = {"explainable": "PyTorch", "twin": "Keras"}
    lines = [["model", "from", "conversion with its check, s", "file, MiB"]]
    for model, files in conversions.items():
        lines += [[model, born[k], short(f["seconds"]), short(f["bytes"] / MEBI)] for k, f in files.items()]
    return lines


def alone_lines(alone: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Memory and start."""
    heads = ["model", "method", "batch", "tool", "peak host memory, MiB", "device memory, MiB", "import, s"]
    lines = [[*heads, "load to first answer, s"]]
    for one in alone:
        device = "–" if one["device_bytes"] is None else short(one["device_bytes"] / MEBI)
        lines.append([
            one["model"], one["method"], str(one["batch"]), one["contestant"], short(one["host_bytes"] / MEBI), device,
            f"{one['import_seconds']:.2f}", f"{one['first_seconds']:.2f}",
        ])  # fmt: skip
    return lines


def ablation_lines(ablations: Iterable[dict[str, Any]]) -> list[list[str]]:
    """How many times longer it takes without each optimisation."""
    lines = [["model", "method", "batch", "left out", "all, ms", "without, ms", "without / all"]]
    for one in ablations:
        every = str(Quartiles.of(1000 * np.array(one["seconds"]["all"])))
        for name in one["seconds"]:
            if name != "all":
                without = str(Quartiles.of(1000 * np.array(one["seconds"][name])))
                taken = str(ratio(one["seconds"], name, "all"))
                lines.append([one["model"], one["method"], str(one["batch"]), name, every, without, taken])
    return lines


def absent_lines(rows: Iterable[Row]) -> str:
    """Who did not take part where, and why."""
    cases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        for name, reason in row.absent.items():
            where = f"{row.method} of {row.model}"
            if where not in cases[name, reason]:
                cases[name, reason].append(where)
    lines = [f"* {name}, in {_all(places)}: {reason}" for (name, reason), places in cases.items()]
    return "\n".join(["Not taking part:", *lines]) if lines else ""


def footnote(where: dict[str, Any]) -> str:
    """Hardware, versions and date, and how to read the tables."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    options = "".join(f" with {name}={value}" for name, value in where.get("options", {}).items())
    return (
        f"{where['date']}; {where['processor']}, {where['cores']} cores, {where['threads']} threads, on "
        f"{where['device']}{options}; Python {where['python']}, {versions}. Medians of interleaved rounds, with "
        f"quartiles; forward is the plain export on ONNX Runtime, onnxviz from Keras is the file of the Keras twin."
    )


def _all(places: Sequence[str]) -> str:
    return ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def _yes(transfer: bool) -> str:  # noqa: FBT001 - a cell of a table
    return "with" if transfer else "without"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
