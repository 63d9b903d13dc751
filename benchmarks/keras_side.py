"""The Keras twins: the explainable file that was born in Keras, and the same methods in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxviz as ov
import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports
from benchmarks.measure import Array, Contestants
from benchmarks.networks import KerasNetwork

import keras  # isort: skip
import tensorflow as tf  # isort: skip


@dataclass(frozen=True)
class Twin:
    """A network in Keras, ready.

    Attributes:
        model: on TensorFlow.
        layer: the name of the layer that Grad-CAM looks at.
        explainer: its explainable file.
    """

    model: keras.Model
    layer: str
    explainer: ov.Explainer


def prepare(network: KerasNetwork, path: Path, *, provider: str, threads: int) -> Twin:
    """Build and convert the twin; TensorFlow gets the same number of threads, and products in float32."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(False)  # noqa: FBT003 - TensorFlow's signature
    model = network.build()
    ov.convert(model, path)
    return Twin(model, network.layer, ov.load(path, providers=provider, threads=threads))


def contestants(twin: Twin, method: str, x: Array, classes: npt.NDArray[np.int64]) -> Contestants:
    """The Keras-born file, and TensorFlow; ``x`` has its channels first, as the results have."""
    images = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    options = {"layer": twin.layer} if method == "grad_cam" else {}
    compiled = tf.function(TENSORFLOW[method](twin))

    def ours() -> Array:
        return _channels_first(twin.explainer.explain(images, method, classes, **options).values)

    def theirs() -> Array:
        return _channels_first(compiled(tf.constant(images), tf.constant(classes)).numpy())

    return {"from Keras": ours, "tensorflow": theirs}


def _channels_first(result: Array) -> Array:
    return np.moveaxis(result, -1, 1) if result.ndim == 4 else result


# ----- the same in TensorFlow -----


def scores_of(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Σ over the samples of the score of each one's class."""
    return tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))


def gradient(model: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """∂S/∂x by a tape."""

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = scores_of(model(x, training=False), classes)
        return tape.gradient(score, x)

    return computed


def saliency(twin: Twin) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Largest absolute gradient of the channels (Simonyan 2013)."""
    of_input = gradient(twin.model)
    return lambda x, classes: tf.reduce_max(tf.abs(of_input(x, classes)), axis=-1)


def guided_backprop(twin: Twin) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The gradient, with what a rectifier passes back clipped at zero (Springenberg 2015)."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = GuidedRelu if isinstance(layer, keras.layers.ReLU) else type(layer)
        return kind.from_config(layer.get_config())

    model = keras.models.clone_model(twin.model, clone_function=copied)
    model.set_weights(twin.model.get_weights())
    return gradient(model)


class GuidedRelu(keras.layers.ReLU):
    """ReLU that passes back what is positive."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """max(x, 0)."""
        return _guided_relu(inputs)


@tf.custom_gradient
def _guided_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    y = tf.nn.relu(x)
    return y, lambda dy: tf.raw_ops.ReluGrad(gradients=tf.nn.relu(dy), features=y)


def grad_cam(twin: Twin) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """ReLU(Σ_k α_k A_k), bilinearly resized (Selvaraju 2017)."""
    outputs = [twin.model.get_layer(twin.layer).output, *twin.model.outputs]
    probe = keras.Model(twin.model.inputs, outputs)

    def computed(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps, logits = probe(x, training=False)
            tape.watch(maps)
            score = scores_of(logits, classes)
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
        return tf.image.resize(heat, x.shape[1:3])[..., 0]

    return computed


TENSORFLOW: dict[str, Callable[[Twin], Any]] = {
    "saliency": saliency,
    "guided_backprop": guided_backprop,
    "grad_cam": grad_cam,
}
