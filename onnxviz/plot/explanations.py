"""The figure of an :class:`~onnxviz.explanation.Explanation`, by the number of its spatial axes."""

from __future__ import annotations

from dataclasses import replace
from textwrap import fill

import numpy as np
import numpy.typing as npt

from onnxviz.errors import InputError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.plot.arguments import images_of, maps_of, numbers
from onnxviz.plot.colours import Style
from onnxviz.plot.figure import Figure
from onnxviz.plot.panels import Panel, draw_panels
from onnxviz.plot.series import Strip, draw_strips

SHOWN = 8
"""How many samples, and slices of a volume, a plot shows at most."""
IN_NOTEBOOK, TARGETS = 4, 6
"""How many samples, and targets of each, a notebook shows at most."""
NOTE_LETTERS = 18
"""How many letters of a note fit into an inch below a plot."""
PLOTTED = 1024
"""How many pixels the longer side of a picture keeps at least in a plot, whose panels show fewer."""


def plot(explanation: Explanation, image: npt.ArrayLike | None, *, most: int = SHOWN) -> Figure:
    """A figure of the first ``most`` samples; see :meth:`Explanation.plot`."""
    if image is None and explanation.image is not None:
        step = max(1, max(explanation.image.shape[1:3]) // PLOTTED)
        image = explanation.image[:, ::step, ::step]
    figure = _drawn(explanation, image, most)
    if explanation.notes:
        width = int(NOTE_LETTERS * figure.get_figwidth())
        figure.supxlabel("\n".join(fill(note, width) for note in explanation.notes), fontsize=7)
    return figure


def in_notebook(explanation: Explanation) -> Figure:
    """A figure of the first samples and targets, the rest of which are counted."""
    if "target" in explanation.axes and (more := explanation.shape[explanation.axes.index("target")] - TARGETS) > 0:
        given, score = (None if one is None else one[:, :TARGETS] for one in (explanation.target, explanation.score))
        values = explanation.values.take(range(TARGETS), explanation.axes.index("target"))
        notes = (*explanation.notes, f"{more} more targets are not shown")
        explanation = replace(explanation, values=values, target=given, score=score, notes=notes)
    return plot(explanation, None, most=IN_NOTEBOOK)


def _drawn(explanation: Explanation, image: npt.ArrayLike | None, most: int) -> Figure:
    rank = len(explanation.spatial_axes)
    if rank == 1:
        figure = _signals(explanation, image, most)
    elif rank == 2:
        figure = _pictures(explanation, image, most)
    elif rank == 3 and image is None:
        figure = _volumes(explanation, most)
    elif rank == 3:
        raise InputError("volumes are drawn by themselves: image must be None")
    else:
        raise InputError(f"values with {rank} spatial axes cannot be drawn: the axes are {explanation.axes}")
    samples = len(maps_of("values", explanation, rank))
    title = explanation.method + (f" at {explanation.layer}" if explanation.layer is not None else "")
    title += ", channels summed" if "channel" in explanation.axes else ""
    title += f", the first {most} of {samples} samples" if samples > most else ""
    figure.suptitle(title, fontsize=9)
    return figure


def _pictures(explanation: Explanation, image: npt.ArrayLike | None, most: int) -> Figure:
    maps = maps_of("values", explanation, 2)
    images = None if image is None else images_of("image", image, len(maps))
    rows = []
    for n, sample in enumerate(maps[:most]):
        picture = None if images is None else images[n]
        row = [] if picture is None else [Panel("input", image=picture)]
        rows.append(row + [Panel(explanation.title(n, t), values, picture) for t, values in enumerate(sample)])
    return draw_panels(rows, [""] * len(rows))


def _signals(explanation: Explanation, image: npt.ArrayLike | None, most: int) -> Figure:
    maps = maps_of("values", explanation, 1)
    series = maps if image is None else _series_of(numbers("image", image), len(maps))
    behind = resize_linear(maps, series.shape[-1:], (2,))
    strips = []
    for n, (sample, curves) in enumerate(zip(behind[:most], series, strict=False)):
        for t, values in enumerate(sample):
            shown = curves[t : t + 1] if image is None else curves
            strips += [Strip(explanation.title(n, t), curve, values) for curve in shown]
    return draw_strips(strips, np.arange(series.shape[-1], dtype=np.float64))


def _series_of(series: npt.NDArray[np.float64], samples: int) -> npt.NDArray[np.float64]:
    """Signals (N, C, T) from (T,), (N, T) or (N, C, T)."""
    shape = series.shape
    if series.ndim < 3:
        series = series.reshape(-1, 1, shape[-1])
    if series.ndim != 3 or len(series) != samples:
        raise InputError(f"image is the signal (T,), (N, T) or (N, C, T) of {samples} samples; got shape {shape}")
    return series


def _volumes(explanation: Explanation, most: int) -> Figure:
    """Evenly spaced slices across the first spatial axis, a row for each sample and target, on the volume's scale."""
    maps = maps_of("values", explanation, 3)
    depth = maps.shape[2]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, most)).round().astype(int))
    rows, titles = [], []
    for n, sample in enumerate(maps[:most]):
        for t, volume in enumerate(sample):
            scale = Style().scale(volume)
            rows.append([Panel(f"slice {k}", volume[k], scale=scale, bar=bool(k == chosen[-1])) for k in chosen])
            titles.append(explanation.title(n, t))
    return draw_panels(rows, titles)
