"""Signals with their maps, and timelines: what is drawn are the numbers that were given."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz import plot
from onnxviz.errors import InputError, OptionError
from onnxviz.image import resize_linear
from onnxviz.plot.colours import scale_of
from tests.plot.drawn import bars, pictures

random = np.random.default_rng(0)


# ----- one signal -----


def test_signal_draws_the_curve_and_its_map():
    series, values = random.standard_normal(50), random.random(10)
    times = np.linspace(2, 3, 50)
    figure = plot.signal(series, values, times=times, cmap="gray")
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), np.stack([times, series], axis=1))
    (shown,) = pictures(figure)
    sized = resize_linear(values, (50,), (0,))
    np.testing.assert_allclose(shown, scale_of(values, cmap="gray").paint(sized[None]), atol=1e-2)
    assert bars(figure) == [(0, pytest.approx(sized.max()))]


def test_signal_of_several_channels_on_one_scale():
    series, values = random.standard_normal((40, 3)), random.standard_normal((3, 40))
    figure = plot.signal(series, values, channel_axis=1, titles=["x", "y", "z"])
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["x", "y", "z"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), series[:, 1])
    m = pytest.approx(np.abs(values).max())
    assert bars(figure) == [(pytest.approx(-np.abs(values).max()), m)]


def test_a_peak_of_a_long_signal_stays_visible():
    values = np.zeros(50_000)
    values[31_415], values[40_000] = -1, 0.5
    (shown,) = pictures(plot.signal(np.zeros(50_000), values))
    scale = scale_of(values)
    for value in (-1, 0.5):
        colour = scale.paint(np.array([[value]]))[0, 0]
        assert np.isclose(shown[0, :, :3], colour).all(axis=-1).sum() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": np.zeros((2, 3, 4)), "map": np.zeros(4)}, "series is"),
        ({"series": np.zeros((3, 4)), "map": np.zeros((2, 4))}, "map is one, or one for each of 3"),
        ({"series": np.zeros(4), "map": np.zeros((1, 1, 4))}, "map has 1 spatial"),
        ({"series": np.zeros(4), "map": np.zeros(4), "times": np.zeros(3)}, "times has"),
    ],
)
def test_signal_refuses(options, message):
    with pytest.raises(InputError, match=message):
        plot.signal(**options)


# ----- timelines -----


def test_a_timeline_brings_a_layer_to_the_signal_s_times():
    series, maps, times = random.standard_normal(40), random.standard_normal((3, 20)), np.linspace(1, 2, 40)
    figure = plot.timeline(series, maps, times=times, titles=["a", "b", "c"])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), np.stack([times, series], 1))
    lines = resize_linear(maps, (40,), (1,))
    np.testing.assert_allclose(pictures(figure)[0], scale_of(lines).paint(lines))
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == ["a", "b", "c"]
    m = pytest.approx(np.abs(lines).max())
    assert bars(figure) == [(pytest.approx(-np.abs(lines).max()), m)]


@pytest.mark.parametrize("last", [False, True])
def test_windows_are_laid_where_they_start_and_averaged(last):
    series, stride, width = np.arange(20.0), 3, 8
    windows = np.stack([np.stack([series[i : i + width], random.random(width)]) for i in range(0, 13, stride)])
    total, count = np.zeros((2, 20)), np.zeros(20)
    for i, window in enumerate(windows):
        total[:, i * stride : i * stride + width] += window
        count[i * stride : i * stride + width] += 1
    given = windows.swapaxes(1, 2) if last else windows
    figure = plot.timeline(series, given, stride=stride, channel_axis=-1 if last else 0)
    np.testing.assert_allclose(pictures(figure)[0], scale_of(total / count).paint(total / count))
    np.testing.assert_allclose((total / count)[0], series)
    assert "5 windows" in figure.axes[1].get_title()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros(9), np.zeros(9)), {}, InputError, "maps is"),
        ((np.zeros((1, 1, 9)), np.zeros((2, 9))), {}, InputError, "series is"),
        ((np.zeros(9), np.zeros((3, 2, 4))), {}, OptionError, "stride is needed for 3 windows"),
        ((np.zeros(9), np.zeros((3, 2, 4))), {"stride": 5}, InputError, "do not fit into a series of 9"),
        ((np.zeros(9), np.zeros((2, 2, 4))), {"stride": 6}, InputError, "leave gaps"),
        ((np.zeros(9), np.zeros((2, 9))), {"channel_axis": 2}, OptionError, "channel_axis"),
        ((np.zeros(9), np.zeros((2, 9))), {"times": np.zeros(3)}, InputError, "times has"),
        ((np.zeros(9), np.zeros((2, 9))), {"titles": ["a"]}, OptionError, "titles"),
    ],
)
def test_timeline_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        plot.timeline(*arguments, **options)
