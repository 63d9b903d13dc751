"""The figure of a :class:`~onnxviz.maximization.Maximization`: a sheet of pictures, curves or slices."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np

from onnxviz.errors import InputError
from onnxviz.maximization import Maximization
from onnxviz.plot.arguments import positive
from onnxviz.plot.colours import Style
from onnxviz.plot.figure import Figure
from onnxviz.plot.panels import Panel, draw_panels

CELL = 2.2
"""Inches that the longer side of a picture takes."""

SLICES = 8
"""How many slices of a volume are drawn at most."""


def plot(found: Maximization, *, columns: int | None, stretch: bool) -> Figure:
    """See :meth:`onnxviz.Maximization.plot`."""
    rank = len(found.axes.spatial)
    if rank not in (1, 2, 3):
        raise InputError(f"images with {rank} (known) spatial axes cannot be drawn")
    figure = (_curves, lambda one: _pictures(one, columns, stretch=stretch), _slices)[rank - 1](found)
    if found.notes:
        figure.supxlabel("\n".join(fill(note, int(18 * figure.get_figwidth())) for note in found.notes), fontsize=7)
    return figure


def _pictures(found: Maximization, columns: int | None, *, stretch: bool) -> Figure:
    pixels = found.pixels(stretch=stretch)
    count = math.ceil(math.sqrt(len(pixels))) if columns is None else positive("columns", columns)
    count = min(count, len(pixels))
    rows = math.ceil(len(pixels) / count)
    height, width = (CELL * n / max(pixels.shape[1:3]) for n in pixels.shape[1:3])
    figure = Figure(figsize=(width * count, (height + 0.3) * rows), layout="constrained")
    cells = list(figure.subplots(rows, count, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for n, (axes, picture) in enumerate(zip(cells, pixels, strict=False)):
        axes.imshow(picture)
        axes.set_title(fill(found.title(n), round(14 * width)), fontsize=7, pad=2)
    return figure


def _curves(found: Maximization) -> Figure:
    """A strip for each image, a line for each of its channels."""
    figure = Figure(figsize=(9, 0.6 + 1.4 * len(found)), layout="constrained")
    (axis,) = found.axes.spatial
    for n, axes in enumerate(figure.subplots(len(found), sharex=True, squeeze=False)[:, 0]):
        curves = np.moveaxis(found.images[n], axis - 1, -1).reshape(-1, found.images.shape[axis])
        axes.plot(curves.T, linewidth=1, label=[f"channel {c}" for c in range(len(curves))])
        axes.set_title(found.title(n), fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        if 1 < len(curves) <= 8:
            axes.legend(fontsize=6, loc="upper right")
    return figure


def _slices(found: Maximization) -> Figure:
    """Evenly spaced slices across the first spatial axis, channels summed, a row for each image, on its scale."""
    volumes = found.images if found.axes.channel is None else found.images.sum(found.axes.channel)
    chosen = np.unique(np.linspace(0, volumes.shape[1] - 1, min(volumes.shape[1], SLICES)).round().astype(int))
    rows = []
    for volume in volumes.astype(np.float64):
        scale = Style().scale(volume)
        rows.append([Panel(f"slice {k}", volume[k], scale=scale, bar=bool(k == chosen[-1])) for k in chosen])
    return draw_panels(rows, [found.title(n) for n in range(len(found))])
