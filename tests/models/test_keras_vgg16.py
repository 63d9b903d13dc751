"""Guided backprop and deconvnet on VGG16 against a tape with a ReLU of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from tests.models import keras_networks
from tests.models.comparison import assert_gradients, difference

# isort: split
import keras
import tensorflow as tf

LAYERS = [
    *(f"block{k}_{kind}" for k, count in enumerate((2, 2, 3, 3, 3), 1)
      for kind in (*(f"conv{c + 1}" for c in range(count)), "pool")),
    "flatten", "fc1", "fc2", "predictions",
]  # fmt: skip


@tf.custom_gradient
def guided_relu(x):
    y = tf.nn.relu(x)
    return y, lambda dy: tf.where((x > 0) & (dy > 0), dy, 0)


@tf.custom_gradient
def deconvnet_relu(x):
    return tf.nn.relu(x), tf.nn.relu


RELUS = {"guided_backprop": guided_relu, "deconvnet": deconvnet_relu}


@pytest.fixture(scope="module")
def network():
    """VGG16 for pictures of 64 × 64 pixels."""
    return keras_networks.build("VGG16")


@pytest.fixture(scope="module")
def explainer(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.onnx"
    with ov.load(ov.convert(network, path, quiet=True), providers="cpu") as explainer:
        yield explainer
    path.unlink()  # pytest keeps the folders of its last runs


def of_classes(model, x, classes, relu):
    """∂ (logit of each sample's class) / ∂x, where each ReLU goes back as the method says."""
    rectified = [layer for layer in model.layers if getattr(layer, "activation", None) is keras.activations.relu]
    for layer in rectified:
        layer.activation = relu
    try:
        (found,) = keras_networks.gradients(model, x, np.eye(1000, dtype=np.float32)[classes])
    finally:
        for layer in rectified:
            layer.activation = keras.activations.relu
    return found


def test_all_layers_are_named(explainer):
    assert len(LAYERS) == 22
    assert [layer.name for layer in explainer.layers] == LAYERS


@pytest.mark.parametrize("method", RELUS)
def test_rewritten_rectifiers(network, explainer, method):
    x, classes = keras_networks.inputs(network, 4, seed=5), np.arange(4)
    found = explainer.explain(x, method, classes)
    assert found.options["rewritten"] == {"ReluGrad": 15}
    assert_gradients(found.values, of_classes(network, x, classes, RELUS[method]))
    _, _, cosine = difference(found.values, explainer.gradient(x, classes).values)
    assert cosine < 0.9
