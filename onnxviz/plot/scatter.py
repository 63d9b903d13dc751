"""Points in the plane, by class or by value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from onnxviz.arguments import as_array, checked
from onnxviz.errors import InputError, OptionError
from onnxviz.plot.arguments import numbers
from onnxviz.plot.colours import COLOURS, SEQUENTIAL
from onnxviz.plot.figure import Figure

MARKERS = "osD^vP"
"""The first ten classes have the first shape, the next ten the second."""
SIDE = 6.0
"""Inches of the square in which the points lie."""


@checked
def scatter(
    points: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    axis_labels: Sequence[str] = ("", ""),
    title: str = "",
    note: str = "",
) -> Figure:
    """Points, coloured by label, with a legend.

    Args:
        points: (N, 2).
        labels: (N,). Whole numbers and text are classes, at most 60 of them; floats are a scale with a colour bar.
        names: of the classes, by whole number.
        axis_labels: of the two axes.
        title: over the points.
        note: below them.

    Raises:
        InputError: arrays of another shape, or more classes.
        OptionError: another number of axis labels.
    """
    where = numbers("points", points)
    if where.ndim != 2 or where.shape[1] != 2:
        raise InputError(f"points has two coordinates for each of N; got shape {where.shape}")
    if isinstance(axis_labels, str) or len(axis_labels) != 2:
        raise OptionError(f"axis_labels has one label for each of the two axes; got {axis_labels!r}")
    kinds = None if labels is None else as_array(labels, "labels")
    if kinds is not None and kinds.shape != where.shape[:1]:
        raise InputError(f"labels has one for each of the {len(where)} points; got shape {kinds.shape}")
    figure = Figure(figsize=(SIDE + 1.6, SIDE + 0.6), layout="compressed")
    axes = figure.subplots()
    size = float(np.clip(8000 / len(where), 6, 36))
    if kinds is None:
        axes.scatter(where[:, 0], where[:, 1], s=size, color=COLOURS[0], linewidths=0, alpha=0.8)
    elif kinds.dtype.kind == "f":
        drawn = axes.scatter(
            where[:, 0], where[:, 1], s=size, c=numbers("labels", kinds), cmap=SEQUENTIAL, linewidths=0
        )
        figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=7)
    else:
        _classes(figure, axes, where, kinds, names, size)
    axes.set_xlabel(axis_labels[0], fontsize=9)
    axes.set_ylabel(axis_labels[1], fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=7)
    axes.set_box_aspect(1)
    if note:
        figure.supxlabel(fill(note, 100), fontsize=7)
    return figure


def _classes(
    figure: Figure,
    axes: Axes,
    points: npt.NDArray[Any],
    kinds: npt.NDArray[Any],
    names: Sequence[str] | None,
    size: float,
) -> None:
    found = np.unique(kinds)
    if len(found) > len(COLOURS) * len(MARKERS):
        raise InputError(
            f"labels has {len(found)} classes, of which {len(COLOURS) * len(MARKERS)} can be told apart: draw some of "
            "them, or give floats for a scale"
        )
    order = np.random.default_rng(0).permutation(len(points))  # so that no class lies over all others
    for i, kind in enumerate(found):
        some = points[order[kinds[order] == kind]]
        colour, shape = COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]
        axes.scatter(
            some[:, 0], some[:, 1], s=size, color=colour, marker=shape, linewidths=0, alpha=0.8,
            label=_name(kind, names),
        )  # fmt: skip
    legend = figure.legend(loc="outside right center", frameon=False, fontsize=8, ncols=math.ceil(len(found) / 30))
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
            handle.set_sizes([36])  # type: ignore[attr-defined]


def _name(kind: Any, names: Sequence[str] | None) -> str:
    is_index = np.issubdtype(type(kind), np.integer) and names is not None and 0 <= kind < len(names)
    return names[int(kind)] if is_index and names is not None else str(kind)
