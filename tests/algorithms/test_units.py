from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import pearsonr

import onnxviz as ov
from onnxviz.algorithms import unit_streams
from onnxviz.algorithms.unit_streams import Moments, Tops
from onnxviz.algorithms.units import window
from onnxviz.errors import LayerError, OptionError
from tests.support import assert_close, model_of, nhwc, normal

N = 11
LAYERS = {"series": "conv", "cnn": "features.1", "volume": "act", "classifier": "act"}


def by_unit(subject, layer, x):
    """Values (units, N, places), naively."""
    values = subject.explainer.features(x, layer)[layer].astype(np.float64)
    return values.reshape(len(values), values.shape[1], -1).swapaxes(0, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_statistics_of_each_unit_are_numpy_s(subjects, name):
    subject, layer = subjects(name), LAYERS[name]
    x = normal(N, *subject.x(1).shape[1:], seed=5)
    stats, values = subject.explainer.unit_stats(x, layer, k=3), by_unit(subject, layer, x)
    flat = values.reshape(len(values), -1)
    assert stats.samples == N
    assert_close(stats.mean, flat.mean(1))
    assert_close(stats.deviation, flat.std(1))
    np.testing.assert_allclose(stats.minimum, flat.min(1), rtol=1e-6)
    np.testing.assert_allclose(stats.maximum, flat.max(1), rtol=1e-6)
    np.testing.assert_allclose(stats.zeros, (flat == 0).mean(1), rtol=1e-6)
    np.testing.assert_allclose(stats.nonpositive, (flat <= 0).mean(1), rtol=1e-6)
    for i, j in itertools.combinations(range(len(flat)), 2):
        if np.ptp(flat[i]) and np.ptp(flat[j]):
            assert stats.correlation[i, j] == pytest.approx(pearsonr(flat[i], flat[j]).statistic, abs=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_top_inputs_are_those_with_the_largest_values(subjects, name):
    subject, layer = subjects(name), LAYERS[name]
    x = normal(N, *subject.x(1).shape[1:], seed=5)
    stats, values = subject.explainer.unit_stats(x, layer, k=4), by_unit(subject, layer, x)
    shape = subject.explainer.features(x[:1], layer)[layer].shape[2:]
    for unit, of in enumerate(values):
        order = np.argsort(-of.max(1), kind="stable")[:4]
        np.testing.assert_array_equal(stats.top_samples[unit], order)
        np.testing.assert_allclose(stats.top_values[unit], of.max(1)[order], rtol=1e-6)
        for sample, place in zip(order, stats.top_places[unit], strict=True):
            assert tuple(place) == tuple(np.unravel_index(of[sample].argmax(), shape) if shape else ())


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("piece", [1, 2**22])
def test_a_stream_is_all_at_once(cnn, monkeypatch, size, piece):
    x = normal(N, 3, 12, 12, seed=5)
    whole = cnn.explainer.unit_stats(x, "features.1")
    monkeypatch.setattr(unit_streams, "PIECE", piece)
    streamed = cnn.explainer.unit_stats((x[i : i + size] for i in range(0, N, size)), "features.1")
    for name in ("mean", "deviation", "correlation", "top_values"):
        assert_close(getattr(streamed, name), getattr(whole, name), 1e-6)
    for name in ("minimum", "maximum", "zeros", "nonpositive", "top_samples", "top_places"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(whole, name))
    for unit, crops in whole.crops.items():
        for one, other in zip(streamed.crops[unit], crops, strict=True):
            np.testing.assert_array_equal(one, other)


def test_channels_last_have_their_crops_in_place(tmp_path):
    model, _ = nhwc()
    path = ov.convert(model, tmp_path / "nhwc.onnx", example=np.zeros((1, 9, 11, 3), np.float32), quiet=True)
    x = normal(6, 9, 11, 3)
    with ov.load(path, providers="cpu") as ex:
        (layer,) = [t for t in ex.layers if t.operator == "Relu"]
        stats, values = ex.unit_stats(x, layer.name, k=2), ex.features(x, layer.name)[layer.name]
    last = np.moveaxis(values, layer.axes.channel, -1)
    assert_close(stats.mean, last.reshape(-1, last.shape[-1]).mean(0, dtype=np.float64))
    for unit, crops in stats.crops.items():
        (sample, *_), (row, column) = stats.top_samples[unit], stats.top_places[unit, 0]
        assert last[sample, row, column, unit] == stats.top_values[unit, 0]
        expected = x[sample, window(9, last.shape[1], row, 0.25), window(11, last.shape[2], column, 0.25)]
        np.testing.assert_array_equal(crops[0], expected)


def test_crops_are_cut_around_the_place_and_whole_where_there_is_none(subjects):
    x = normal(N, 3, 12, 12, seed=5)
    ex = subjects("cnn").explainer
    spatial, dense = ex.unit_stats(x, "features.1", crop=0.5, units=[4, 1], k=2), ex.unit_stats(x, "head", k=2)
    assert list(spatial.crops) == [4, 1]
    for crop, sample, (row, column) in zip(
        spatial.crops[4], spatial.top_samples[4], spatial.top_places[4], strict=True
    ):
        np.testing.assert_array_equal(crop, x[sample][:, window(12, 6, row, 0.5), window(12, 6, column, 0.5)])
        assert crop.shape == (3, 6, 6)
    np.testing.assert_array_equal(dense.crops[0][0], x[dense.top_samples[0, 0]])
    assert dense.top_places.shape == (5, 2, 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((28, 28, 0, 0.25), (0, 7)),
        ((28, 28, 27, 0.25), (21, 28)),
        ((28, 28, 14, 0.25), (11, 18)),
        ((224, 7, 3, 0.01), (96, 128)),  # at least what a place covers
        ((10, 4, 1, 1.0), (0, 10)),
        ((5, 9, 8, 0.2), (4, 5)),
    ],
)
def test_windows(arguments, expected):
    found = window(*arguments)
    assert (found.start, found.stop) == expected


def designed(tmp_path, activation, weights, limits=""):
    """Six units whose weights are known, after an activation."""
    path = ov.convert(
        model_of(f"p = MatMul(x, w)  h = {activation}(p{limits})  y = MatMul(h, m)", "float[N, 2] x", "float[N, 6] y",
                 {"w": np.array(weights, np.float32), "m": np.eye(6, dtype=np.float32),
                  "low": np.array(0, np.float32), "high": np.array(6, np.float32)}),
        tmp_path / "net.onnx", layers=["h"], quiet=True,
    )  # fmt: skip
    return ov.load(path, providers="cpu", threads=1)


POSITIVE = np.abs(normal(200, 2)) + 0.1


def test_dead_units_never_fire(tmp_path):
    with designed(tmp_path, "Relu", [[1, -1, 0, 1, -1, 2], [0, -1, 0, 1, 1, 0]]) as ex:
        stats = ex.unit_stats(POSITIVE, "h")
    np.testing.assert_array_equal(stats.dead, [1, 2])
    assert np.isnan(stats.correlation[1]).all()
    assert stats.limits == (None, None)
    assert not len(stats.saturated)


def test_redundant_units_are_grouped(tmp_path):
    with designed(tmp_path, "Identity", [[1, -3, 0, 1, 1, 0.01], [0, 0, 0, 1, 1.001, -1]]) as ex:
        stats = ex.unit_stats(POSITIVE, "h", redundancy=0.99)
    assert stats.redundant == ((0, 1), (3, 4))
    position = np.argsort(stats.order)
    assert abs(position[0] - position[1]) == abs(position[3] - position[4]) == 1
    assert "2 redundant groups" in repr(stats)
    for group in stats.redundant:
        assert all(abs(stats.correlation[i, j]) >= 0.99 for i, j in itertools.combinations(group, 2))


@pytest.mark.parametrize(
    ("activation", "limits", "ends"),
    [("Sigmoid", "", (0, 1)), ("Tanh", "", (-1, 1)), ("Clip", ", low, high", (None, 6))],
)
def test_saturated_units_stand_at_a_limit(tmp_path, activation, limits, ends):
    with designed(tmp_path, activation, [[100, -100, 1, 0, 0.5, 100], [0, 0, 0, 1, 0.5, 100]], limits) as ex:
        stats = ex.unit_stats(POSITIVE, "h")
        assert stats.limits == ends
        np.testing.assert_array_equal(stats.saturated, [0, 5] if activation == "Clip" else [0, 1, 5])
        np.testing.assert_array_equal(stats.dead, [1] if activation == "Clip" else [])
        values = ex.features(POSITIVE, "h")["h"]
        low, high = (0.01, 0.99) if activation == "Sigmoid" else (-0.98, 0.98) if activation == "Tanh" else (-9, 5.94)
        np.testing.assert_allclose(stats.limited, ((values <= low) | (values >= high)).mean(0), rtol=1e-6)
        own = ex.unit_stats(POSITIVE, "h", limits=(None, None))
        assert not len(own.saturated)


def test_a_mean_far_from_zero_loses_no_precision():
    values = np.random.default_rng(0).standard_normal((50, 2, 3)) + 1e6
    moments = Moments(2, (None, None), correlate=True)
    for part in np.array_split(values, 7):
        moments.add(part)
    flat = values.swapaxes(0, 1).reshape(2, -1)
    np.testing.assert_allclose(moments.deviation, flat.std(1), rtol=1e-9)
    np.testing.assert_allclose(moments.correlation, np.corrcoef(flat), atol=1e-9)


def test_of_equal_inputs_the_first_stay():
    tops = Tops(1, 2, [0])
    for first in (0, 2):
        tops.add(np.ones((2, 1)), first, lambda sample, place, first=first: np.array([first + sample, len(place)]))
    np.testing.assert_array_equal(tops.samples, [[0, 1]])
    np.testing.assert_array_equal(tops.crops[0], [[0, 0], [1, 0]])


def test_without_correlation_nothing_else_changes(cnn):
    x = normal(N, 3, 12, 12, seed=5)
    plain, full = (cnn.explainer.unit_stats(x, "features.1", correlation=c) for c in (False, True))
    np.testing.assert_allclose(plain.deviation, full.deviation, rtol=1e-6)
    assert plain.correlation is None
    with pytest.raises(OptionError, match="correlation=True"):
        _ = plain.redundant
    assert "redundant" not in repr(plain)
    assert len(plain.plot().axes) == 2


def test_too_many_units_for_a_matrix_are_refused(cnn, monkeypatch):
    monkeypatch.setattr("onnxviz.algorithms.units.LARGEST", 5)
    with pytest.raises(OptionError, match=r"6 units of 'features\.1'.*correlation=False"):
        cnn.explainer.unit_stats(cnn.x(), "features.1")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, OptionError, "k is a positive"),
        ({"units": [6]}, OptionError, r"units: the layer has the units 0 … 5; got 6"),
        ({"crop": 0}, OptionError, "crop lies within"),
        ({"redundancy": 1.5}, OptionError, "redundancy lies within"),
        ({"saturation": -1}, OptionError, "saturation lies within"),
        ({"layer": "nowhere"}, LayerError, "no layer 'nowhere'"),
    ],
)
def test_wrong_options_are_refused(cnn, options, error, message):
    with pytest.raises(error, match=message):
        cnn.explainer.unit_stats(cnn.x(), **{"layer": "features.1", **options})


