"""The plot: images per second over batch size, a line for each tool, a panel for each model and method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.contestants import HOMES
from benchmarks.race import FLOOR, OURS, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {
    "onnxviz": ("#D55E00", "o", "-"), "forward": ("#000000", "", ":"), "onnxviz from Keras": ("#E69F00", "P", "--"),
    "torch": ("#0072B2", "s", "-"), "torch.compile": ("#56B4E9", "D", "-"), "captum": ("#009E73", "^", "-"),
    "pytorch-grad-cam": ("#CC79A7", "v", "-"), "tensorflow": ("#F0E442", "X", "-"),
    "tf-keras-vis": ("#8A8A8A", "<", "-"), "ort-training": ("#5D3A9B", ">", "-"),
}  # fmt: skip
"""Colour, marker and line: Okabe and Ito's palette, which the colour-blind tell apart, with markers besides."""


def plot(rows: Sequence[Row]) -> Figure:
    """Medians, and thin bars from quartile to quartile; both axes are logarithmic.

    Args:
        rows: of a run. Several precisions, and runs without the transfers, get rows of panels of their own.
    """
    from matplotlib.figure import Figure

    lines = list(dict.fromkeys(_panel_row(row) for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    width, height = 1.2 + 2.7 * len(methods), 1.2 + 2.3 * len(lines)
    figure = Figure(figsize=(max(width, 6.5), height), layout="constrained")
    panels = figure.subplots(len(lines), len(methods), squeeze=False, sharex=True, sharey="row")
    for line, axes_of_line in zip(lines, panels, strict=True):
        for method, axes in zip(methods, axes_of_line, strict=True):
            _draw(axes, [row for row in rows if _panel_row(row) == line and row.method == method])
        axes_of_line[0].set_ylabel(f"{line}\nimages per second", fontsize=9)
    for method, axes in zip(methods, panels[0], strict=True):
        axes.set_title(method, fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("batch size", fontsize=9)
    handles = {label: handle for axes in panels.flat for handle, label in zip(*_legend(axes), strict=True)}
    shown = [name for name in HOMES if name in handles]
    labels = [f"{name} (the network alone)" if name == FLOOR else name for name in shown]
    figure.legend(
        [handles[name] for name in shown], labels, loc="outside upper center", ncols=min(len(shown), 5), frameon=False,
        fontsize=9,
    )  # fmt: skip
    return figure


def _panel_row(row: Row) -> str:
    precision = "" if row.precision == "float32" else f", {row.precision}"
    return row.model + precision + ("" if row.transfer else ", without transfer")


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    rows = sorted(rows, key=lambda row: row.batch)
    for name in HOMES:
        timed = [row for row in rows if name in row.seconds]
        if not timed:
            continue
        batches = [row.batch for row in timed]
        low, middle, high = np.array(
            [np.percentile(row.batch / np.array(row.seconds[name]), [25, 50, 75]) for row in timed]
        ).T
        colour, marker, line = STYLES[name]
        axes.errorbar(
            batches, middle, [middle - low, high - middle], label=name, color=colour, marker=marker, linestyle=line,
            markersize=5, linewidth=2 if name == OURS else 1.2, elinewidth=0.8, zorder=3 if name == OURS else 2,
            markeredgecolor="black", markeredgewidth=0.4,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({row.batch for row in rows}), labels=[str(b) for b in sorted({row.batch for row in rows})])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(_ticks())
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="0.9", linewidth=0.6)


def _ticks() -> object:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0))


def _legend(axes: Axes) -> tuple[list[object], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles), list(labels)
