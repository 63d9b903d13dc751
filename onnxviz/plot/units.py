"""What :class:`onnxviz.UnitStats` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

from onnxviz.arguments import checked
from onnxviz.errors import OptionError
from onnxviz.plot.colours import COLOURS, DIVERGING, Array, Scale
from onnxviz.plot.figure import Figure
from onnxviz.plot.sheets import draw_sheet

if TYPE_CHECKING:
    from onnxviz.algorithms.units import UnitStats

ROWS = 12
"""How many units' inputs are drawn unless they are named."""
CROP = 0.9
"""Inches of a crop."""


@checked
def unit_stats(stats: UnitStats) -> Figure:
    """Each unit's mean, deviation and maximum, its share of values not above 0 and at a limit; beside it the
    correlation matrix with correlated units brought together, and the redundant groups framed.
    """
    wide = stats.correlation is not None
    figure = Figure(figsize=(12.5 if wide else 7, 5.2), layout="constrained")
    ratios = (1.25, 1) if wide else (1,)
    parts = list(figure.subfigures(1, len(ratios), squeeze=False, width_ratios=ratios).flat)
    _strips(parts[0], stats)
    if wide:
        _matrix(parts[1], stats)
    parts[0].suptitle(
        f"{stats.layer}: {len(stats.mean)} units over {stats.samples} samples; {_listed('dead', stats.dead)}; "
        f"{_listed('saturated', stats.saturated)}",
        fontsize=9,
    )
    return figure


@checked
def top_inputs(stats: UnitStats, units: Sequence[int] | None = None) -> Figure:
    """The parts of the inputs that make units fire most, strongest first: a row for each unit.

    Args:
        stats: what :meth:`onnxviz.Explainer.unit_stats` returned.
        units: which; None draws the first 12 that are not dead, of those whose crops were kept.

    Raises:
        OptionError: a unit without crops, or no unit.
    """
    chosen = [u for u in stats.crops if u not in stats.dead][:ROWS] if units is None else list(units)
    if wrong := [u for u in chosen if u not in stats.crops]:
        raise OptionError(f"units: no crops of unit {wrong[0]!r} were kept: unit_stats(…, units=[{wrong[0]!r}])")
    if not chosen:
        raise OptionError("units: there is none that lives and has crops")
    cells, remark = _drawable([list(stats.crops[u]) for u in chosen], stats)
    titles = [
        [f"{v:.3g} in {s}" for v, s in zip(stats.top_values[u], stats.top_samples[u], strict=True)] for u in chosen
    ]
    title = f"{stats.layer}: the largest value of each unit, and the sample it is in{remark}"
    return draw_sheet(cells, titles, CROP, None, row_titles=[f"unit {u}" for u in chosen], title=title)


def _strips(figure: SubFigure, stats: UnitStats) -> None:
    limited = stats.limits != (None, None)
    grid = figure.subplots(3 if limited else 2, sharex=True)
    units = np.arange(len(stats.mean))
    grid[0].vlines(units, stats.mean - stats.deviation, stats.mean + stats.deviation, color=COLOURS[0], alpha=0.5)
    grid[0].plot(units, stats.mean, ".", color=COLOURS[0], label="mean ± deviation")
    grid[0].plot(units, stats.maximum, "_", color="black", label="maximum")
    grid[0].plot(stats.dead, stats.maximum[stats.dead], "x", color=COLOURS[2], label="dead")
    grid[0].set_ylabel("value", fontsize=8)
    grid[0].legend(fontsize=7, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    _shares(grid[1], units, stats.nonpositive, stats.dead, "share ≤ 0")
    if limited:
        ends = " or ".join(f"{end:g}" for end in stats.limits if end is not None)
        _shares(grid[2], units, stats.limited, stats.saturated, f"share at {ends}")
    grid[-1].set_xlabel("unit", fontsize=8)
    for axes in grid:
        axes.tick_params(labelsize=7)
        axes.margins(x=0.01)


def _shares(axes: Axes, units: Array, shares: Array, marked: Array, label: str) -> None:
    colours = [COLOURS[2] if u in marked else COLOURS[3] for u in units]
    axes.bar(units, shares, width=0.8, color=colours)
    axes.set_ylim(0, 1)
    axes.set_ylabel(label, fontsize=8)


def _matrix(figure: SubFigure, stats: UnitStats) -> None:
    assert stats.correlation is not None
    order, axes = stats.order, figure.subplots()
    scale = Scale(-1, 1, DIVERGING)
    values = stats.correlation[np.ix_(order, order)]
    painted = scale.paint(np.nan_to_num(values))
    painted[np.isnan(values)] = to_rgb("0.8")
    axes.imshow(painted, interpolation="nearest")
    position = np.argsort(order)
    for group in stats.redundant:
        low, high = position[list(group)].min(), position[list(group)].max()
        side = high - low + 1
        axes.add_patch(Rectangle((low - 0.5, low - 0.5), side, side, fill=False, edgecolor="black", linewidth=1.5))
    if len(order) <= 64:
        axes.set_xticks(range(len(order)), [str(u) for u in order], fontsize=5 if len(order) > 24 else 7, rotation=90)
        axes.set_yticks(range(len(order)), [str(u) for u in order], fontsize=5 if len(order) > 24 else 7)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(scale.mappable, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    groups = "1 group" if len(stats.redundant) == 1 else f"{len(stats.redundant)} groups"
    framed = f"{groups} with |r| ≥ {stats.redundancy:g} framed" if stats.redundant else "none redundant"
    grey = ", grey: never changes" if np.isnan(values).any() else ""
    axes.set_title(f"correlation of units, clustered; {framed}{grey}", fontsize=9)


def _listed(name: str, units: Array) -> str:
    shown = ", ".join(str(u) for u in units[:6]) + (", …" if len(units) > 6 else "")
    return f"{len(units)} {name}" + (f" ({shown})" if len(units) else "")


def _drawable(rows: list[list[Array]], stats: UnitStats) -> tuple[list[list[Array]], str]:
    """Crops as pictures, tables or curves, and what must be said of them."""
    if stats.image_input is not None:
        return [[stats.image_input.pixels(crop[None])[0] for crop in row] for row in rows], ""
    axis = stats.crop_axis
    if axis is None:
        return [[np.atleast_1d(crop) for crop in row] for row in rows], ""
    channels, rank = rows[0][0].shape[axis], rows[0][0].ndim - 1
    if rank == 2 and channels == 3:
        low, high = _ends(rows)
        pixels = [[255 * (np.moveaxis(c, axis, -1) - low) / ((high - low) or 1) for c in row] for row in rows]
        return [[np.rint(p).astype(np.uint8) for p in row] for row in pixels], f"; black {low:.3g}, white {high:.3g}"
    if rank == 0:
        return rows, ""
    picked = [[np.take(crop, 0, axis) for crop in row] for row in rows]
    remark = "" if channels == 1 else f"; input channel 0 of {channels}"
    if rank == 3:
        return [[volume[len(volume) // 2] for volume in row] for row in picked], f"{remark}; the middle slices"
    return picked, remark


def _ends(rows: list[list[Array]]) -> tuple[float, float]:
    return min(float(c.min()) for row in rows for c in row), max(float(c.max()) for row in rows for c in row)