def test_units_of_tokens_are_their_channels(subjects):
    tokens = subjects("tokens")
    values = tokens.explainer.features(tokens.x(), "embedding")["embedding"]
    stats = tokens.explainer.unit_stats(tokens.x(), "embedding")
    assert_close(stats.mean, values.mean((0, 1)))
    np.testing.assert_array_equal(stats.crops[0][0], tokens.x()[stats.top_samples[0, 0]])


def test_after_tanh_a_negative_unit_is_not_dead(tmp_path):
    with designed(tmp_path, "Tanh", [[-0.5, -0.5, 0, 1, 1, 1], [0, -0.5, 0, 1, 0, 0]]) as ex:
        np.testing.assert_array_equal(ex.unit_stats(POSITIVE, "h").dead, [2])


def test_layers_whose_units_cannot_be_told_are_refused(tmp_path):
    model = model_of("h = Relu(x)  y = Mul(h, h)", "float[N, 3, 4] x", "float[N, 3, 4] y")
    path = ov.convert(model, tmp_path / "net.onnx", example=normal(2, 3, 4), layers=["h"], quiet=True)
    with ov.load(path, providers="cpu") as ex:
        assert ex.layers["h"].axes.channel is None
        with pytest.raises(LayerError, match="not known which axis counts its units"):
            ex.unit_stats(normal(2, 3, 4), "h")
