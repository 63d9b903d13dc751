"""Methods on models of which the answer is known, and against the papers' formulas written a second time in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import LayerError, OptionError
from tests.support import assert_close, normal, torch_gradient, torch_values

WEIGHTS = normal(3, 12, seed=4)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Three logits, linear in (N, 3, 2, 2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    model[1].weight.data = torch.tensor(WEIGHTS)
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    with ov.load(ov.convert(model, path, example=torch.randn(2, 3, 2, 2), quiet=True)) as ex:
        yield ex


X = normal(4, 3, 2, 2, seed=5)
PARTS = X * WEIGHTS[1].reshape(3, 2, 2)


def test_gradients_of_a_linear_model(linear):
    expected = np.broadcast_to(WEIGHTS[1].reshape(3, 2, 2), X.shape)
    assert_close(linear.gradient(X, 1), expected, 1e-6)
    assert_close(linear.smooth_grad(X, 1, n_samples=7), expected, 1e-5)
    assert_close(linear.smooth_grad(X, 1, n_samples=7, kind="square"), expected**2, 1e-5)
    assert np.abs(np.asarray(linear.smooth_grad(X, 1, n_samples=7, kind="variance"))).max() < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_parts_of_a_linear_model(linear, steps):
    assert_close(linear.input_x_gradient(X, 1), PARTS, 1e-5)
    found = linear.integrated_gradients(X, 1, n_steps=steps)
    assert_close(found, PARTS, 1e-4)
    assert np.abs(found.options["completeness_gap"]).max() < 1e-4
    start = normal(3, 2, 2, seed=6)
    for baseline in (start, np.broadcast_to(start, X.shape)):
        moved = linear.integrated_gradients(X, 1, n_steps=steps, baseline=baseline)
        assert_close(moved, (X - start) * WEIGHTS[1].reshape(3, 2, 2), 1e-4)


def test_occlusion_of_a_linear_model(tmp_path):
    """A window of one column covers weight × input; a table's entries are covered one at a time."""
    model = nn.Linear(6, 2).eval()
    x = normal(3, 6)
    with ov.load(ov.convert(model, tmp_path / "table.onnx", example=torch.randn(2, 6), quiet=True)) as ex:
        assert_close(ex.occlusion(x, 1), x * model.weight[1].detach().numpy(), 1e-4)


def cover(score, x, window, stride, value):
    """Zeiler's covering, one window at a time."""
    total, count = np.zeros((len(x), *x.shape[2:])), np.zeros(x.shape[2:])
    starts = [sorted({*range(0, size - window + 1, stride), size - window}) for size in x.shape[2:]]
    for top in starts[0]:
        for left in starts[1]:
            box = (slice(top, top + window), slice(left, left + window))
            moved = x.copy()
            moved[:, :, *box] = value
            total[:, *box] += (score(x) - score(moved))[:, None, None]
            count[box] += 1
    return total / count


@pytest.mark.parametrize(("window", "stride", "value"), [(3, 1, 0.0), (4, 3, 0.5), (12, 1, 0.0), (2, 2, -1.0)])
def test_occlusion_one_window_at_a_time(cnn, window, stride, value):
    x = cnn.x()
    found = cnn.explainer.occlusion(x, 2, window=window, stride=stride, baseline=value)
    assert_close(found, cover(lambda v: cnn.explainer.predict(v)[:, 2], x, window, stride, value), 1e-4)


def test_integrated_gradients_are_complete(subjects):
    """What is left decreases with the steps; the gap says how much it is."""
    subject = subjects("volume")  # piecewise linear up to its head
    x = subject.x()
    gaps = []
    for steps in (2, 50, 400):
        found = subject.explainer.integrated_gradients(x, 1, n_steps=steps)
        zero = subject.explainer.gradient(np.zeros_like(x), 1).score
        total = np.asarray(found).sum(tuple(range(1, x.ndim)))
        np.testing.assert_allclose(found.score - zero - total, found.options["completeness_gap"], atol=1e-5)
        gaps.append(np.abs(found.options["completeness_gap"]).max())
    assert gaps[2] < gaps[0]
    assert gaps[2] < 1e-3 * np.abs(found.score - zero).max() + 1e-5


