"""SqueezeNet with its real weights on photos: class activation maps as pytorch-grad-cam computes them.

The package imports torchvision, which no CPU build of torch here has; so its formulas stand here a second time, on
PyTorch's own activations and gradients, before its scaling of each map to 0 … 1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.support import assert_close

CLASSES = (285, 967)
LAYER = "fire9.concat"


@pytest.fixture(scope="module")
def looked_at(converted, photos):
    """The network, its explainer, two photos, and PyTorch's activations and gradients of them at the layer."""
    network = converted("squeezenet")
    x = np.concatenate([network.explainer.read_image(photos[name]) for name in ("chelsea", "coffee")])
    kept = []
    handle = network.model.get_submodule(LAYER).register_forward_hook(lambda *found: kept.append(found[2]))
    logits = network.model(torch.tensor(x, requires_grad=True))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[range(2), CLASSES].sum(), kept[0])
    return network, x, kept[0].detach().numpy(), gradient.numpy()


def plus_plus(a, g):
    below = 2 * g**2 + a.sum((2, 3), keepdims=True) * g**3 + 1e-16
    alpha = np.where(g != 0, g**2 / below, 0)
    return (np.maximum(g, 0) * alpha).sum((2, 3), keepdims=True) * a


FORMULAS = {
    "grad_cam": lambda a, g: g.mean((2, 3), keepdims=True) * a,
    "grad_cam_pp": plus_plus,
    "layer_cam": lambda a, g: np.maximum(g, 0) * a,
    "hires_cam": lambda a, g: g * a,
    "xgrad_cam": lambda a, g: (g * a).sum((2, 3), keepdims=True) / (a.sum((2, 3), keepdims=True) + 1e-16) * a,
}


@pytest.mark.parametrize("method", FORMULAS)
def test_weighted_channels(looked_at, method):
    network, x, a, g = looked_at
    expected = np.maximum(FORMULAS[method](a.astype(np.float64), g.astype(np.float64)).sum(1), 0)
    found = network.explainer.explain(x, method, np.array(CLASSES), layer=LAYER, upsample=False)
    assert_close(found, expected, 1e-4)


def test_eigen_cam(looked_at):
    """Centred, and with whichever sign the decomposition gives."""
    network, x, a, _ = looked_at
    found = np.asarray(network.explainer.eigen_cam(x, layer=LAYER, upsample=False, centre=True))
    for one, activations in zip(found, a.astype(np.float64), strict=True):
        rows = activations.reshape(len(activations), -1).T
        rows = rows - rows.mean(0)
        projected = (rows @ np.linalg.svd(rows, full_matrices=True)[2][0]).reshape(one.shape)
        errors = [np.abs(one - np.maximum(sign * projected, 0)).max() / np.abs(projected).max() for sign in (1, -1)]
        assert min(errors) < 1e-4


def test_score_cam(looked_at):
    network, x, a, _ = looked_at
    x, a = x[:1], torch.tensor(a[:1])
    masks = functional.interpolate(a, x.shape[2:], mode="bilinear")
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = ((masks - low) / (high - low + 1e-8))[0]
    with torch.no_grad():
        scores = torch.cat([network.model(torch.tensor(x) * part[:, None])[:, CLASSES[0]] for part in masks.split(16)])
    weights = torch.softmax(scores, 0).reshape(1, -1, 1, 1)
    found = network.explainer.score_cam(x, CLASSES[0], layer=LAYER, upsample=False)
    assert_close(found, (weights * a).sum(1).clamp(min=0).numpy(), 1e-4)
