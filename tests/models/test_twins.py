"""SqueezeNet from the same arrays in PyTorch and in Keras: both files give the same explanations.

Each is also compared with its own framework's differentiation, by rectifiers of the test's own for guided backprop.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

import keras  # isort: skip
import tensorflow as tf  # isort: skip

from onnxviz.bundle import grad_name, read
from onnxviz.engine.cut import Graph, cut
from tests.models.comparison import assert_gradients, assert_values
from tests.models.models import outputs_of
from tests.models.test_guided import rewritten

TWINS = {"squeezenet": "fire9.concat", "squeezenet_keras": "fire9_concat"}
"""The twins, and what each calls the layer that Grad-CAM looks at."""

PHOTOS = ("chelsea", "coffee", "china")
SAME = 1e-5

each_twin = pytest.mark.parametrize("name", TWINS)


def channels_first(array):
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def photos_for(network, photos):
    return np.concatenate([network.explainer.read_image(photos[photo]) for photo in PHOTOS])


def explained(converted, photos, method):
    """What both files say: values and targets, those of PyTorch's first."""
    found = []
    for name, layer in TWINS.items():
        explainer = converted(name).explainer
        options = {"layer": layer} if method == "grad_cam" else {}
        found.append(explainer.explain(photos_for(converted(name), photos), method, **options))
    return found


def test_both_take_the_same_pictures(converted, photos):
    first, last = (photos_for(converted(name), photos) for name in TWINS)
    np.testing.assert_array_equal(first, channels_first(last))


def test_both_compute_the_same(converted, photos):
    """Outputs, and every layer of Keras's, which is PyTorch's of the same name but for the joint."""
    first, last = (converted(name) for name in TWINS)
    layers = {layer.name: layer.name.replace("_", ".", 1) for layer in last.explainer.layers}
    expected = first.explainer.features(photos_for(first, photos), layers=list(layers.values()))
    for name, value in last.explainer.features(photos_for(last, photos)).items():
        wanted = expected[layers[name]]
        assert_values(channels_first(value), wanted.reshape(wanted.shape[: value.ndim]), name, bar=SAME)
    outputs = [network.explainer.predict(photos_for(network, photos)) for network in (last, first)]
    assert_values(*outputs, "output", bar=SAME)


@pytest.mark.parametrize("method", ["gradient", "saliency", "guided_backprop", "deconvnet", "grad_cam"])
def test_both_explain_the_same(converted, photos, method):
    first, last = explained(converted, photos, method)
    np.testing.assert_array_equal(first.target, last.target)
    assert_values(last.score, first.score, "score", bar=SAME)
    for photo, ours, theirs in zip(PHOTOS, channels_first(last.values), first.values, strict=True):
        assert_values(ours, theirs, photo, bar=SAME)


# ----- each against its own framework -----


@tf.custom_gradient
def guided_relu(x):
    return tf.nn.relu(x), lambda dy: tf.where((x > 0) & (dy > 0), dy, 0)


class GuidedRelu(keras.layers.Layer):
    def call(self, x):
        return guided_relu(x)


def guided(model):
    """A copy of the Keras model in which each ReLU passes back what is positive."""

    def copied(layer):
        return GuidedRelu() if isinstance(layer, keras.layers.ReLU) else type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def keras_gradient(model, x, classes, layer=None):
    """∂ (score of each sample's class) / ∂x, or a layer's output and the derivative by it."""
    source = model.inputs[0] if layer is None else model.get_layer(layer).output
    probe = keras.Model(model.inputs, [source, model.outputs[0]])
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value, logits = probe(x, training=False)
        score = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
    return value.numpy(), tape.gradient(score, x if layer is None else value).numpy()


def torch_gradient(model, x, classes, layer=None):
    x = torch.from_numpy(x).requires_grad_()
    with outputs_of(model, [layer] if layer else []) as kept:
        score = model(x).gather(1, torch.from_numpy(classes)[:, None]).sum()
    value = kept[layer] if layer else x
    return value.detach().numpy(), torch.autograd.grad(score, value)[0].numpy()


def reference(name, model, x, classes, layer=None, method="gradient"):
    """What the framework says, channels first."""
    if name == "squeezenet":
        model = rewritten(model, method) if method == "guided_backprop" else model
        return torch_gradient(model, x, classes, layer)
    model = guided(model) if method == "guided_backprop" else model
    return tuple(channels_first(array) for array in keras_gradient(model, x, classes, layer))


@each_twin
@pytest.mark.parametrize("method", ["gradient", "guided_backprop"])
def test_gradients_are_the_frameworks(converted, photos, name, method):
    network = converted(name)
    x = photos_for(network, photos)
    found = network.explainer.explain(x, method)
    _, expected = reference(name, network.model, x, found.target, method=method)
    assert_gradients(channels_first(found.values) if name != "squeezenet" else found.values, expected)


@each_twin
def test_saliency_is_the_frameworks(converted, photos, name):
    network = converted(name)
    x = photos_for(network, photos)
    found = network.explainer.saliency(x)
    _, gradient = reference(name, network.model, x, found.target)
    assert_gradients(found.values, np.abs(gradient).max(1))


@each_twin
def test_grad_cam_is_the_frameworks(converted, photos, name):
    network = converted(name)
    x = photos_for(network, photos)
    found = network.explainer.grad_cam(x, layer=TWINS[name])
    values, gradient = reference(name, network.model, x, found.target, layer=TWINS[name])
    heat = np.maximum((gradient.mean((2, 3), keepdims=True) * values).sum(1, keepdims=True), 0)
    maps = functional.interpolate(torch.from_numpy(heat), size=(227, 227), mode="bilinear")[:, 0]
    assert_values(found.values, maps.numpy(), name)


# ----- the graphs -----

HEAVY = {"Conv", "ConvGrad", "Relu", "ReluGrad", "MaxPool", "MaxPoolGrad", "Concat", "Split", "Add", "ReduceMean"}


def test_both_graphs_hold_the_same_operators(converted):
    """In the same order; Keras's has a Transpose for its input and one for the result."""
    sequences, transposes = [], []
    for name in TWINS:
        bundle = read(converted(name).path)
        graph = Graph(bundle)
        model = cut(graph, [grad_name(bundle.manifest.inputs[0].name)], live=graph.seeds).model()
        operators = [node.op_type for node in model.graph.node]
        sequences.append([operator for operator in operators if operator in HEAVY])
        transposes.append(Counter(operators)["Transpose"])
    assert sequences[0] == sequences[1]
    assert transposes == [0, 2]
