"""Models of sequences, asked for what their explainable files must say: layers with several outputs, integer inputs."""

from __future__ import annotations

import math
from collections import Counter

import keras
import numpy as np
import onnx
import tensorflow as tf
from keras import layers as L

from tests.converters.keras.support import BAR, convert, normal
from tests.models.comparison import assert_values

STEPS, FEATURES, UNITS = 5, 4, 3


def shaken(model):
    """Weights of the size that training gives them: embeddings begin small, biases as zeros or ones."""
    for k, variable in enumerate(model.weights):
        if any(part in variable.path for part in ("bias", "embeddings", "gamma", "beta")):
            variable.assign(normal(*variable.shape, seed=k) / 2)
    return model


def joined(inputs, *values):
    """A model of one output: all values in one row per sample."""
    flat = [keras.ops.reshape(value, (-1, math.prod(value.shape[1:]))) for value in keras.tree.flatten(values)]
    return shaken(keras.Model(inputs, L.Concatenate(name="all")(flat) if len(flat) > 1 else flat[0]))


def sequences(**options):
    return keras.Input((STEPS, FEATURES), name="x", **options)


def sequential(*layers, shape=(STEPS, FEATURES), **options):
    return shaken(keras.Sequential([keras.Input(shape, name="x", **options), *layers]))


def example(model, batch=4):
    return [normal(batch, *model.inputs[0].shape[1:])]


class Cut(L.Layer):
    """Of its output the number of steps is not known before it is computed."""

    def call(self, x):
        return x[:, : keras.ops.sum(keras.ops.cast(x[0, :, 0] > -9, "int32"))]


def assert_converts(model, folder, inputs, **options):
    """The file holds the model; its operators, counted."""
    with convert(model, folder, **options) as explainer:
        assert_same(model, explainer, inputs)
    return Counter(node.op_type for node in onnx.load(folder / "net.onnx").graph.node)


def assert_same(model, explainer, inputs):
    """Every value that Keras has for a layer, and the gradient of each, at a batch that the conversion did not see.

    Gradients are left out of layers with several outputs, of which Keras may use one as a part of another.
    """
    feeds = dict(zip([tensor.name for tensor in explainer.inputs], inputs, strict=True))
    values, gradients, weights = parts(model, inputs)
    features = explainer.features(feeds)
    assert set(values) <= set(features)
    for name, value in values.items():
        assert_values(features[name], value.numpy(), name, BAR)
    explained = [layer.name for layer in explainer.layers if layer.has_gradient and layer.name in gradients]
    for name in explained:
        assert_values(
            explainer.gradient(feeds, weights, layer=name).values, gradients[name], f"gradient of {name}", BAR
        )
    first = model.inputs[0].name
    if explained and first in gradients:
        assert_values(explainer.gradient(feeds, weights).values, gradients[first], f"gradient of {first}", BAR)


def parts(model, inputs):
    """Values of the layers, lists by position; gradients of a weighted sum of the output; its weights."""
    layers = {layer.name: layer.output for layer in model.layers if not isinstance(layer, L.InputLayer)}
    part = keras.Model(model.inputs, [layers, model.outputs[0]])
    tensors = [tf.constant(x) for x in inputs]
    sources = {x.name: t for x, t in zip(model.inputs, tensors, strict=True) if t.dtype.is_floating}
    with tf.GradientTape() as tape:
        tape.watch(sources)
        found, output = part(tensors, training=False)
        weights = normal(*output.shape, seed=9)
        score = tf.reduce_sum(output * weights)
    single = {name: value for name, value in found.items() if not isinstance(value, list | tuple)}
    several = {f"{name}:{k}": v for name in found.keys() - single for k, v in enumerate(found[name])}
    gradients = tape.gradient(score, sources | single, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return single | several, {n: np.asarray(tf.convert_to_tensor(g)) for n, g in gradients.items()}, weights
