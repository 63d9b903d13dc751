"""Keras Applications at small sizes, with random weights, and what TensorFlow computes with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

# isort: split
import keras
import tensorflow as tf

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Application:
    """A network of ``keras.applications``.

    Attributes:
        size: height and width of its input.
        blocks: a pattern of layers that follow one another in a chain, among them one in the network's middle.
        top: whether it has its classifier, which some have for one size only.
    """

    size: int
    blocks: str
    top: bool = True


OUTPUT = "its own"

APPLICATIONS = {
    "VGG16": Application(64, r"block\d_pool"),
    "ResNet50": Application(64, r"conv\d_block\d_out"),
    "ResNet50V2": Application(64, r"conv\d_block\d_out"),
    "MobileNet": Application(64, r"conv_pw_\d+_relu"),
    "MobileNetV2": Application(64, r"block_\d+_project_BN"),
    "MobileNetV3Small": Application(64, r"expanded_conv(_\d+)?_project_bn"),
    "InceptionV3": Application(139, r"mixed\d"),
    "Xception": Application(96, r"block\d+_sepconv2_bn"),
    "DenseNet121": Application(64, r"(conv\d_block\d+_concat|pool\d_pool)"),
    "EfficientNetB0": Application(64, r"block\d._project_bn"),
    "EfficientNetV2B0": Application(64, r"block\d._project_bn"),
    "NASNetMobile": Application(64, r"normal_concat_\d+", top=False),
    "ConvNeXtTiny": Application(64, r"convnext_tiny_stage_\d_block_\d_pointwise_conv_2"),
}  # fmt: skip


def build(name: str) -> keras.Model:
    """The network, the same at each call, with statistics and biases as training leaves them."""
    application = APPLICATIONS[name]
    keras.utils.set_random_seed(0)
    options = {} if application.top else {"include_top": False, "pooling": "avg"}
    shape = (application.size, application.size, 3)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, **options)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        kind = variable.path.rpartition("/")[2]
        if kind in ("gamma", "moving_variance"):
            variable.assign(1 + np.abs(0.1 * rng.standard_normal(variable.shape)))
        elif kind in ("beta", "bias", "moving_mean"):
            variable.assign(0.1 * rng.standard_normal(variable.shape))
    return model


def inputs(model: keras.Model, count: int, seed: int) -> Array:
    """Seeded pictures (count, H, W, 3)."""
    return np.random.default_rng(seed).standard_normal((count, *model.input_shape[1:])).astype(np.float32)


def values(model: keras.Model, x: Array) -> dict[str, Array]:
    """What each layer of the model makes of x, those inside nested models left out."""
    layers = {layer.name: layer.output for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)}
    return {name: np.asarray(value) for name, value in keras.Model(model.input, layers)(x, training=False).items()}


@contextlib.contextmanager
def before_softmax(model: keras.Model) -> Iterator[None]:
    """Inside, the model returns its logits."""
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    try:
        last.activation = keras.activations.linear
        yield
    finally:
        last.activation = activation


def gradients(model: keras.Model, x: Array, weights: Array, layers: Sequence[str] = ()) -> list[Array]:
    """∂ Σ weights · logits / ∂x, and with respect to layers, by a tape."""
    with before_softmax(model), tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        kept = part(model, layers)(given, training=False)
        score = tf.reduce_sum(kept.pop(OUTPUT) * weights)
    return [found.numpy() for found in tape.gradient(score, [given, *(kept[name] for name in layers)])]


def part(model: keras.Model, layers: Sequence[str]) -> keras.Model:
    """The model that returns these layers' values by name, and its own output."""
    return keras.Model(model.input, {name: model.get_layer(name).output for name in layers} | {OUTPUT: model.output})
