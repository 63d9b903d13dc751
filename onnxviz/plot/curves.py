"""Curves over the layers of a network: how something changes from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.plot.figure import Figure

TICKS = 30
"""Names of layers that a panel has room for."""

Curves = Mapping[str, npt.NDArray[np.float64]]


def draw_curves(panels: Mapping[str, Curves], layers: Sequence[str], *, label: str, low: float) -> Figure:
    """A panel for each title, a curve for each name: the mean over samples as a line, their range behind it.

    Args:
        panels: title → name → (layers, samples).
        layers: along the horizontal axis.
        label: of the vertical axis, which goes from ``low`` to 1.
        low: its lower end.
    """
    figure = Figure(figsize=(min(3.5 + 0.18 * min(len(layers), TICKS), 8) * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    every = -(-len(layers) // TICKS)
    places = np.arange(len(layers))
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        for i, (name, curve) in enumerate(curves.items()):
            colour = f"C{i}"
            axes.plot(places, curve.mean(1), color=colour, label=name, linewidth=1.6, marker="o", markersize=3)
            axes.fill_between(places, curve.min(1), curve.max(1), color=colour, alpha=0.15, linewidth=0)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(places[::every], list(layers)[::every], rotation=90, fontsize=7)
        axes.set_ylim(low - 0.02, 1.02)
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(axis="y", linewidth=0.4)
        axes.set_xlabel("randomised layer, from the output to the input", fontsize=8)
    grid[0].set_ylabel(label, fontsize=8)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=8, frameon=False)
    return figure
