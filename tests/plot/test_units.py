"""Figures of unit statistics show them, and the inputs that excite units."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz.errors import OptionError
from tests.plot.drawn import pictures, titles

random = np.random.default_rng(0)


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
