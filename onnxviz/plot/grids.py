"""Grids of feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import checked
from onnxviz.errors import InputError
from onnxviz.plot.arguments import numbers, positive, titles_of
from onnxviz.plot.colours import Array, Scale, scale_of
from onnxviz.plot.figure import Figure

CELL = 1.0
"""Inches that the longer side of a map takes."""
SLICES = 8
"""How many slices of a volume are drawn."""


@checked
def feature_maps(
    maps: npt.ArrayLike,
    *,
    channel_axis: int = 0,
    most: int = 64,
    columns: int | None = None,
    shared: bool = True,
    titles: Sequence[str] | None = None,
    cmap: str | None = None,
) -> Figure:
    """The channels of one layer as a grid.

    Args:
        maps: one sample's (C, H, W), or (H, W, C) with ``channel_axis=-1``. One-dimensional layers (C, T) are drawn
            as one picture, a line for each channel; volumes (C, D, H, W) as evenly spaced slices along the depth, a row
            for each channel.
        channel_axis: where the channels are.
        most: how many channels are drawn, the first ones; the figure's title tells how many there are.
        columns: of the grid, or slices of a volume; None makes it about square, and 8 slices.
        shared: one scale for all maps, which the colour bar tells. False gives each map a scale of its own, the ends
            of which stand in its title: weak channels can be seen, but not compared.
        titles: of the maps drawn; None numbers them.
        cmap: a colour map of matplotlib; None chooses by the sign of the values.

    Raises:
        InputError: an array of another rank.
        OptionError: an impossible option.
    """
    values = numbers("maps", maps)
    if values.ndim not in {2, 3, 4} or not -values.ndim <= channel_axis < values.ndim:
        raise InputError(
            f"maps is one sample's (C, H, W), (C, T) or (C, D, H, W) with the channels at channel_axis={channel_axis}; "
            f"got shape {values.shape}"
        )
    values = np.moveaxis(values, channel_axis, 0)
    shown = values[: positive("most", most)]
    labels = titles_of("titles", titles, len(shown)) if titles else [str(i) for i in range(len(shown))]
    together = scale_of(shown, cmap=cmap)
    scales = [together if shared else together.fitted(channel) for channel in shown]
    if not shared:
        ends = [
            f"{s.low:.3g} … {s.high:.3g}" if channel.any() else "all 0"
            for channel, s in zip(shown, scales, strict=True)
        ]
        labels = [f"{label}: {end}" for label, end in zip(labels, ends, strict=True)]
    if shown.ndim == 2:
        figure = _lines(shown, labels, scales)
    elif shown.ndim == 4:
        figure = _slices(shown, labels, scales, SLICES if columns is None else positive("columns", columns))
    else:
        count = math.ceil(math.sqrt(len(shown))) if columns is None else positive("columns", columns)
        figure = _grid(shown, labels, scales, count)
    if len(values) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(values)} channels", fontsize=8)
    if shared:
        bar = figure.colorbar(scales[0].mappable, ax=figure.axes, fraction=0.03, pad=0.02)
        bar.ax.tick_params(labelsize=7)
    return figure


def _grid(maps: Array, labels: Sequence[str], scales: Sequence[Scale], columns: int) -> Figure:
    """Maps (C, H, W) as small pictures."""
    rows = math.ceil(len(maps) / columns)
    height, width = (CELL * n / max(maps.shape[1:]) for n in maps.shape[1:])
    figure = Figure(figsize=(width * columns + 0.8, (height + 0.15) * rows + 0.3), layout="compressed")
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for axes, channel, label, scale in zip(cells, maps, labels, scales, strict=False):
        axes.imshow(scale.paint(channel), interpolation="nearest")
        axes.set_title(label, fontsize=6, pad=2)
    return figure


def _slices(maps: Array, labels: Sequence[str], scales: Sequence[Scale], most: int) -> Figure:
    """Volumes (C, D, H, W) as slices along the depth, a row for each."""
    depths = np.unique(np.linspace(0, maps.shape[1] - 1, min(maps.shape[1], most)).round().astype(int))
    names = [f"slice {k}" for k in depths] + [""] * (len(depths) * (len(maps) - 1))
    repeated = [scale for scale in scales for _ in depths]
    figure = _grid(maps[:, depths].reshape(-1, *maps.shape[2:]), names, repeated, len(depths))
    for axes, label in zip(figure.axes[:: len(depths)], labels, strict=True):
        axes.text(-0.08, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=7)
    return figure


def _lines(maps: Array, labels: Sequence[str], scales: Sequence[Scale]) -> Figure:
    """Maps (C, T) as one picture, a line for each channel."""
    figure = Figure(figsize=(8, min(1 + 0.12 * len(maps), 8)), layout="constrained")
    axes = figure.subplots()
    lines = np.concatenate([scale.paint(line[None]) for line, scale in zip(maps, scales, strict=True)])
    axes.imshow(lines, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(maps)), labels, fontsize=6)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylabel("channel", fontsize=8)
    return figure
