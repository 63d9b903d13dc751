"""Metrics of maps as Quantus computes them, of explainers and with the same draws."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.trust.filling import imputed
from tests.support import assert_close, normal

pytestmark = pytest.mark.usefixtures("quantus", "quiet")


def found(explainer, maps, x, metric, options, **arguments):
    evaluation = ov.evaluate(explainer, maps, x, metrics={metric: options}, **arguments)
    (values,) = evaluation.values.values()
    return values[metric]


@pytest.mark.parametrize("softmax", [True, False])
def test_deletion_is_the_area_over_flipped_pixels(quantus, subjects, softmax):
    """Column by column: its curve lacks the whole input's score."""
    subject, targets = subjects("classifier"), np.array([2, 0, 1])
    x, maps = subject.x(3), normal(3, 6, seed=3)
    metric = quantus.PixelFlipping(features_in_step=1, perturb_baseline=0.25, abs=False, normalise=False)
    curve = metric(subject.explainer, x, targets, a_batch=maps, softmax=softmax)
    network = importlib.import_module("onnxviz.compat.quantus").Network(subject.explainer.engine, softmax=softmax)
    whole = network.predict(x)[range(3), targets]
    expected = np.trapezoid(np.column_stack([whole, curve]), dx=1 / 6)
    of = "probability" if softmax else "logits"
    values = found(subject.explainer, maps, x, "deletion", {"n_steps": 6}, target=targets, baseline=0.25, of=of)
    assert_close(values, expected, 1e-5)


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient"])
def test_sensitivity(quantus, cnn, method):
    """The same noise, in the sample's range."""
    x, targets = cnn.x(3), np.array([1, 3, 0])
    span, drawn = np.ptp(x.reshape(3, -1), axis=1)[:, None], iter(range(10))

    def noisy(arr, **_):
        noise = np.random.default_rng([6, next(drawn)]).uniform(-0.05, 0.05, x.shape)
        return (arr + span * noise.reshape(3, -1)).astype(np.float32)

    metric = quantus.MaxSensitivity(nr_samples=10, perturb_func=noisy, abs=False, normalise=False)
    expected = metric(
        cnn.explainer, x, targets, explain_func=importlib.import_module("onnxviz.compat.quantus").explain_func,
        explain_func_kwargs={"method": method},
    )  # fmt: skip
    options = {"radius": 0.05, "n_samples": 10}
    assert_close(found(cnn.explainer, method, x, "max_sensitivity", options, target=targets, seed=6), expected, 1e-4)


def test_pointing(quantus, cnn):
    """On the object itself: Quantus has no tolerance."""
    x, targets, maps = np.repeat(cnn.x(3), 8, 0), np.tile([1, 3, 0], 8), normal(24, 12, 12, seed=4)
    masks = np.zeros((24, 12, 12), bool)
    masks[:, 2:9, 3:11] = True
    metric = quantus.PointingGame(abs=False, normalise=False)
    expected = metric(cnn.explainer, x, targets, a_batch=maps[:, None], s_batch=masks[:, None])
    values = found(cnn.explainer, maps, x, "pointing_game", {"tolerance": 0}, target=targets, masks=masks)
    assert values.tolist() == [float(hit) for hit in expected]
    assert 0 < values.mean() < 1


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_what_road_puts_in_the_place_of_pixels(quantus, share):
    """Quantus solves the equations directly, this package until 1e-4 of the range is left; the rest adds up."""
    picture = normal(3, 24, 20)
    missing = np.random.default_rng(1).permutation(480)[: round(480 * share)]
    expected = quantus.perturb_func.noisy_linear_imputation(picture, missing, noise=0)
    gone = np.isin(np.arange(480), missing).reshape(24, 20)
    filled = imputed(picture.transpose(1, 2, 0), gone).transpose(2, 0, 1)
    assert np.abs(filled - expected.reshape(picture.shape)).max() < 0.01 * np.ptp(picture)
