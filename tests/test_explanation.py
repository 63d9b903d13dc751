from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from onnxviz.errors import FileFormatError, InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.plot.colours import Style
from onnxviz.plot.explanations import in_notebook

random = np.random.default_rng(0)
IMAGE = random.integers(0, 256, (12, 16, 3), np.uint8)
NAMES = ["ant", "bee", "cat"]


def cam(samples=2, targets=2, **fields):
    values = random.random((samples, targets, 3, 4)).astype(np.float32)
    defaults = {
        "target": random.integers(0, 3, (samples, targets)),
        "score": random.random((samples, targets)).astype(np.float32),
        "layer": "conv",
        "options": {"upsample": False, "size": (3, 4), "weights": np.float32(0.5)},
        "provider": "CPUExecutionProvider",
        "class_names": NAMES,
    }
    return Explanation(values, ("batch", "target", "spatial", "spatial"), "grad_cam", **defaults | fields)


def raw(values, *axes):
    return Explanation(np.asarray(values), axes, "gradient")


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def test_it_is_an_array():
    explanation = cam()
    assert np.asarray(explanation) is explanation.values
    assert np.asarray(explanation, np.float64).dtype == np.float64
    copy = np.array(explanation)
    copy[:] = 0
    assert explanation.values.any()
    with pytest.raises(ValueError, match="copy"):
        np.asarray(explanation, np.float64, copy=False)


def test_values_become_float32():
    assert raw(np.zeros((1, 2)), "batch", "spatial").values.dtype == np.float32


@pytest.mark.parametrize("axes", [("batch",), ("batch", "width")])
def test_axes_must_fit(axes):
    with pytest.raises(OptionError, match="axes has one of"):
        raw(np.zeros((1, 2)), *axes)


def test_normalize_scales_each_map_by_itself():
    explanation = cam()
    result = explanation.normalize()
    np.testing.assert_allclose(result.values, explanation.values / explanation.values.max((2, 3), keepdims=True))
    np.testing.assert_array_equal(result.values.max((2, 3)), 1)
    assert result.layer == "conv"


def test_normalize_keeps_zero_and_sign():
    result = raw([[-4, 0, 2], [0, 0, 0]], "batch", "spatial").normalize()
    np.testing.assert_array_equal(result.values, [[-1, 0, 0.5], [0, 0, 0]])


def test_normalize_takes_channels_together():
    result = raw([[[1, 2], [3, 4]]], "batch", "channel", "spatial").normalize()
    np.testing.assert_array_equal(result.values, [[[0.25, 0.5], [0.75, 1]]])


def test_normalize_by_percentile_clips():
    values = np.r_[np.arange(100), 1000.0]
    result = raw(values[None], "batch", "spatial").normalize(50)
    np.testing.assert_allclose(result.values[0], np.minimum(values / 50, 1), rtol=1e-6)
    sparse = raw([[0, 0, 0, 0, -3]], "batch", "spatial").normalize(50)
    np.testing.assert_array_equal(sparse.values, [[0, 0, 0, 0, -1]])


@pytest.mark.parametrize("percentile", [0, 101, -5])
def test_normalize_refuses(percentile):
    with pytest.raises(OptionError, match="percentile"):
        cam().normalize(percentile)


def test_resize_touches_the_spatial_axes_only():
    explanation = cam()
    result = explanation.resize((6, 5))
    np.testing.assert_array_equal(result.values, resize_linear(explanation.values, (6, 5), (2, 3)))
    assert raw(np.zeros((1, 4, 4, 3)), "batch", "spatial", "spatial", "channel").resize(8).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("size", [(5,), (5, 0), (1.5, 2)])
def test_resize_refuses(size):
    with pytest.raises(OptionError, match="each of 2 spatial axes"):
        cam().resize(size)


def test_maps_sum_channels_and_have_all_leading_axes():
    values = random.random((2, 3, 4, 5)).astype(np.float32)
    maps = raw(values, "batch", "channel", "spatial", "spatial").maps()
    np.testing.assert_allclose(maps, values.sum(1)[:, None], rtol=1e-6)
    assert raw(np.zeros((5, 3)), "spatial", "channel").maps().shape == (1, 1, 5)


def test_maps_refuse_unknown_axes():
    for explanation in (raw(np.zeros((1, 5)), "batch", None), raw(np.zeros((1, 5)), "batch", "channel")):
        with pytest.raises(InputError, match="are no maps"):
            explanation.maps()


def test_overlay_has_the_leading_axes_of_the_values():
    explanation = cam()
    result = explanation.overlay(np.stack([IMAGE, IMAGE[::-1]]), alpha=0.3)
    assert result.shape == (2, 2, 12, 16, 3)
    assert result.dtype == np.uint8
    expected = Style(alpha=0.3).lay(resize_linear(explanation.values[1, 0], (12, 16), (0, 1)), IMAGE[::-1])
    np.testing.assert_array_equal(result[1, 0], expected)
    single = raw(explanation.values[:, 0], "batch", "spatial", "spatial")
    np.testing.assert_array_equal(single.overlay(IMAGE, 0.3)[0], result[0, 0])
    assert single.overlay(IMAGE, mode="multiply").shape == (2, 12, 16, 3)


def test_overlay_refuses():
    with pytest.raises(OptionError, match="mode"):
        cam().overlay(IMAGE, mode="screen")
    with pytest.raises(InputError, match="3 pictures for 2"):
        cam().overlay(np.stack([IMAGE] * 3))
    with pytest.raises(InputError, match="2 spatial axes"):
        raw(np.zeros((1, 5)), "batch", "spatial").overlay(IMAGE)


