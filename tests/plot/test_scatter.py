"""Scatter plots: the points and classes that were given, each in its place and colour."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from onnxviz import plot
from onnxviz.errors import InputError, OptionError
from onnxviz.plot.colours import COLOURS
from tests.plot.drawn import bars

random = np.random.default_rng(0)
POINTS = random.standard_normal((30, 2))


def test_scatter_colours_classes_and_names_them():
    labels = np.arange(30) % 3
    figure = plot.scatter(POINTS, labels, names=["cat", "dog"], axis_labels=("a", "b"), title="t", note="n")
    axes = figure.axes[0]
    for i, drawn in enumerate(axes.collections):
        assert {tuple(p) for p in drawn.get_offsets()} == {tuple(p) for p in POINTS[labels == i]}
        assert to_hex(drawn.get_facecolor()[0]) == COLOURS[i]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["cat", "dog", "2"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("a", "b", "t")
    assert figure.get_supxlabel() == "n"


def test_scatter_of_floats_has_a_scale():
    values = np.linspace(3, 5, 30)
    figure = plot.scatter(POINTS, values)
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), values)
    assert bars(figure) == [(3, 5)]
    assert not figure.legends


def test_scatter_without_labels_has_one_colour():
    figure = plot.scatter(POINTS)
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_offsets(), POINTS)


def test_scatter_tells_sixty_classes_apart():
    figure = plot.scatter(random.standard_normal((60, 2)), np.arange(60))
    looks = {(to_hex(c.get_facecolor()[0]), len(c.get_paths()[0].vertices)) for c in figure.axes[0].collections}
    assert len(looks) > len(COLOURS)
    with pytest.raises(InputError, match="61 classes, of which 60"):
        plot.scatter(random.standard_normal((61, 2)), np.arange(61))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((POINTS[:, :1],), {}, InputError, "points has two coordinates"),
        ((POINTS * np.nan,), {}, InputError, "points is not empty and holds finite"),
        ((POINTS, [1, 2]), {}, InputError, "labels has one for each of the 30"),
        ((POINTS,), {"axis_labels": "ab"}, OptionError, "axis_labels"),
    ],
)
def test_scatter_refuses(arguments, options, error, message):
    with pytest.raises(error, match=message):
        plot.scatter(*arguments, **options)
