"""The methods' published formulas in TensorFlow, on the Keras twin: ``tf.function`` with a ``GradientTape``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports
from benchmarks.contestants.base import Absent, Contestant
from benchmarks.contestants.ours import channels_first, channels_last
from benchmarks.subject import Question, Subject

import keras  # isort: skip
import tensorflow as tf  # isort: skip

Gradient = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class InTensorFlow(Contestant):
    """What all libraries on TensorFlow share."""

    def __init__(self, subject: Subject) -> None:
        if subject.network.twin is None:
            raise Absent("there is no twin in Keras")
        super().__init__(subject)
        self.setup.tensorflow()
        if self.setup.provider == "cuda" and not tf.config.list_physical_devices("GPU"):
            raise Absent("this TensorFlow has no GPU")
        if self.setup.dtype == "float16" or not self.setup.transfer:
            raise Absent("it is measured in float32, with the transfer")
        self.twin = subject.network.twin
        self.model = self.twin.build()

    def to_host(self, answer: Any) -> np.ndarray:
        """With the channels first."""
        return channels_first(np.asarray(answer, np.float32), self.subject)


class TensorFlow(InTensorFlow):
    """The formulas, compiled by ``tf.function``."""

    name = "tensorflow"

    def answer(self, question: Question) -> Callable[[], Any]:
        """One of the formulas."""
        model = guided(self.model) if question.method == "guided_backprop" else self.model
        gradient = tf.function(gradient_of(model))
        formula = {
            "saliency": lambda: tf.function(saliency(gradient)),
            "guided_backprop": lambda: gradient,
            "grad_cam": lambda: tf.function(grad_cam(self.model, self.twin.layer)),
            "smooth_grad": lambda: smooth_grad(gradient, question),
            "integrated_gradients": lambda: integrated_gradients(gradient, question),
        }[question.method]()
        x, classes = channels_last(question).x, question.classes
        return lambda: formula(tf.constant(x), tf.constant(classes)).numpy()


# ----- the formulas -----


def scores_of(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Σ over the samples of the score of each one's class."""
    return tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))


def gradient_of(model: keras.Model) -> Gradient:
    """∂S/∂x by a tape."""

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = scores_of(model(x, training=False), classes)
        return tape.gradient(score, x)

    return computed


def saliency(gradient: Gradient) -> Gradient:
    """Largest absolute gradient of the channels (Simonyan 2013)."""
    return lambda x, classes: tf.reduce_max(tf.abs(gradient(x, classes)), axis=-1)


def grad_cam(model: keras.Model, layer: str) -> Gradient:
    """ReLU(Σ_k α_k A_k), linearly resized (Selvaraju 2017)."""
    probe = keras.Model(model.inputs, [model.get_layer(layer).output, *model.outputs])

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps, logits = probe(x, training=False)
            tape.watch(maps)
            score = scores_of(logits, classes)
        space = tuple(range(1, len(x.shape) - 1))
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=space, keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
        if len(space) == 1:  # resize knows pictures alone
            return tf.image.resize(heat[:, :, None], (x.shape[1], 1))[:, :, 0, 0]
        return tf.image.resize(heat, x.shape[1:-1])[..., 0]

    return computed


def smooth_grad(gradient: Gradient, asked: Question) -> Gradient:
    """The mean gradient of noisy copies (Smilkov 2017)."""

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        space = tuple(range(1, len(x.shape)))
        sigma = asked.noise * (tf.reduce_max(x, space, keepdims=True) - tf.reduce_min(x, space, keepdims=True))
        weights = np.full(asked.samples, 1 / asked.samples, np.float32)
        return averaged(
            gradient, lambda part: x + sigma * tf.random.normal((len(part), *x.shape)), weights, classes, asked
        )

    return computed


def integrated_gradients(gradient: Gradient, asked: Question) -> Gradient:
    """x times the mean gradient on the line from 0, by Gauss–Legendre (Sundararajan 2017)."""
    nodes, weights = (array.astype(np.float32) / 2 for array in np.polynomial.legendre.leggauss(asked.samples))

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        def along(part: np.ndarray) -> tf.Tensor:
            return tf.reshape(nodes[part] + 0.5, (-1, *[1] * len(x.shape))) * x

        return x * averaged(gradient, along, weights, classes, asked)

    return computed


def averaged(
    gradient: Gradient,
    variant: Callable[[np.ndarray], tf.Tensor],
    weights: np.ndarray,
    classes: tf.Tensor,
    asked: Question,
) -> tf.Tensor:
    """Σ weights · gradient over variants (V, N, …), about ``asked.chunk`` inputs at a time."""
    batch = len(asked.x)
    total = 0.0
    for part in np.array_split(np.arange(len(weights)), -(-len(weights) * batch // max(asked.chunk, batch))):
        inputs = variant(part)
        found = gradient(tf.reshape(inputs, (-1, *inputs.shape[2:])), tf.tile(classes, [len(part)]))
        total += tf.tensordot(weights[part], tf.reshape(found, inputs.shape), 1)
    return total


class GuidedRelu(keras.layers.ReLU):
    """ReLU that passes back what is positive."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """max(x, 0)."""
        return _guided_relu(inputs)


@tf.custom_gradient
def _guided_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    y = tf.nn.relu(x)
    return y, lambda dy: tf.raw_ops.ReluGrad(gradients=tf.nn.relu(dy), features=y)


def guided(model: keras.Model) -> keras.Model:
    """The model with rectifiers that pass back only what is positive (Springenberg 2015)."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.ReLU):
            return GuidedRelu.from_config(layer.get_config())
        copy = type(layer).from_config(layer.get_config())
        if getattr(copy, "activation", None) is keras.activations.relu:
            copy.activation = _guided_relu
        return copy

    found = keras.models.clone_model(model, clone_function=copied)
    found.set_weights(model.get_weights())
    return found