def test_plot_names_what_each_panel_explains():
    explanation = cam(target=np.array([[2, 0], [1, 1]]), score=np.array([[1, 2], [3, 4.5]], np.float32))
    figure = explanation.plot(IMAGE)
    assert [axes.get_title() for axes in panels(figure)] == [
        "input",
        "cat · 1",
        "ant · 2",
        "input",
        "bee · 3",
        "bee · 4.5",
    ]
    assert figure.get_suptitle() == "grad_cam at conv"
    assert len(panels(explanation.plot())) == 4


def test_plot_of_many_samples_says_so():
    figure = cam(samples=10, targets=1).plot()
    assert len(panels(figure)) == 8
    assert figure.get_suptitle().endswith("the first 8 of 10 samples")


def test_plot_of_channels_says_that_they_are_summed():
    figure = raw(random.random((1, 3, 4, 5)), "batch", "channel", "spatial", "spatial").plot()
    assert figure.get_suptitle() == "gradient, channels summed"


@pytest.mark.parametrize("series", [None, np.zeros((2, 30)), np.zeros((2, 3, 30))])
def test_plot_of_signals(series):
    figure = raw(random.random((2, 10)), "batch", "spatial").plot(series)
    lines = [line for axes in figure.axes for line in axes.lines]
    assert len(lines) == (6 if series is not None and series.ndim == 3 else 2)
    assert len(lines[0].get_ydata()) == (10 if series is None else 30)


def test_plot_of_volumes_shows_slices_on_one_scale():
    values = random.random((1, 3, 4, 5))
    figure = raw(values, "batch", "spatial", "spatial", "spatial").plot()
    assert [axes.get_title() for axes in panels(figure)] == ["slice 0", "slice 1", "slice 2"]
    (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert bar.get_ylim() == (0, pytest.approx(values.max()))


def test_plot_refuses():
    with pytest.raises(InputError, match="0 spatial axes"):
        raw(np.zeros((1, 5)), "batch", "channel").plot()
    with pytest.raises(InputError, match="image is the signal"):
        raw(np.zeros((2, 5)), "batch", "spatial").plot(np.zeros((3, 5)))
    with pytest.raises(InputError, match="volumes"):
        raw(np.zeros((1, 2, 2, 2)), "batch", "spatial", "spatial", "spatial").plot(IMAGE)


@pytest.mark.parametrize("fields", [{}, {"target": None, "score": None, "layer": None, "class_names": None}])
def test_save_and_load_keep_all_fields(tmp_path, fields):
    explanation = cam(**fields)
    explanation.save(tmp_path / "a.npz")
    loaded = Explanation.load(tmp_path / "a.npz")
    for name in ("values", "target", "score"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(explanation, name))
    for name in ("axes", "method", "layer", "provider", "class_names"):
        assert getattr(loaded, name) == getattr(explanation, name)
    assert loaded.options == {"upsample": False, "size": [3, 4], "weights": 0.5}


def test_save_as_picture(tmp_path):
    cam().save(tmp_path / "a.png", IMAGE)
    assert cv2.imread(str(tmp_path / "a.png")).shape[2] == 3


def test_save_and_load_refuse(tmp_path):
    with pytest.raises(OptionError, match=r"a\.txt"):
        cam().save(tmp_path / "a.txt")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(FileFormatError, match="holds no Explanation"):
        Explanation.load(tmp_path / "other.npz")


def test_repr_tells_the_main_facts():
    explanation = cam(samples=1, target=np.array([[2, 0]]), score=np.array([[1.5, 2]], np.float32))
    text = repr(explanation)
    for part in ("grad_cam (1, 2, 3, 4)", "'conv'", "cat, ant", "[[1.5 2. ]]", "CPUExecutionProvider"):
        assert part in text
    assert "weighting (2, 2)" in repr(cam(target=np.zeros((2, 2), np.float32)))
    assert repr(raw(np.zeros((0, 5)), "batch", "spatial")) == "<Explanation: gradient (0, 5)>"


DRAWN = {
    "pictures": cam(),
    "a series": raw(random.random((2, 3, 20)), "batch", "channel", "spatial"),
    "a volume": raw(random.random((1, 4, 4, 4)), "batch", "spatial", "spatial", "spatial"),
    "twenty samples of nine targets": cam(20, 9),
}


@pytest.mark.parametrize("case", DRAWN)
def test_notebooks_get_a_picture(case):
    shown = cv2.imdecode(np.frombuffer(DRAWN[case]._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert 100 < min(shown.shape[:2]) <= max(shown.shape[:2]) < 2000
    assert np.ptp(shown) == 255


def test_notebooks_are_told_what_they_do_not_show():
    figure = in_notebook(cam(20, 9))
    assert len(panels(figure)) == 4 * 6
    assert figure.get_suptitle() == "grad_cam at conv, the first 4 of 20 samples"
    assert figure.get_supxlabel() == "3 more targets are not shown"
    assert in_notebook(cam(2, 6)).get_supxlabel() == ""


def test_notebooks_get_no_picture_where_nothing_can_be_drawn():
    assert raw(np.zeros((1, 5)), "batch", None)._repr_png_() is None
    assert raw(np.zeros((0, 5)), "batch", "spatial")._repr_png_() is None


def test_import_is_light():
    code = "import sys, onnxviz.explanation; sys.exit(bool({'matplotlib', 'cv2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
