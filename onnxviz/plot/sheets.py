"""Sheets: many pictures, tables of numbers or curves in one grid; and kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from onnxviz.arguments import as_array, checked
from onnxviz.errors import InputError, OptionError
from onnxviz.plot.arguments import numbers, positive, titles_of
from onnxviz.plot.colours import COLOURS, Array, Scale, scale_of
from onnxviz.plot.figure import Figure

CELL = 1.4
"""Inches that the longer side of a cell takes."""
INPUTS = 64
"""How many input channels of kernels are drawn beside each other."""
GAP = 0.8
"""The grey between kernels."""


@checked
def sheet(
    images: Iterable[npt.ArrayLike],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    size: float = CELL,
    cmap: str | None = None,
    title: str = "",
) -> Figure:
    """Many in one grid: what filters want to see, the inputs that excite a unit, kernels.

    Args:
        images: all of one kind: pictures, uint8 RGB (H, W, 3); tables of numbers (H, W), on one scale that the colour
            bar tells; or curves (T,), with one range of values. Sizes may differ.
        titles: of each.
        columns: of the grid; None makes it about square.
        size: inches that the longer side of a cell takes.
        cmap: a colour map for tables; None chooses by the sign of the values.
        title: of the figure.

    Raises:
        InputError: no images, or other arrays.
        OptionError: an impossible option.
    """
    cells = [as_array(image, "images") for image in images]
    if not cells:
        raise InputError("images is empty: sheet draws at least one")
    if not size > 0:
        raise OptionError(f"size is a positive number of inches; got {size!r}")
    count = math.ceil(math.sqrt(len(cells))) if columns is None else positive("columns", columns)
    rows = [cells[i : i + count] for i in range(0, len(cells), count)]
    labels = titles_of("titles", titles, len(cells))
    return draw_sheet(rows, [labels[i : i + count] for i in range(0, len(cells), count)], size, cmap, title=title)


def draw_sheet(
    rows: Sequence[Sequence[Array]],
    titles: Sequence[Sequence[str]],
    size: float,
    cmap: str | None,
    *,
    row_titles: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """A figure of cells of one kind; rows may be of different length."""
    kinds = {_kind(cell) for row in rows for cell in row}
    if len(kinds) > 1:
        raise InputError(f"images are all of one kind; got {' and '.join(sorted(kinds))}")
    (kind,) = kinds
    columns = max(len(row) for row in rows)
    height, width = np.max([_shape(cell, kind) for row in rows for cell in row], axis=0) * size
    above = 0.2 if any(any(row) for row in titles) else 0.05
    figure = Figure(
        figsize=(max((width + 0.08) * columns + 0.8, 2.5), (height + above) * len(rows) + 0.35), layout="compressed"
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    values = np.concatenate([numbers("images", cell).ravel() for row in rows for cell in row])
    scale = scale_of(values, cmap=cmap)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, row, names in zip(grid, rows, titles, strict=True):
        for axes, cell, name in zip(line, row, names, strict=False):
            _draw(axes, cell, kind, scale, (float(values.min()), float(values.max())))
            axes.set_title(name, fontsize=7, pad=2)
    for line, name in zip(grid, row_titles, strict=False):
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
    if kind == "tables":
        colour_bar(figure, scale)
    elif kind == "curves":
        title = f"{title}{': ' if title else ''}all from {values.min():.3g} to {values.max():.3g}"
    figure.suptitle(title, fontsize=9)
    return figure


def colour_bar(figure: Figure, scale: Scale) -> None:
    """What the colours of all axes stand for."""
    bar = figure.colorbar(scale.mappable, ax=figure.axes, fraction=0.03, pad=0.02)
    bar.ax.tick_params(labelsize=7)


@checked
def filters(
    kernels: npt.ArrayLike,
    *,
    channel: int | None = None,
    colour: bool = False,
    most: int = 64,
    columns: int | None = None,
    cmap: str | None = None,
) -> Figure:
    """The kernels of a convolution, on one scale, zero in its middle.

    Args:
        kernels: as :meth:`onnxviz.Explainer.filters` returns them. (units, inputs, height, width): an image for each
            unit and input channel. (units, inputs, time): a panel for each unit with a curve for each input channel.
            (units, inputs, depth, height, width): slices along the depth. Of a dense layer (units, inputs): one table.
        channel: the input channel that is drawn alone; None draws all, of volumes the first.
        colour: the three input channels as red, green and blue, grey is 0; of a network that takes BGR give
            ``kernels[:, ::-1]``.
        most: how many units are drawn, the first ones; the title tells how many there are.
        columns: of the grid of single images or curves.
        cmap: a colour map of matplotlib; None chooses by the sign of the values.

    Raises:
        InputError: an array of another rank.
        OptionError: an impossible option.
    """
    values = numbers("kernels", kernels)
    if not 2 <= values.ndim <= 5:
        raise InputError(f"kernels is (units, inputs) with up to three axes of the kernel after; got {values.shape}")
    units, inputs = values.shape[:2]
    if channel is not None and not 0 <= channel < inputs:
        raise OptionError(f"channel is one of the input channels 0 … {inputs - 1}; got {channel!r}")
    shown = values[: positive("most", most)]
    title = f"the first {len(shown)} of {units} units" if len(shown) < units else f"{units} units"
    if values.ndim == 5 and channel is None and inputs > 1:
        channel = 0
    if channel is not None:
        shown, title = shown[:, channel : channel + 1], f"{title}, input channel {channel} of {inputs}"
    labels = [str(i) for i in range(len(shown))]
    if colour:
        return _coloured(shown, labels, columns, title)
    if values.ndim == 3:
        return _curves(shown, labels, columns, title)
    if values.ndim == 4 and shown.shape[1] == 1:
        return sheet(list(shown[:, 0]), labels, columns=columns, size=0.8, cmap=cmap, title=title)
    if values.ndim == 5:
        return _mosaic(shown[:, 0], "slice", cmap, title)
    if values.ndim == 4 and inputs > INPUTS:
        shown, title = shown[:, :INPUTS], f"{title}, the first {INPUTS} of {inputs} input channels"
    return _mosaic(shown if values.ndim == 4 else shown[:, :, None, None], "input channel", cmap, title)


def _coloured(kernels: Array, labels: Sequence[str], columns: int | None, title: str) -> Figure:
    """Kernels (U, 3, h, w) as pictures."""
    if kernels.ndim != 4 or kernels.shape[1] != 3:
        raise OptionError(f"colour draws kernels of three input channels and two axes; got shape {kernels.shape}")
    end = float(np.abs(kernels).max()) or 1.0
    pixels = np.rint(127.5 * (1 + kernels.transpose(0, 2, 3, 1) / end)).astype(np.uint8)
    return sheet(list(pixels), labels, columns=columns, size=0.8, title=f"{title}; grey is 0, the ends are ±{end:.3g}")


def _curves(kernels: Array, labels: Sequence[str], columns: int | None, title: str) -> Figure:
    """Kernels (U, I, k): a panel for each unit."""
    count = math.ceil(math.sqrt(len(kernels))) if columns is None else positive("columns", columns)
    rows = math.ceil(len(kernels) / count)
    figure = Figure(figsize=(1.7 * count + 0.9, 1.2 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, count, squeeze=False, sharex=True, sharey=True)
    for axes, kernel, label in zip(grid.flat, kernels, labels, strict=False):
        axes.axhline(0, color="0.75", linewidth=0.8)
        for i, curve in enumerate(kernel):
            axes.plot(
                curve, linewidth=1.2, marker=".", markersize=4, label=f"input {i}", color=COLOURS[i % len(COLOURS)]
            )
        axes.set_title(label, fontsize=7, pad=2)
        axes.tick_params(labelsize=6)
    margin = 0.08 * float(np.ptp(kernels)) or 1.0
    grid[0, 0].set_ylim(float(kernels.min()) - margin, float(kernels.max()) + margin)  # of all: the axes are shared
    for axes in list(grid.flat)[len(kernels) :]:
        axes.set_axis_off()
    if 1 < kernels.shape[1] <= 8:
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def _mosaic(kernels: Array, across: str, cmap: str | None, title: str) -> Figure:
    """Kernels (U, K, h, w) as one picture: units downwards, grey lines between."""
    units, count, height, width = kernels.shape
    gap = 0 if (height, width) == (1, 1) else 1
    scale = scale_of(kernels, cmap=cmap)
    canvas = np.full((units * (height + gap) + gap, count * (width + gap) + gap, 3), GAP)
    for u, row in enumerate(kernels):
        for k, kernel in enumerate(row):
            top, left = gap + u * (height + gap), gap + k * (width + gap)
            canvas[top : top + height, left : left + width] = scale.paint(kernel)
    unit = min(0.12, 9 / max(canvas.shape[:2]))
    size = (max(unit * canvas.shape[1], 1.5) + 1.3, max(unit * canvas.shape[0], 1.0) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest", aspect="equal" if gap else "auto")
    for axis, number, side in ((axes.yaxis, units, height), (axes.xaxis, count, width)):
        every = math.ceil(number / 32)
        centres = [gap + i * (side + gap) + (side - 1) / 2 for i in range(0, number, every)]
        axis.set_ticks(centres, [str(i) for i in range(0, number, every)], fontsize=6)
    axes.set_ylabel("unit", fontsize=8)
    axes.set_xlabel(across, fontsize=8)
    colour_bar(figure, scale)
    figure.suptitle(title, fontsize=9)
    return figure


def _kind(cell: Array) -> str:
    if cell.dtype == np.uint8 and cell.ndim == 3 and cell.shape[-1] == 3:
        return "pictures"
    kinds = {1: "curves", 2: "tables"}
    if cell.ndim not in kinds:
        raise InputError(
            f"images are uint8 RGB (H, W, 3), numbers (H, W), or curves (T,); got {cell.dtype} {cell.shape}"
        )
    return kinds[cell.ndim]


def _shape(cell: Array, kind: str) -> tuple[float, float]:
    """(height, width) of a cell whose longer side is 1."""
    if kind == "curves":
        return 0.6, 1.0
    longer = max(cell.shape[:2])
    return cell.shape[0] / longer, cell.shape[1] / longer


def _draw(axes: Axes, cell: Array, kind: str, scale: Scale, ends: tuple[float, float]) -> None:
    if kind == "pictures":
        axes.imshow(cell)
    elif kind == "tables":
        axes.imshow(scale.paint(cell), interpolation="nearest")
    else:
        margin = 0.05 * (ends[1] - ends[0]) or 1.0
        axes.plot(cell, color="black", linewidth=1)
        axes.set_ylim(ends[0] - margin, ends[1] + margin)