def test_smooth_grad_one_sample_at_a_time(cnn):
    x = cnn.x()
    sigma = 0.2 * (x.max((1, 2, 3), keepdims=True) - x.min((1, 2, 3), keepdims=True))
    noisy = [x + sigma * np.random.default_rng([7, j]).standard_normal(x.shape[1:], np.float32) for j in range(6)]
    each = np.stack([
        torch_gradient(cnn.model, {"image": v.astype(np.float32)}, lambda y: y[:, 3]) for v in noisy
    ])  # fmt: skip
    for kind, expected in (("mean", each.mean(0)), ("square", (each**2).mean(0)), ("variance", each.var(0))):
        found = cnn.explainer.smooth_grad(x, 3, n_samples=6, noise=0.2, seed=7, kind=kind)
        assert_close(found, expected, 1e-4)
        assert found.options["kind"] == kind


def test_smooth_grad_of_guided_backprop(cnn):
    found = cnn.explainer.smooth_grad(cnn.x(), 3, n_samples=1, noise=0, around="guided_backprop")
    assert_close(found, cnn.explainer.guided_backprop(cnn.x(), 3), 1e-6)


# ----- class activation maps, from the papers -----


def rectified(values):
    return np.maximum(values, 0)


def ratio(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def pp(a, g):
    alpha = ratio(g**2, 2 * g**2 + g**3 * a.sum((2, 3), keepdims=True))
    return (rectified(g) * alpha).sum((2, 3), keepdims=True) * a


FORMULAS = {
    "grad_cam": lambda a, g: g.mean((2, 3), keepdims=True) * a,
    "grad_cam_pp": pp,
    "layer_cam": lambda a, g: rectified(g) * a,
    "hires_cam": lambda a, g: g * a,
    "xgrad_cam": lambda a, g: ratio((g * a).sum((2, 3), keepdims=True), a.sum((2, 3), keepdims=True)) * a,
}


SITES = [("cnn", "features.3"), ("cnn", "features.1"), ("mixed", "wide")]
ILL_POSED = ("xgrad_cam", "mixed")
"""It divides by the sum of a channel, which is next to nothing where no ReLU made the values positive."""


@pytest.mark.parametrize(
    ("method", "name", "layer"),
    [(method, *site) for method in FORMULAS for site in SITES if (method, site[0]) != ILL_POSED],
)
def test_maps_by_their_formulas(subjects, method, name, layer):
    subject, target = subjects(name), {"cnn": 1, "mixed": 2}[name]
    a = torch_values(subject.model, subject.feeds(), layer).astype(np.float64)
    g = torch_gradient(subject.model, subject.feeds(), lambda y: y[:, target], layer=layer).astype(np.float64)
    if name == "mixed":  # channels last there
        a, g = (v.transpose(0, 3, 1, 2) for v in (a, g))
    expected = rectified(FORMULAS[method](a, g).sum(1))
    assert_close(subject.explainer.explain(subject.x(), method, target, layer=layer, upsample=False), expected, 1e-4)


def test_guided_grad_cam_is_the_product(cnn):
    x = cnn.x()
    found = cnn.explainer.guided_grad_cam(x, 1, layer="features.3")
    heat = np.asarray(cnn.explainer.grad_cam(x, 1, layer="features.3"))[:, None]
    assert_close(found, np.asarray(cnn.explainer.guided_backprop(x, 1)) * heat, 1e-6)
    assert found.layer == "features.3"


@pytest.mark.parametrize("centre", [False, True])
def test_eigen_cam_is_the_largest_direction(cnn, centre):
    a = torch_values(cnn.model, cnn.feeds(), "features.3").astype(np.float64)
    rows = a.reshape(*a.shape[:2], -1).transpose(0, 2, 1)
    rows = rows - rows.mean(1, keepdims=True) if centre else rows
    found = np.asarray(cnn.explainer.eigen_cam(cnn.x(), layer="features.3", upsample=False, centre=centre))
    for sample, one in zip(rows, found, strict=True):
        powers, vectors = np.linalg.eigh(sample.T @ sample)
        direction = vectors[:, powers.argmax()]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        assert_close(one, rectified(sample @ direction).reshape(one.shape), 1e-4)


def test_score_cam_one_channel_at_a_time(cnn):
    x = cnn.x()
    a = torch_values(cnn.model, cnn.feeds(), "features.3")
    wide = torch.nn.functional.interpolate(torch.tensor(a), (12, 12), mode="bilinear").numpy()
    low, high = wide.min((2, 3), keepdims=True), wide.max((2, 3), keepdims=True)
    masks = np.divide(wide - low, high - low, out=np.zeros_like(wide), where=high > low)
    scores = np.stack([cnn.explainer.predict(x * masks[:, k : k + 1])[:, 2] for k in range(a.shape[1])], 1)
    weights = torch.softmax(torch.tensor(scores), 1).numpy()[:, :, None, None]
    found = cnn.explainer.score_cam(x, 2, layer="features.3", upsample=False)
    assert_close(found, rectified((weights * a).sum(1)), 1e-4)


def test_rise_finds_the_quadrant_that_is_read(tmp_path):
    """A model that sees the upper left quarter alone."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)).eval()
    model[2].weight.data = torch.zeros(2, 12)
    model[2].weight.data[1, [0, 4, 8]] = 1.0
    model[2].bias.data[:] = 0.0
    path = ov.convert(model, tmp_path / "quadrant.onnx", example=torch.randn(2, 3, 16, 16), quiet=True)
    with ov.load(path) as ex:
        heat = np.asarray(ex.rise(np.ones((1, 3, 16, 16), np.float32), 1, n_masks=400, cells=4, seed=0))[0]
    assert heat[:8, :8].mean() > 1.15 * max(heat[8:].mean(), heat[:8, 8:].mean())


def test_masks_follow_the_seed(cnn):
    found, again, other = (cnn.explainer.rise(cnn.x(), 1, n_masks=9, cells=2, seed=seed) for seed in (2, 2, 3))
    np.testing.assert_array_equal(found.values, again.values)
    assert np.abs(found.values - other.values).max() > 0


# ----- refusals -----

REFUSED = {
    "steps": ("integrated_gradients", {"n_steps": 0}, "n_steps=0: expected a positive integer"),
    "fractional steps": ("integrated_gradients", {"n_steps": 2.5}, "n_steps=2.5"),
    "samples": ("smooth_grad", {"n_samples": -1}, "n_samples=-1"),
    "noise": ("smooth_grad", {"noise": float("nan")}, "noise=nan"),
    "kind": ("smooth_grad", {"kind": "median"}, "kind='median': expected 'mean', 'square' or 'variance'"),
    "around": ("smooth_grad", {"around": "saliency"}, "around='saliency': expected one of 'gradient'"),
    "window": ("occlusion", {"window": 13}, r"window=13: expected one number for each of 2 axes, from 1 to \[12, 12\]"),
    "stride": ("occlusion", {"stride": (1, 0)}, r"stride=\(1, 0\)"),
    "masks": ("rise", {"n_masks": 0}, "n_masks=0"),
    "kept": ("rise", {"kept": 1.0}, "kept=1.0: expected a probability between 0 and 1"),
    "cells": ("rise", {"cells": (1, 2, 3)}, r"cells=\(1, 2, 3\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_options(cnn, case):
    method, options, message = REFUSED[case]
    with pytest.raises(OptionError, match=message):
        cnn.explainer.explain(cnn.x(), method, 1, **options)


@pytest.mark.parametrize("baseline", [np.zeros((3, 12)), np.nan, "black"])
def test_impossible_baselines(cnn, baseline):
    with pytest.raises(ov.OnnxvizError, match="baseline"):
        cnn.explainer.integrated_gradients(cnn.x(), 1, baseline=baseline)


def test_maps_need_places(linear):
    with pytest.raises(LayerError, match="more than one place in space"):
        linear.layer_cam(X, 1)
