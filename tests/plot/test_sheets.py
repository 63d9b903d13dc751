"""Sheets of pictures, tables and curves, and of kernels: what is drawn are the numbers that were given."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz import plot
from onnxviz.errors import InputError, OptionError
from onnxviz.plot.colours import scale_of
from onnxviz.plot.sheets import GAP
from tests.plot.drawn import bars, pictures, titles

random = np.random.default_rng(0)
IMAGE = random.integers(0, 256, (12, 16, 3), np.uint8)


# ----- sheets -----


def test_a_sheet_shows_pictures_as_they_are():
    images = [IMAGE, IMAGE[:6, ::-1]]
    figure = plot.sheet(images, ["a", "b"], columns=1, title="all")
    for shown, image in zip(pictures(figure), images, strict=True):
        np.testing.assert_array_equal(shown, image)
    assert titles(figure) == ["a", "b"]
    assert figure.get_suptitle() == "all"
    assert not bars(figure)


def test_a_sheet_of_numbers_has_one_scale():
    tables = random.standard_normal((5, 4, 4)) * np.arange(1, 6)[:, None, None]
    figure = plot.sheet(tables)
    for shown, table in zip(pictures(figure), tables, strict=True):
        np.testing.assert_allclose(shown, scale_of(tables).paint(table))
    m = np.abs(tables).max()
    assert bars(figure) == [(pytest.approx(-m), pytest.approx(m))]


def test_a_sheet_of_curves_has_one_range():
    curves = random.standard_normal((3, 20))
    figure = plot.sheet(curves)
    drawn = [axes for axes in figure.axes if axes.lines]
    for axes, curve in zip(drawn, curves, strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), curve)
    assert len({axes.get_ylim() for axes in drawn}) == 1
    assert f"from {curves.min():.3g} to {curves.max():.3g}" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ([], {}, InputError, "images is empty"),
        ([IMAGE, IMAGE[..., 0]], {}, InputError, "one kind; got pictures and tables"),
        ([IMAGE / 255], {}, InputError, "images are uint8 RGB"),
        ([IMAGE], {"titles": ["a", "b"]}, OptionError, "titles has one title for each of the 1"),
        ([IMAGE], {"columns": 0}, OptionError, "columns is a positive"),
        ([IMAGE], {"size": 0}, OptionError, "size is a positive"),
        ([IMAGE[..., 0] / 1], {"cmap": "nope"}, OptionError, "cmap 'nope'"),
    ],
)
def test_sheet_refuses(images, options, error, message):
    with pytest.raises(error, match=message):
        plot.sheet(images, **options)


# ----- kernels -----


def test_kernels_of_one_input_are_a_sheet():
    kernels = random.standard_normal((6, 1, 3, 3))
    figure = plot.filters(kernels, columns=3)
    for shown, kernel in zip(pictures(figure), kernels[:, 0], strict=True):
        np.testing.assert_allclose(shown, scale_of(kernels).paint(kernel))
    assert titles(figure) == list("012345")


def test_kernels_of_several_inputs_are_a_mosaic():
    kernels = random.standard_normal((4, 5, 2, 3))
    figure = plot.filters(kernels, most=3)
    (canvas,) = pictures(figure)
    assert canvas.shape == (3 * 3 + 1, 5 * 4 + 1, 3)
    np.testing.assert_allclose(canvas[4:6, 9:12], scale_of(kernels[:3]).paint(kernels[1, 2]))
    assert (canvas[0] == GAP).all()
    assert figure.get_suptitle() == "the first 3 of 4 units"
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("unit", "input channel")


def test_one_input_channel_can_be_chosen():
    kernels = random.standard_normal((4, 5, 2, 3))
    figure = plot.filters(kernels, channel=2)
    np.testing.assert_allclose(pictures(figure)[1], scale_of(kernels[:, 2]).paint(kernels[1, 2]))
    assert "input channel 2 of 5" in figure.get_suptitle()


def test_kernels_in_time_are_curves():
    kernels = random.standard_normal((3, 2, 7))
    figure = plot.filters(kernels)
    for axes, kernel in zip(figure.axes, kernels, strict=False):
        for line, curve in zip(axes.lines[1:], kernel, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve)
    low, high = figure.axes[0].get_ylim()
    assert low < kernels.min() < kernels.max() < high
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["input 0", "input 1"]


def test_kernels_in_three_dimensions_are_slices():
    kernels = random.standard_normal((2, 3, 4, 2, 2))
    figure = plot.filters(kernels)
    (canvas,) = pictures(figure)
    np.testing.assert_allclose(canvas[4:6, 7:9], scale_of(kernels[:, 0]).paint(kernels[1, 0, 2]))
    assert figure.axes[0].get_xlabel() == "slice"
    assert "input channel 0 of 3" in figure.get_suptitle()


def test_dense_weights_are_a_table():
    weights = random.standard_normal((4, 6))
    np.testing.assert_allclose(pictures(plot.filters(weights))[0], scale_of(weights).paint(weights))


def test_coloured_kernels_are_grey_at_zero():
    kernels = np.zeros((2, 3, 2, 2))
    kernels[0, 0, 0, 0], kernels[1, 2, 1, 1] = -2, 1
    figure = plot.filters(kernels, colour=True)
    first, second = pictures(figure)
    np.testing.assert_array_equal(first[0, 0], [0, 128, 128])
    np.testing.assert_array_equal(second[1, 1], [128, 128, 191])
    assert "grey is 0, the ends are ±2" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("kernels", "options", "error", "message"),
    [
        (np.ones(3), {}, InputError, "kernels is"),
        (np.ones((2, 3, 3, 3)), {"channel": 3}, OptionError, "channels 0 … 2; got 3"),
        (np.ones((2, 3, 3, 3)), {"most": 0}, OptionError, "most"),
        (np.ones((2, 4, 3, 3)), {"colour": True}, OptionError, "colour draws kernels of three"),
        (np.ones((2, 3, 3, 3)), {"cmap": "nope"}, OptionError, "cmap"),
    ],
)
def test_filters_refuses(kernels, options, error, message):
    with pytest.raises(error, match=message):
        plot.filters(kernels, **options)
