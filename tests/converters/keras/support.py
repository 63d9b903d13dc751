"""Small Keras models, and TensorFlow's numbers for the questions that their explainable files answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import onnxviz as ov
from tests.models.comparison import assert_values

L = keras.layers
BAR = 1e-5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def fill(model: keras.layers.Layer) -> keras.layers.Layer:
    """Weights that begin as zeros or ones (biases, norms and their statistics) get other, positive numbers too."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        value = np.asarray(variable)
        if value.dtype.kind == "f" and value.size and np.ptp(value) == 0:
            variable.assign(value + np.abs(rng.standard_normal(value.shape)) / 2)
    return model


def branches(shape: Sequence[int | None], layers: Mapping[str, Callable[[Any], Any]]) -> keras.Model:
    """Each layer (or function) on a branch of its own, behind a tanh ``to_<name>`` and before one long output."""
    x = keras.Input(shape, name="x")
    flat = []
    for name, layer in layers.items():
        value = layer(L.Activation("tanh", name=f"to_{name}")(x))
        flat.append(L.Flatten(name=f"flat_{name}")(value))
    return fill(keras.Model(x, L.Concatenate(name="all")(flat) if len(flat) > 1 else flat[0]))


def convert(model: Any, folder: Path, **options: Any) -> ov.Explainer:
    """The model's file, loaded."""
    return ov.load(ov.convert(model, folder / "net.onnx", quiet=True, **options), providers="cpu", threads=1)


def assert_converts(model: keras.Model, folder: Path, bar: float = BAR) -> None:
    """The file holds the model, for any batch."""
    with convert(model, folder) as explainer:
        assert_file_is_the_model(model, explainer, bar=bar)


def example(model: keras.Model, batch: int, seed: int = 5) -> list[np.ndarray]:
    """Seeded inputs of the declared shapes, sizes that are not declared 8."""
    return [
        normal(batch, *(size or 8 for size in x.shape[1:]), seed=seed + k).astype(x.dtype)
        for k, x in enumerate(model.inputs)
    ]


def assert_file_is_the_model(model: keras.Model, explainer: ov.Explainer, bar: float = BAR) -> None:
    """Values and gradients of every layer that a sub-model can return, at a batch that the conversion did not see."""
    inputs = example(model, 4)
    feeds = dict(zip([tensor.name for tensor in explainer.inputs], inputs, strict=True))
    values, weights, gradients = tape_of(model, inputs)
    found = explainer.features(feeds)
    assert set(values) <= set(found)
    for name, value in values.items():
        assert_values(found[name], value, name, bar)
    for layer in ("", *(layer.name for layer in explainer.layers if layer.has_gradient and layer.name in values)):
        gradient = explainer.gradient(feeds, weights, layer=layer or None).values
        assert_values(gradient, gradients[layer], f"gradient of {layer or 'the input'}", bar)


def tape_of(
    model: keras.Model, inputs: list[np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Values of a model's layers, random weights of its output, and the gradients of the weighted sum, eagerly.

    The gradient called "" is that with respect to the first input.
    """
    names = [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]
    part = keras.Model(model.inputs, {name: model.get_layer(name).output for name in names} | {"": model.output})
    tensors = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        values = part(tensors, training=False)
        weights = normal(*values[""].shape, seed=9)
        score = tf.reduce_sum(values.pop("") * weights)
    sources = {"": tensors[0]} | values
    gradients = tape.gradient(score, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return (
        {name: value.numpy() for name, value in values.items()},
        weights,
        {name: np.asarray(tf.convert_to_tensor(g)) for name, g in gradients.items()},
    )


def global_state() -> dict[str, Any]:
    """What a conversion may not change."""
    return {
        "call": keras.layers.Layer.__call__,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "format": keras.config.image_data_format(),
        "policy": keras.config.dtype_policy().name,
        "traceback": keras.config.is_traceback_filtering_enabled(),
        "interactive": keras.config.is_interactive_logging_enabled(),
        "safe": keras.src.saving.serialization_lib.in_safe_mode(),
        "eager": tf.config.functions_run_eagerly(),
    }
