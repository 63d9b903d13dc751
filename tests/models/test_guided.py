"""Guided backprop and deconvnet against PyTorch with rectifiers of the test's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import LayerError
from tests.models.comparison import assert_gradients, difference
from tests.models.models import Varied


class Rectifier(torch.autograd.Function):
    """clip(x, 0, top), with the backward pass of a method."""

    @staticmethod
    def forward(ctx, x, method, top):
        ctx.save_for_backward(x)
        ctx.method, ctx.top = method, top
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        passed = (x > 0) & (x < ctx.top)
        kept = {"guided_backprop": passed & (dy > 0), "deconvnet": dy > 0}
        return torch.where(kept[ctx.method], dy, 0), None, None


class RectifierModule(nn.Module):
    def __init__(self, method, top):
        super().__init__()
        self.method, self.top = method, top

    def forward(self, x):
        return Rectifier.apply(x, self.method, self.top)


def rewritten(model, method):
    """A copy of the model in which each ReLU and ReLU6 module goes back as the method says."""
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU | nn.ReLU6):
            top = 6.0 if isinstance(module, nn.ReLU6) else float("inf")
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, RectifierModule(method, top))
    return model


def of_classes(model, x, classes):
    """∂ (score of each sample's class) / ∂x."""
    x = torch.from_numpy(x).requires_grad_()
    model(x).gather(1, torch.from_numpy(classes)[:, None]).sum().backward()
    return x.grad.numpy()


methods = pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])


@methods
@pytest.mark.parametrize(
    ("name", "operator", "count"), [("squeezenet", "ReluGrad", 25), ("efficientnet_lite0", "ClipGrad", 33)]
)
def test_on_photos(converted, photos, method, name, operator, count):
    network = converted(name)
    chosen = [photos[photo] for photo in ("chelsea", "tabby", "persian")]
    x = np.concatenate([network.explainer.read_image(photo) for photo in chosen])
    found = network.explainer.explain(x, method)
    assert found.options["rewritten"] == {operator: count}
    assert_gradients(found.values, of_classes(rewritten(network.model, method), x, found.target))


@methods
def test_of_functional_relu(converted, method):
    network = converted("varied")
    x, classes = network.inputs(8, seed=5), np.arange(8)
    model = Varied(relu=lambda x: Rectifier.apply(x, method, float("inf")))
    model.load_state_dict(network.model.state_dict())
    found = network.explainer.explain(x, method, classes)
    assert found.options["rewritten"] == {"ReluGrad": 4}
    assert_gradients(found.values, of_classes(model, x, classes))


@methods
def test_is_not_the_gradient(converted, method):
    network = converted("varied")
    x = network.inputs(1, seed=5)
    _, _, cosine = difference(network.explainer.explain(x, method, 0).values, network.explainer.gradient(x, 0).values)
    assert cosine < 0.9


@methods
def test_gates_alone_are_refused(tmp_path, method):
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    with (
        ov.load(ov.convert(model, tmp_path / "gates.onnx", example=x, quiet=True), providers="cpu") as explainer,
        pytest.raises(LayerError, match=r"Tanh ×1, Sigmoid ×1.*the plain gradient"),
    ):
        explainer.explain(x, method, 1)
