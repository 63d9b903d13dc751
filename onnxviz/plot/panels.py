"""Maps of pictures: one over its picture, or many side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

from onnxviz.arguments import checked
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.plot.arguments import MapLike, images_of, maps_of, titles_of
from onnxviz.plot.colours import Pixels, Scale, Style
from onnxviz.plot.figure import Figure

PANEL = 2.8
"""Inches that the longer side of a panel takes."""
LETTERS = 44
"""How many letters fit over a panel."""


@dataclass(frozen=True)
class Panel:
    """A map (h, w), a picture (H, W, 3), or the one over the other."""

    title: str
    values: npt.NDArray[Any] | None = None
    image: Pixels | None = None
    style: Style = field(default_factory=Style)
    scale: Scale | None = None
    """Of the colours; None makes one for this map alone."""
    bar: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of what is drawn."""
        drawn = self.values if self.image is None else self.image
        assert drawn is not None
        return drawn.shape[0], drawn.shape[1]

    def draw(self, axes: Axes) -> None:
        """Draw into axes, with a colour bar if wanted and if colours stand for numbers."""
        axes.set_title(self.title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        if self.values is None:
            assert self.image is not None
            axes.imshow(self.image)
            return
        scale = self.scale or self.style.scale(self.values)
        if self.image is None:
            axes.imshow(scale.paint(self.values), interpolation="nearest")
        else:
            values = resize_linear(self.values, self.shape, (0, 1))
            axes.imshow(self.style.lay(values, self.image))
            if self.style.mode == "multiply":
                low, high = self.style.limits(values)
                axes.set_xlabel(f"black ≤ {low:.3g}, full ≥ {high:.3g}", fontsize=7)
                return
        if not self.bar:
            return
        bar = axes.figure.colorbar(scale.mappable, ax=axes, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=6)
        bar.outline.set_visible(False)


def draw_panels(rows: Sequence[Sequence[Panel]], titles: Sequence[str]) -> Figure:
    """A figure of rows of panels, each row with a title at its left."""
    height, width = np.max([panel.shape for row in rows for panel in row], axis=0)
    columns = len(rows[0])
    unit = PANEL / max(height, width)
    size = ((width * unit + 0.5) * columns, (height * unit + 0.35) * len(rows))
    layout = ConstrainedLayoutEngine(w_pad=0.12, compress=True)  # narrower pads would cut the rows' titles
    figure = Figure(figsize=size, layout=layout)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, row, title in zip(grid, rows, titles, strict=True):
        axes_row[0].set_ylabel(title, fontsize=9)
        for axes, panel in zip(axes_row, row, strict=True):
            panel.draw(axes)
    return figure


@checked
def overlay(
    map: MapLike,
    image: npt.ArrayLike,
    *,
    alpha: float = 0.5,
    mode: str = "blend",
    clip: tuple[float, float] = (10, 90),
    cmap: str | None = None,
    title: str = "",
) -> Figure:
    """One map over its picture.

    Args:
        map: (h, w), or an Explanation of one sample and one target; brought to the picture's size linearly.
        image: uint8 RGB (H, W, 3).
        alpha: see :class:`~onnxviz.plot.colours.Style`, as ``mode``, ``clip`` and ``cmap``.
        mode: ``"blend"`` or ``"multiply"``.
        clip: percentiles for ``"multiply"``.
        cmap: a colour map of matplotlib.
        title: of the panel.

    Raises:
        InputError: an array of another shape or type.
        OptionError: an impossible option.
    """
    style = Style(mode, alpha, clip, cmap)
    maps = maps_of("map", map, 2)
    if maps.shape[:2] != (1, 1):
        raise InputError(f"overlay draws one map; got {maps.shape[0]} samples × {maps.shape[1]} targets: use compare")
    return draw_panels([[Panel(title, maps[0, 0], images_of("image", image, 1)[0], style)]], [""])


@checked
def compare(
    maps: Mapping[str, MapLike],
    image: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.5,
    mode: str = "blend",
    clip: tuple[float, float] = (10, 90),
    cmap: str | None = None,
    titles: Sequence[str] | None = None,
    stack: bool = False,
) -> Figure:
    """Maps side by side: a row for each sample, a column for each map, each panel with its own colour bar.

    Over a map of an Explanation stand its class and score.

    Args:
        maps: title → map (h, w), maps (N, h, w), or an Explanation; several targets take a column each.
        image: uint8 RGB (H, W, 3) or (N, H, W, 3). With it the maps lie over the pictures, and the first column
            shows them alone; without it the maps are drawn by themselves.
        alpha: see :class:`~onnxviz.plot.colours.Style`, as ``mode``, ``clip`` and ``cmap``.
        mode: ``"blend"`` or ``"multiply"``; ``"beside"`` draws the maps by themselves, beside their pictures.
        clip: percentiles for ``"multiply"``.
        cmap: a colour map of matplotlib.
        titles: of the samples.
        stack: a row for each sample and map, so that columns are left for several targets.

    Raises:
        InputError: arrays of another shape or type, or with different numbers of samples.
        OptionError: an impossible option, or no maps.
    """
    style = Style("blend" if mode == "beside" else mode, alpha, clip, cmap)
    if not maps:
        raise OptionError("maps is empty: compare draws at least one")
    columns = {name: maps_of(f"maps[{name!r}]", values, 2) for name, values in maps.items()}
    counts = {name: len(values) for name, values in columns.items()}
    samples = next(iter(counts.values()))
    if set(counts.values()) != {samples}:
        raise InputError(f"maps differ in the number of samples: {counts}")
    images = None if image is None else images_of("image", image, samples)
    names = titles_of("titles", titles, samples)
    rows: list[list[Panel]] = []
    for n in range(samples):
        picture = None if images is None else images[n]
        behind = None if mode == "beside" else picture
        found = [
            [
                Panel(_heading("" if stack else name, maps[name], n, t), of[n, t], behind, style)
                for t in range(of.shape[1])
            ]
            for name, of in columns.items()
        ]
        found = found if stack else [list(chain.from_iterable(found))]
        rows += [([] if picture is None else [Panel("input", image=picture)]) + row for row in found]
    if len({len(row) for row in rows}) > 1:
        raise InputError(
            f"stack needs maps with one number of targets; got { {k: v.shape[1] for k, v in columns.items()} }"
        )
    if stack:
        names = [f"{name}\n{title}".strip() for title in names for name in columns]
    return draw_panels(rows, names)


def _heading(name: str, values: MapLike, sample: int, target: int) -> str:
    """The map's name; below it, of an Explanation, the class and score."""
    if not isinstance(values, Explanation) or (values.target is None and values.score is None):
        return name
    return f"{name}\n{shorten(values.title(sample, target), LETTERS)}".strip()
