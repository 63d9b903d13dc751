"""Overlays, comparisons and feature maps: what is drawn are the numbers that were given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from onnxviz import plot
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.plot.colours import Style, scale_of
from tests.plot.drawn import bars, pictures, titles

random = np.random.default_rng(0)
IMAGE = random.integers(0, 256, (12, 16, 3), np.uint8)
MAP = random.random((3, 4))


def test_overlay_blends_at_the_size_of_the_picture():
    figure = plot.overlay(MAP, IMAGE, alpha=0.3, title="cat")
    (shown,) = pictures(figure)
    np.testing.assert_array_equal(shown, Style(alpha=0.3).lay(resize_linear(MAP, (12, 16), (0, 1)), IMAGE))
    assert titles(figure) == ["cat"]
    assert bars(figure) == [(0, pytest.approx(MAP.max()))]


def test_overlay_multiplied_tells_its_limits():
    figure = plot.overlay(MAP, IMAGE, mode="multiply", clip=(0, 100))
    sized = resize_linear(MAP, (12, 16), (0, 1))
    assert bars(figure) == []
    assert figure.axes[0].get_xlabel() == f"black ≤ {sized.min():.3g}, full ≥ {sized.max():.3g}"


def test_overlay_takes_one_map():
    with pytest.raises(InputError, match="2 samples × 1 targets"):
        plot.overlay(np.stack([MAP, MAP]), IMAGE)


def test_compare_rows_are_samples_and_columns_methods():
    maps = {"a": np.stack([MAP, 2 * MAP]), "b": -np.stack([MAP, MAP])}
    figure = plot.compare(maps, IMAGE, titles=["one", "two"])
    assert titles(figure) == ["input", "a", "b"] * 2
    assert [axes.get_ylabel() for axes in figure.axes[:6:3]] == ["one", "two"]
    m = pytest.approx(MAP.max())
    assert bars(figure) == [
        (0, m),
        (pytest.approx(-MAP.max()), m),
        (0, pytest.approx(2 * MAP.max())),
        (pytest.approx(-MAP.max()), m),
    ]


def test_compare_without_picture_shows_the_numbers_themselves():
    (shown,) = pictures(plot.compare({"a": MAP}, cmap="gray"))
    np.testing.assert_allclose(shown, scale_of(MAP, cmap="gray").paint(MAP))


def test_compare_gives_each_target_a_column():
    explanation = Explanation(random.random((2, 3, 3, 4)), ("batch", "target", "spatial", "spatial"), "grad_cam")
    assert titles(plot.compare({"cam": explanation, "map": np.stack([MAP, MAP])})) == ["cam", "cam", "cam", "map"] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({},), OptionError, "maps is empty"),
        (({"a": MAP[0]},), InputError, r"maps\['a'\] has 2 spatial axes"),
        (({"a": MAP * np.nan},), InputError, r"maps\['a'\].*finite"),
        (({"a": np.array([["x"]])},), InputError, r"maps\['a'\] holds numbers"),
        (({"a": MAP, "b": np.stack([MAP, MAP])},), InputError, "number of samples"),
        (({"a": MAP}, IMAGE / 255), InputError, "image is uint8 RGB"),
        (({"a": MAP}, IMAGE[..., 0]), InputError, "image is uint8 RGB"),
        (({"a": MAP}, np.stack([IMAGE, IMAGE])), InputError, "image holds 2 pictures for 1"),
    ],
)
def test_compare_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.compare(*arguments)


def test_compare_refuses_wrong_titles():
    with pytest.raises(OptionError, match="titles has one title for each of the 1"):
        plot.compare({"a": MAP}, titles=["one", "two"])


def explanation(targets=2):
    values = random.random((2, targets, 3, 4))
    classes = np.arange(2 * targets).reshape(2, targets)
    return Explanation(
        values, ("batch", "target", "spatial", "spatial"), "grad_cam", target=classes, score=classes / 2,
        class_names=["ant", "bee", "cat", "dog"],
    )  # fmt: skip


def test_maps_beside_their_picture_are_their_own_numbers():
    maps = random.random((3, 4))
    picture, shown = pictures(plot.compare({"a": maps}, IMAGE, mode="beside", cmap="hot"))
    np.testing.assert_array_equal(picture, IMAGE)
    np.testing.assert_allclose(shown, scale_of(maps, cmap="hot").paint(maps))


def test_compare_tells_class_and_score():
    assert titles(plot.compare({"cam": explanation()}, IMAGE)) == [
        "input", "cam\nant · 0", "cam\nbee · 0.5", "input", "cam\ncat · 1", "cam\ndog · 1.5",
    ]  # fmt: skip


def test_stacked_rows_are_samples_and_methods():
    figure = plot.compare({"a": explanation(), "b": explanation()}, IMAGE, titles=["one", "two"], stack=True)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_title() == "input"]
    assert labels == ["a\none", "b\none", "a\ntwo", "b\ntwo"]
    assert titles(figure)[:6] == ["input", "ant · 0", "bee · 0.5"] * 2
    with pytest.raises(InputError, match="one number of targets"):
        plot.compare({"a": explanation(), "b": explanation(1)}, stack=True)


def test_feature_maps_share_a_scale():
    maps = random.random((5, 6, 7)) * np.arange(1, 6)[:, None, None]
    figure = plot.feature_maps(maps, columns=2)
    scale = scale_of(maps)
    for shown, channel in zip(pictures(figure), maps, strict=True):
        np.testing.assert_allclose(shown, scale.paint(channel))
    assert bars(figure) == [(0, pytest.approx(maps.max()))]
    assert titles(figure) == ["0", "1", "2", "3", "4"]


def test_feature_maps_with_scales_of_their_own_tell_them():
    maps = random.random((2, 3, 3)) * np.array([1, 100])[:, None, None]
    figure = plot.feature_maps(maps, shared=False)
    assert bars(figure) == []
    assert titles(figure) == [f"{i}: 0 … {maps[i].max():.3g}" for i in range(2)]
    np.testing.assert_allclose(pictures(figure)[0], scale_of(maps[0]).paint(maps[0]))


def test_scales_of_their_own_are_of_one_kind():
    maps = np.stack([random.random((3, 3)), -random.random((3, 3)), np.zeros((3, 3))])
    figure = plot.feature_maps(maps, shared=False)
    a, b, _ = np.abs(maps).max(axis=(1, 2))
    assert titles(figure) == [f"0: {-a:.3g} … {a:.3g}", f"1: {-b:.3g} … {b:.3g}", "2: all 0"]
    np.testing.assert_allclose(pictures(figure)[0], scale_of(np.stack([maps[0], -maps[0]])).paint(maps[0]))


def test_feature_maps_channels_last_and_most():
    maps = random.standard_normal((6, 7, 5))
    figure = plot.feature_maps(maps, channel_axis=-1, most=3, titles=["a", "b", "c"])
    assert titles(figure) == ["a", "b", "c"]
    assert figure.get_suptitle() == "the first 3 of 5 channels"
    np.testing.assert_allclose(pictures(figure)[2], scale_of(maps[..., :3]).paint(maps[..., 2]))


@pytest.mark.parametrize("shared", [True, False])
def test_feature_maps_of_series_are_lines(shared):
    maps = random.standard_normal((5, 30))
    (shown,) = pictures(plot.feature_maps(maps, shared=shared))
    np.testing.assert_allclose(shown[3], scale_of(maps if shared else maps[3]).paint(maps)[3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maps": np.zeros((2, 3, 4, 5, 6))}, InputError, r"maps is one sample's.*\(2, 3, 4, 5, 6\)"),
        ({"maps": np.zeros((2, 3, 4)), "channel_axis": 3}, InputError, "channel_axis=3"),
        ({"maps": np.zeros((0, 3, 4))}, InputError, "not empty"),
        ({"maps": np.zeros((2, 3, 4)), "most": 0}, OptionError, "most"),
        ({"maps": np.zeros((2, 3, 4)), "columns": 1.5}, OptionError, "columns"),
        ({"maps": np.zeros((2, 3, 4)), "titles": ["a"]}, OptionError, "titles"),
        ({"maps": np.zeros((2, 3, 4)), "cmap": "none"}, OptionError, "cmap"),
    ],
)
def test_feature_maps_refuses(options, error, message):
    with pytest.raises(error, match=message):
        plot.feature_maps(**options)


def test_feature_maps_of_volumes_are_slices():
    maps = random.standard_normal((2, 5, 4, 3))
    figure = plot.feature_maps(np.moveaxis(maps, 0, -1), channel_axis=-1, columns=3)
    shown = pictures(figure)
    assert titles(figure) == ["slice 0", "slice 2", "slice 4"]
    for i, (channel, depth) in enumerate((c, d) for c in range(2) for d in (0, 2, 4)):
        np.testing.assert_allclose(shown[i], scale_of(maps).paint(maps[channel, depth]))


def test_no_figure_touches_pyplot():
    code = "import sys, onnxviz.plot as p; p.feature_maps([[[0, 1]]]).canvas.draw()\n"
    code += "sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
