"""Guided backprop and deconvnet rewrite every activation of Keras as the policy says, or the result names it."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import activations as A
from keras import layers as L

import onnxviz as ov
from tests.converters.keras.support import convert, normal
from tests.support import assert_close, kept_slopes

RECTIFIERS = {
    "relu": (A.relu, "ReluGrad"),
    "relu6": (A.relu6, "ClipGrad"),
    "relu to 1": (lambda x: A.relu(x, max_value=1.0), "SlopedReluGrad"),
    "relu, threshold": (lambda x: A.relu(x, threshold=0.3), "ThresholdedReluGrad"),
    "relu, threshold to 1": (lambda x: A.relu(x, threshold=0.3, max_value=1.0), "SlopedReluGrad"),
    "relu, slope": (lambda x: A.relu(x, negative_slope=0.1), "LeakyReluGrad"),
    "relu, slope to 1": (lambda x: A.relu(x, negative_slope=0.1, max_value=1.0), "SlopedReluGrad"),
    "relu, slope to 6": (lambda x: A.relu(x, negative_slope=0.1, max_value=6.0), "SlopedReluGrad"),
    "relu, slope, threshold": (lambda x: A.relu(x, negative_slope=0.1, threshold=0.3), "SlopedReluGrad"),
    "ReLU, all": (L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.3), "SlopedReluGrad"),
    "leaky_relu": (A.leaky_relu, "LeakyReluGrad"),
    "PReLU": (L.PReLU(alpha_initializer="random_uniform"), "PReluGrad"),
    "threshold": (lambda x: A.threshold(x, 0.3, 20.0), "ThresholdedReluGrad"),
    "maximum": (lambda x: keras.ops.maximum(x, 0.0), "ClampGrad"),
    "clip": (lambda x: keras.ops.clip(x, 0.0, 1.0), "ClampGrad"),
    "elu": (A.elu, "EluGrad"),
    "elu with alpha": (lambda x: A.elu(x, 0.5), "EluGrad"),
    "selu": (A.selu, "SeluGrad"),
    "celu": (lambda x: A.celu(x, 0.5), "CeluGrad"),
    "silu": (A.silu, "QuickGeluGrad"),
    "swish with beta": (lambda x: tf.nn.silu(x, 1.5), "QuickGeluGrad"),
    "gelu": (lambda x: A.gelu(x, approximate=False), "GeluGrad"),
    "gelu (tanh)": (lambda x: A.gelu(x, approximate=True), "FastGeluGrad"),
    "hard_silu": (A.hard_silu, "HardSwishGrad"),
    "mish": (A.mish, "MishGrad"),
    "softplus": (A.softplus, "SoftplusGrad"),
    "squareplus": (A.squareplus, "SquareplusGrad"),
}
"""Name → activation, the gradient's operator that is rewritten."""

OTHERS = {
    "hard_tanh": (A.hard_tanh, "Clip ×1"),
    "sigmoid": (A.sigmoid, "Sigmoid ×1"),
    "hard_sigmoid": (A.hard_sigmoid, "HardSigmoid ×1"),
    "log_sigmoid": (A.log_sigmoid, "LogSigmoid ×1"),
    "tanh": (A.tanh, "Tanh ×1"),
    "tanh_shrink": (A.tanh_shrink, "Tanh ×1"),
    "soft_shrink": (A.soft_shrink, "Shrink ×1"),
    "hard_shrink": (A.hard_shrink, "Shrink ×1"),
    "softsign": (A.softsign, "Softsign ×1"),
    "softmax": (A.softmax, "Softmax ×1"),
    "log_softmax": (A.log_softmax, "LogSoftmax ×1"),
    "exponential": (A.exponential, "Exp ×1"),
    "sparse_plus": (A.sparse_plus, "Where ×2"),
    "sparse_sigmoid": (A.sparse_sigmoid, "Where ×2"),
    "glu": (lambda x: keras.ops.concatenate([A.glu(x)] * 2, -1), "Sigmoid ×1"),
}
"""Name → activation, what the result says that keeps its derivative."""


class Written(L.Layer):
    """A function as a layer."""

    def __init__(self, function, **options) -> None:
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


def network(activation) -> keras.Model:
    x = keras.Input((4,), name="x")
    h = L.Dense(6, name="second")(L.Dense(6, activation="relu", name="first")(x))
    h = (activation if isinstance(activation, L.Layer) else Written(activation, name="activation"))(h)
    return keras.Model(x, L.Dense(3, name="head")(h))


def rewritten(function, method: str):
    """The activation with the backward pass of a method."""

    @tf.custom_gradient
    def changed(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        slope = tape.gradient(y, x)

        def back(dy, variables=()):
            dx = tf.nn.relu(dy) if method == "deconvnet" else tf.nn.relu(dy) * slope
            return (dx, [None] * len(variables)) if variables else dx

        return y, back

    return changed


def by_tensorflow(model: keras.Model, activation, method: str, x: np.ndarray, *, rectifies: bool) -> np.ndarray:
    """The gradient of score 1 with the policy written as custom gradients."""
    given = tf.constant(x)
    first, second, head = (model.get_layer(name) for name in ("first", "second", "head"))
    relu = rewritten(tf.nn.relu, method)
    act = rewritten(activation, method) if rectifies else activation
    with tf.GradientTape() as tape:
        tape.watch(given)
        hidden = relu(given @ first.kernel + first.bias)
        scores = head(act(second(hidden)))[:, 1]
    return tape.gradient(scores, given).numpy()


@pytest.mark.parametrize("name", [*RECTIFIERS, *OTHERS])
def test_every_activation_is_rewritten_or_named(name, tmp_path):
    activation, says = (RECTIFIERS | OTHERS)[name]
    rectifies, model, x = name in RECTIFIERS, network(activation), normal(5, 4, seed=2)
    with convert(model, tmp_path) as ex:
        for method in ("guided_backprop", "deconvnet"):
            found = ex.explain(x, method, 1)
            if rectifies:
                assert found.options["rewritten"] == Counter(["ReluGrad", says])
                assert kept_slopes(found) == ()
            else:
                assert found.options["rewritten"] == {"ReluGrad": 1}
                assert kept_slopes(found) == (f"no rectifiers, so with their plain derivative: {says}",)
            assert_close(found, by_tensorflow(model, activation, method, x, rectifies=rectifies))
        assert bool(ov.coverage(ex).kept) == (not rectifies)
