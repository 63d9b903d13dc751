"""Layers and gradients of real networks against PyTorch."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from onnxviz.bundle import grad_name, read
from onnxviz.engine.core import Engine
from tests.models.comparison import COSINE, EVERYWHERE, agree, assert_gradients, assert_values, difference
from tests.models.models import NETWORKS, outputs_of

CLASSES = {"chelsea": 282, "coffee": 967, "camera": 872, "tabby": 281, "persian": 283, "siamese": 284, "egyptian": 285}
"""The best class of each photo: of SqueezeNet for chelsea 285, an Egyptian cat."""

every_network = pytest.mark.parametrize("name", NETWORKS)


def logits_of(model, x):
    """The network's logits; those of the network that ends in a softmax stand before it."""
    if isinstance(model, torch.nn.Sequential) and isinstance(model[-1], torch.nn.Softmax):
        return torch.nn.Sequential(*list(model)[:-1])(x)
    output = model(x)
    return output if isinstance(output, torch.Tensor) else output.logits


def leaves_of(name, output):
    """The tensors in what a module returned, by name: a dict's by key, a tuple's by position."""
    if isinstance(output, torch.Tensor):
        return [(name, output)]
    items = output.items() if hasattr(output, "items") else enumerate(output)
    return [(f"{name}:{key}", value) for key, value in items if isinstance(value, torch.Tensor)]


def layers_of(model, x):
    """Each module's output, by the module's name, ``#1`` at its second call."""
    values, calls, hooks = {}, {}, []
    for path, module in model.named_modules():

        def record(_module, _inputs, output, path=path):
            count = calls[path] = calls.get(path, -1) + 1
            name = f"{path}#{count}" if count else path
            values.update({leaf: value.detach().clone().numpy() for leaf, value in leaves_of(name, output)})

        if path:
            hooks.append(module.register_forward_hook(record))
    with torch.no_grad():
        model(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return values


def gradient_of(model, x, weights, layer=None):
    """∂ Σ weights · logits / ∂x, or with respect to what a module returned, by autograd."""
    x = torch.from_numpy(x).requires_grad_()
    with outputs_of(model, [layer] if layer else []) as kept:
        score = (logits_of(model, x) * torch.from_numpy(weights)).sum()
    return torch.autograd.grad(score, kept[layer] if layer else x)[0].numpy()


@every_network
def test_every_layer_has_torchs_values(converted, name):
    network = converted(name)
    x = network.inputs(3, seed=1)
    expected = layers_of(network.model, x)
    assert set(expected) == {layer.name for layer in network.explainer.layers}
    for layer, value in network.explainer.features(x).items():
        assert_values(value, expected[layer], layer)


@every_network
def test_the_input_gradient_is_torchs(converted, name):
    """Everywhere for one sample at least; where a late kink hides whether the others are right, the blocks tell."""
    network = converted(name)
    x = network.inputs(8, seed=2)
    weights = network_weights(network, 8)
    expected = gradient_of(network.model, x, weights)
    found = [difference(*pair) for pair in zip(network.explainer.gradient(x, weights).values, expected, strict=True)]
    assert min(cosine for _, _, cosine in found) >= COSINE, found
    assert min(largest for largest, _, _ in found) <= EVERYWHERE, found
    if not agree(found):
        assert_blocks(network, x, NETWORKS[name].blocks)


def assert_blocks(network, x, pattern):
    """The derivative of each block with respect to the one before it, at torch's values of that, is torch's."""
    names = [layer.name for layer in network.explainer.layers if re.fullmatch(pattern, layer.name)]
    assert len(names) > 1
    with outputs_of(network.model, names) as kept:
        network.model(torch.from_numpy(x).requires_grad_())
    engine = Engine(read(network.path), providers="cpu")
    for before, block in pairwise(names):
        cotangent = normal(kept[block].shape)
        (expected,) = torch.autograd.grad(kept[block], kept[before], torch.from_numpy(cotangent), retain_graph=True)
        values = {layer.name: layer.value for layer in network.explainer.layers}
        given = {network.explainer.inputs[0].name: x, values[before]: kept[before].detach().numpy()}
        (got,) = engine.linear(given, {grad_name(values[block]): cotangent}, [values[before]]).values()
        found = [difference(*pair)[0] for pair in zip(got, expected.numpy(), strict=True)]
        assert min(found) <= EVERYWHERE, (block, found)
    engine.close()


@every_network
def test_a_middle_layers_gradient_is_torchs(converted, name):
    network, layer = converted(name), NETWORKS[name].middle
    x = network.inputs(3, seed=3)
    weights = network_weights(network, 3)
    expected = gradient_of(network.model, x, weights, layer)
    assert_gradients(network.explainer.gradient(x, weights, layer=layer).values, expected)


def network_weights(network, count):
    """Random cotangents of the logits."""
    classes = network.explainer.outputs[0].logits_shape[-1]
    return normal((count, classes))


def normal(shape):
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet"])
def test_photos_are_recognised(converted, photos, name):
    explainer = converted(name).explainer
    expected = CLASSES | ({"chelsea": 285} if name == "squeezenet" else {})
    x = np.concatenate([explainer.read_image(photos[photo]) for photo in expected])
    assert dict(zip(expected, (best[0][0] for best in explainer.top(x, 1)), strict=True)) == expected


@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet"])
def test_photos_gradients_are_torchs(converted, photos, name):
    network = converted(name)
    x = np.concatenate([network.explainer.read_image(photo) for photo in photos.values()])
    x *= np.float32(1.0001)  # as it stands, one photo has a late Clip within rounding of its kink
    found = network.explainer.gradient(x)
    weights = np.eye(1000, dtype=np.float32)[found.target]
    assert_gradients(found.values, gradient_of(network.model, x, weights))
