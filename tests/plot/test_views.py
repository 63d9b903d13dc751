"""Scatter, sheets, kernels, timelines and unit statistics: what is drawn are the numbers that were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from onnxviz import plot
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.plot.colours import COLOURS, scale_of
from onnxviz.plot.sheets import GAP

random = np.random.default_rng(0)
POINTS = random.standard_normal((30, 2))
IMAGE = random.integers(0, 256, (12, 16, 3), np.uint8)


def pictures(figure):
    return [image.get_array() for axes in figure.axes for image in axes.images]


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def bars(figure):
    return [axes.get_ylim() for axes in figure.axes if axes.get_label() == "<colorbar>"]


# ----- scatter -----


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


# ----- volumes, and maps beside pictures -----


def test_feature_maps_of_volumes_are_slices():
    maps = random.standard_normal((2, 5, 4, 3))
    figure = plot.feature_maps(np.moveaxis(maps, 0, -1), channel_axis=-1, columns=3)
    shown = pictures(figure)
    assert titles(figure) == ["slice 0", "slice 2", "slice 4"]
    for i, (channel, depth) in enumerate((c, d) for c in range(2) for d in (0, 2, 4)):
        np.testing.assert_allclose(shown[i], scale_of(maps).paint(maps[channel, depth]))


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


# ----- units -----


def test_the_figure_of_unit_statistics_holds_them(cnn):
    stats = cnn.explainer.unit_stats(cnn.x(7), "features.1", redundancy=0.05, limits=(None, 1))
    figure = stats.plot()
    value, shares, limited, matrix, _ = figure.axes
    np.testing.assert_array_equal(value.lines[0].get_ydata(), stats.mean)
    np.testing.assert_array_equal(value.lines[1].get_ydata(), stats.maximum)
    np.testing.assert_allclose([bar.get_height() for bar in shares.patches], stats.nonpositive)
    np.testing.assert_allclose([bar.get_height() for bar in limited.patches], stats.limited)
    assert limited.get_ylabel() == "share at 1"
    assert [t.get_text() for t in matrix.get_xticklabels()] == [str(u) for u in stats.order]
    assert len(matrix.patches) == len(stats.redundant) > 0


def test_dead_units_are_grey_and_named(cnn):
    x = np.zeros((2, 3, 12, 12), np.float32)
    stats = cnn.explainer.unit_stats(x, "features.1", redundancy=1)
    assert len(stats.dead) == 6  # the padding is zero too, so every place has the bias
    figure = stats.plot()
    assert f"{len(stats.dead)} dead ({stats.dead[0]}" in figure.subfigs[0].get_suptitle()


@pytest.mark.parametrize("name", ["cnn", "series", "volume", "classifier"])
def test_the_inputs_that_excite_units(subjects, name):
    subject = subjects(name)
    layer = {"cnn": "features.1", "series": "conv", "volume": "act", "classifier": "act"}[name]
    stats = subject.explainer.unit_stats(subject.x(5), layer, k=3)
    unit = next(u for u in range(len(stats.mean)) if u not in stats.dead)
    figure = stats.plot_top([unit])
    values, samples = stats.top_values[unit], stats.top_samples[unit]
    assert titles(figure) == [f"{v:.3g} in {s}" for v, s in zip(values, samples, strict=True)]
    figure.canvas.draw()


def test_pictures_come_back_where_the_file_knows_them(tmp_path):
    import onnxviz as ov
    from tests.support import nhwc

    image_input = ov.ImageInput((9, 11), layout="NHWC", mean=100.0, std=50.0)
    pixels = random.integers(0, 256, (4, 9, 11, 3), np.uint8)
    x = image_input.encode(pixels)
    path = ov.convert(nhwc()[0], tmp_path / "net.onnx", example=x, input=image_input, quiet=True)
    with ov.load(path, providers="cpu") as ex:
        (layer,) = [t.name for t in ex.layers if t.operator == "Relu"]
        stats = ex.unit_stats(x, layer, k=1, crop=1.0)
    unit = next(u for u in range(len(stats.mean)) if u not in stats.dead)
    (shown,) = pictures(stats.plot_top([unit]))
    np.testing.assert_array_equal(shown, pixels[stats.top_samples[unit, 0]])


def test_units_without_crops_are_refused(cnn):
    stats = cnn.explainer.unit_stats(cnn.x(), "features.1", units=[0])
    with pytest.raises(OptionError, match=r"no crops of unit 3 were kept: unit_stats\(…, units=\[3\]\)"):
        stats.plot_top([3])
    with pytest.raises(OptionError, match="none that lives"):
        stats.plot_top([])
