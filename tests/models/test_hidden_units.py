"""The derivative of a hidden unit with respect to the input: the stored graph with ``grad/<layer>`` given."""

from __future__ import annotations

import pytest
import torch

from onnxviz.bundle import grad_name, read
from onnxviz.engine.core import Engine
from tests.models.comparison import assert_gradients
from tests.models.models import outputs_of

UNITS = [
    ("squeezenet", "fire5.squeeze1x1"),
    ("squeezenet", "fire5.expand3x3"),
    ("squeezenet", "fire5.expand1x1_relu"),
    ("resnet18", "resnet.encoder.stages.1.layers.0.layer.0.convolution"),
    ("resnet18", "resnet.encoder.stages.1.layers.0.layer.1"),
    ("resnet18", "resnet.encoder.stages.1.layers.0.shortcut"),
    ("resnet18", "resnet.encoder.stages.2.layers.1"),
]


@pytest.mark.parametrize(("name", "layer"), UNITS)
def test_a_hidden_units_derivative_is_autograds(converted, name, layer):
    """Of each sample's most active unit."""
    network = converted(name)
    x = network.inputs(4, seed=6)
    leaf = torch.from_numpy(x).requires_grad_()
    with outputs_of(network.model, [layer]) as kept:
        network.model(leaf)
    units = kept[layer].flatten(1).argmax(1, keepdim=True)
    cotangent = torch.zeros_like(kept[layer].flatten(1)).scatter(1, units, 1).reshape(kept[layer].shape)
    (expected,) = torch.autograd.grad(kept[layer], leaf, cotangent)
    bundle = read(network.path)
    engine = Engine(bundle, providers="cpu")
    feeds = {bundle.manifest.inputs[0].name: x}
    gradient = grad_name(network.explainer.layers[layer].value)
    (found,) = engine.linear(feeds, {gradient: cotangent.numpy()}, list(feeds)).values()
    engine.close()
    assert_gradients(found, expected.numpy())
