"""SqueezeNet with its real weights on photos: the same as Captum says, method by method.

Where Captum defines a method in another way, the option that asks for its definition stands in the table.
"""

from __future__ import annotations

import captum.attr as captum
import numpy as np
import pytest
import torch

from tests.models.comparison import COSINE, MEDIAN, difference
from tests.support import assert_close

pytestmark = pytest.mark.usefixtures("quiet")

PHOTOS = ("chelsea", "coffee", "china")
CLASSES = (285, 967, 832)
"""Egyptian cat, espresso, stupa."""
LAYER = "fire9.concat"


@pytest.fixture(scope="module")
def asked(converted, photos):
    """The network with parameters that need no gradient, its explainer, and the photos."""
    network = converted("squeezenet")
    x = np.concatenate([network.explainer.read_image(photos[name]) for name in PHOTOS])
    return network.model, network.explainer, x


def leaf(x):
    return torch.tensor(x, requires_grad=True)


def of_captum(method, x, **options):
    return method.attribute(leaf(x), target=torch.tensor(CLASSES), **options).detach().numpy()


IN_INPUT_SPACE = {
    "saliency": (captum.Saliency, {}, {"reduce": None}),
    "gradient": (captum.Saliency, {"abs": False}, {}),
    "input_x_gradient": (captum.InputXGradient, {}, {}),
    "guided_backprop": (captum.GuidedBackprop, {}, {}),
    "deconvnet": (captum.Deconvolution, {}, {}),
    "integrated_gradients": (captum.IntegratedGradients, {"n_steps": 20}, {"n_steps": 20}),
}
"""Ours → Captum's, its options and ours."""


def assert_same_direction(found, expected) -> None:
    """Of each photo the median difference and the direction: ReLU and MaxPool have kinks at which entries flip."""
    for one, other in zip(np.asarray(found), expected, strict=True):
        _, middle, cosine = difference(one, other)
        assert middle <= MEDIAN
        assert cosine >= COSINE


@pytest.mark.parametrize("method", IN_INPUT_SPACE)
def test_in_input_space(asked, method):
    model, ex, x = asked
    theirs, options, ours = IN_INPUT_SPACE[method]
    assert_same_direction(ex.explain(x, method, np.array(CLASSES), **ours), of_captum(theirs(model), x, **options))


def test_completeness(asked):
    """The gap is Captum's, and below 1 % of what the score rises by from the baseline on each photo."""
    model, ex, x = asked
    classes, zero = np.array(CLASSES), ex.gradient(np.zeros_like(x), np.array(CLASSES)).score
    found = ex.integrated_gradients(x, classes)
    _, delta = captum.IntegratedGradients(model).attribute(
        leaf(x), target=torch.tensor(CLASSES), n_steps=50, return_convergence_delta=True
    )
    rise, gap = np.abs(found.score - zero), found.options["completeness_gap"]
    np.testing.assert_allclose(-gap / rise, delta.numpy() / rise, atol=1e-3)
    assert (np.abs(gap[:2]) <= 0.01 * rise[:2]).all()


def test_smooth_grad_with_the_same_noise(asked, monkeypatch):
    model, ex, x = asked
    x, classes, samples = x[:1], torch.tensor(CLASSES[:1]), 6
    noise = [np.random.default_rng([5, j]).standard_normal(x.shape[1:], np.float32) for j in range(samples)]
    sigma = 0.1 * (x.max() - x.min())

    def drawn(mean, std):
        return mean + std * torch.tensor(np.stack(noise))

    monkeypatch.setattr(torch, "normal", drawn)
    for kind, theirs in (("mean", "smoothgrad"), ("square", "smoothgrad_sq"), ("variance", "vargrad")):
        expected = captum.NoiseTunnel(captum.Saliency(model)).attribute(
            leaf(x), nt_type=theirs, nt_samples=samples, stdevs=float(sigma), target=classes, abs=False
        )
        found = ex.smooth_grad(x, np.array(CLASSES[:1]), n_samples=samples, noise=0.1, kind=kind, seed=5)
        assert_same_direction(found, expected.detach().numpy())


def test_grad_cam_at_a_late_layer(asked):
    model, ex, x = asked
    expected = captum.LayerGradCam(model, model.get_submodule(LAYER)).attribute(
        leaf(x), target=torch.tensor(CLASSES), relu_attributions=True
    )
    found = ex.grad_cam(x, np.array(CLASSES), layer=LAYER, upsample=False)
    assert_close(found, expected.detach().numpy()[:, 0], 1e-4)


def test_guided_grad_cam(asked):
    """Captum resizes the map by nearest pixels unless told to do it bilinearly."""
    model, ex, x = asked
    expected = of_captum(captum.GuidedGradCam(model, model.get_submodule(LAYER)), x, interpolate_mode="bilinear")
    found = np.asarray(ex.guided_grad_cam(x, np.array(CLASSES), layer=LAYER))
    assert_same_direction(found, expected)


def test_occlusion(asked):
    """Captum's windows have a size in channels too; its last window is cut off by the edge, ours ends with it."""
    model, ex, x = asked
    window, stride = 47, 45  # of 227 pixels: the windows end with the edge
    expected = of_captum(
        captum.Occlusion(model),
        x[:1].repeat(3, 0),
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=0,
    )
    found = ex.occlusion(x[:1].repeat(3, 0), np.array(CLASSES), window=window, stride=stride)
    assert_close(found, expected[:, 0], 1e-4)
