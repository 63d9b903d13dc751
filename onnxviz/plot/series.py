"""Maps of one-dimensional signals: the curve before the colours of its map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import checked
from onnxviz.errors import InputError, OptionError
from onnxviz.image import resize_linear
from onnxviz.plot.arguments import MapLike, maps_of, numbers, positive, titles_of
from onnxviz.plot.colours import Scale, scale_of
from onnxviz.plot.figure import Figure

SEQUENTIAL = "Oranges"
"""Behind a dark curve: white at zero, even steps of lightness."""

OPACITY = 0.65
"""Of the colours, on white: the darkest still lets a black curve be seen."""

Series = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Strip:
    """One curve (T,) and the map (T,) behind it."""

    title: str
    curve: Series
    values: Series


def draw_strips(strips: Sequence[Strip], times: Series, *, cmap: str | None = None) -> Figure:
    """A figure of strips below each other, on one scale of colours."""
    scale = scale_of(np.stack([strip.values for strip in strips]), cmap=cmap, sequential=SEQUENTIAL)
    figure = Figure(figsize=(9, 0.6 + 1.4 * len(strips)), layout="constrained")
    grid = figure.subplots(len(strips), sharex=True, squeeze=False)[:, 0]
    half = (times[-1] - times[0]) / max(len(times) - 1, 1) / 2 or 0.5
    for axes, strip in zip(grid, strips, strict=True):
        low, high = float(strip.curve.min()), float(strip.curve.max())
        margin = 0.06 * (high - low) or 1.0
        extent = (float(times[0] - half), float(times[-1] + half), low - margin, high + margin)
        axes.imshow(_paint(scale, strip.values), extent=extent, aspect="auto", interpolation="nearest", alpha=OPACITY)
        axes.plot(times, strip.curve, color="black", linewidth=min(1.2, 600 / len(times) + 0.25))
        axes.set_xlim(extent[:2])
        axes.set_ylim(extent[2:])
        axes.set_title(strip.title, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
    bar = figure.colorbar(scale.mappable, ax=list(grid), fraction=0.03, pad=0.02, alpha=OPACITY)
    bar.ax.tick_params(labelsize=7)
    return figure


@checked
def signal(
    series: npt.ArrayLike,
    map: MapLike,
    *,
    channel_axis: int = 0,
    times: npt.ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    cmap: str | None = None,
) -> Figure:
    """A signal with its map as the colour behind it, a strip for each channel, all on one scale of colours.

    Args:
        series: (T,), or (C, T) with the channels at ``channel_axis``.
        map: (t,), or one map for each channel (C, t); an Explanation of one sample. Brought to T points linearly.
        channel_axis: of ``series``.
        times: the T positions, evenly spaced; None counts samples.
        titles: of the strips.
        cmap: a colour map of matplotlib; None chooses by the sign of the values.

    Raises:
        InputError: arrays of another shape.
        OptionError: an impossible option.
    """
    curves = numbers("series", series)
    if curves.ndim not in {1, 2} or not -curves.ndim <= channel_axis < curves.ndim:
        raise InputError(
            f"series is (T,), or (C, T) with the channels at channel_axis={channel_axis}; got shape {curves.shape}"
        )
    curves = curves[None] if curves.ndim == 1 else np.moveaxis(curves, channel_axis, 0)
    channels, length = curves.shape
    maps = maps_of("map", map, 1)
    if maps.shape[1] != 1 or len(maps) not in {1, channels}:
        raise InputError(f"map is one, or one for each of {channels} channels; got shape {np.shape(map)}")
    behind = np.broadcast_to(resize_linear(maps[:, 0], (length,), (1,)), curves.shape)
    positions = _positions(times, length)
    names = titles_of("titles", titles, channels)
    return draw_strips([Strip(*strip) for strip in zip(names, curves, behind, strict=True)], positions, cmap=cmap)


@checked
def timeline(
    series: npt.ArrayLike,
    maps: npt.ArrayLike,
    *,
    stride: int | None = None,
    channel_axis: int = 0,
    times: npt.ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    cmap: str | None = None,
) -> Figure:
    """A signal, and under it what each channel of a layer does at each time: a line of colours for each channel.

    Args:
        series: (T,), or (S, T) for several curves.
        maps: (C, t), one sample's values of a layer, brought to T points linearly. Or (W, C, t), the values over W
            windows that slide along the series: the mean of the windows that cover a time is drawn there.
        stride: by how many points each window starts after the one before; needed for windows.
        channel_axis: of one sample's values: 0 for (C, t), −1 for (t, C).
        times: the T positions, evenly spaced; None counts samples.
        titles: of the channels; None numbers them.
        cmap: a colour map of matplotlib; None chooses by the sign of the values.

    Raises:
        InputError: arrays of another shape.
        OptionError: an impossible option.
    """
    curves = np.atleast_2d(numbers("series", series))
    values = numbers("maps", maps)
    if curves.ndim != 2 or values.ndim not in {2, 3}:
        raise InputError(
            f"series is (T,) or (S, T), maps is (C, t) or (W, C, t); got {np.shape(series)} and {values.shape}"
        )
    if channel_axis not in {0, 1, -1, -2}:
        raise OptionError(f"channel_axis is an axis of one sample's values, 0 or −1; got {channel_axis!r}")
    windows = values if values.ndim == 3 else values[None]
    windows = windows if channel_axis in {0, -2} else windows.swapaxes(1, 2)
    length = curves.shape[1]
    lines = _slid(windows, length, stride)
    positions = _positions(times, length)
    names = titles_of("titles", titles, len(lines)) if titles else [str(i) for i in range(len(lines))]
    scale = scale_of(lines, cmap=cmap)
    height = min(0.6 + 0.16 * len(lines), 7)
    figure = Figure(figsize=(9, 1.9 + height), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(1.4, height))
    for curve, colour in zip(curves, ("black", "0.55", "0.75") * len(curves), strict=False):
        above.plot(positions, curve, color=colour, linewidth=1)
    half = (positions[-1] - positions[0]) / max(length - 1, 1) / 2 or 0.5
    extent = (float(positions[0] - half), float(positions[-1] + half), len(lines) - 0.5, -0.5)
    below.imshow(scale.paint(lines), extent=extent, aspect="auto", interpolation="nearest")
    every = -(-len(lines) // 32)
    below.set_yticks(range(0, len(lines), every), list(names)[::every], fontsize=7)
    below.set_ylabel("channel", fontsize=8)
    above.set_ylabel("signal", fontsize=8)
    for axes in (above, below):
        axes.tick_params(labelsize=7)
    bar = figure.colorbar(scale.mappable, ax=below, fraction=0.03, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    if len(windows) > 1:
        below.set_title(f"mean of the windows that cover a time; {len(windows)} windows", fontsize=8)
    return figure


def _slid(windows: Series, length: int, stride: int | None) -> Series:
    """Values (C, T) from windows (W, C, t), each laid where it starts; the mean where they overlap."""
    if len(windows) == 1:
        return resize_linear(windows[0], (length,), (1,))
    if stride is None:
        raise OptionError(f"stride is needed for {len(windows)} windows: by how many points each starts after another")
    step = positive("stride", stride)
    covered = length - step * (len(windows) - 1)
    if covered < 1:
        raise InputError(
            f"maps has {len(windows)} windows at stride {step}, which do not fit into a series of {length} points"
        )
    total, count = np.zeros((windows.shape[1], length)), np.zeros(length)
    for i, window in enumerate(resize_linear(windows, (covered,), (2,))):
        total[:, i * step : i * step + covered] += window
        count[i * step : i * step + covered] += 1
    if not count.all():
        raise InputError(f"maps' windows of {covered} points at stride {step} leave gaps in the series")
    return total / count


def _positions(times: npt.ArrayLike | None, length: int) -> Series:
    positions = np.arange(length, dtype=np.float64) if times is None else numbers("times", times)
    if positions.shape != (length,):
        raise InputError(f"times has the series' {length} positions; got shape {positions.shape}")
    return positions


def _paint(scale: Scale, values: Series) -> npt.NDArray[np.float64]:
    """One row of colours (1, T, 3). Of more values than a screen has columns, each column shows the largest."""
    most = 2000
    if len(values) > most:
        edges = np.linspace(0, len(values), most, endpoint=False).astype(int)
        largest, smallest = np.maximum.reduceat(values, edges), np.minimum.reduceat(values, edges)
        values = np.where(largest >= -smallest, largest, smallest)
    return scale.paint(values[None])
