"""The twins in Keras, with the weights of the networks in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports
import zoo
from benchmarks.networks import build

import keras  # isort: skip
from keras import layers  # isort: skip


def squeezenet() -> keras.Model:
    """SqueezeNet 1.1."""
    return zoo.squeezenet_keras()[0]


def vgg16() -> keras.Model:
    """VGG16, as Keras Applications has it. Its first dense layer reads pixels before channels."""
    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    arrays = _arrays("vgg16")
    first = next(i for i, array in enumerate(arrays) if array.ndim == 2)
    wide = arrays[first]
    arrays[first] = wide.reshape(512, 7, 7, -1).transpose(1, 2, 0, 3).reshape(wide.shape)
    model.set_weights(arrays)
    return model


def series() -> keras.Model:
    """The network for series."""
    widths = (32, 64, 128, 256)
    convolutions: list[Any] = []
    for width in widths:
        convolutions += [layers.Conv1D(width, 7, strides=2), layers.ReLU(name="last" if width == 256 else None)]
    return _sequential("series", (4096, 12), [*convolutions, layers.GlobalAveragePooling1D(), layers.Dense(10)])


def small() -> keras.Model:
    """Two convolutions."""
    convolutions = [layers.Conv2D(16, 3, strides=2), layers.ReLU(), layers.Conv2D(16, 3), layers.ReLU(name="last")]
    return _sequential("small", (32, 32, 3), [*convolutions, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def _sequential(name: str, shape: tuple[int, ...], parts: Sequence[layers.Layer]) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *parts])
    model.set_weights(_arrays(name))
    return model


def _arrays(name: str) -> list[Any]:
    """The parameters of the network in PyTorch, as Keras lays them out: kernels with the channels last."""
    arrays = [parameter.detach().numpy() for parameter in build(name).parameters()]
    return [np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array for array in arrays]
