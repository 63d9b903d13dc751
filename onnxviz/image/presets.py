"""Usual preparations of pictures by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnxviz.errors import OptionError, nearest

IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""ImageNet's mean and deviation of pixels 0 … 1."""

_KERAS = {"layout": "NHWC", "interpolation": "bilinear"}
"""Keras resizes to the network's size, whatever the proportions."""


def _short_side(side: int) -> int:
    """The side that torchvision resizes to for a crop of ``side``: 256 for 224, 342 for 299."""
    return round(side * 256 / 224)


PRESETS: dict[str, Callable[[int], dict[str, Any]]] = {
    "keras-tf": lambda _: {**_KERAS, "scale": 1 / 127.5, "mean": 1.0},
    "keras-torch": lambda _: {**_KERAS, **IMAGENET},
    "keras-caffe": lambda _: {**_KERAS, "channels": "BGR", "mean": (103.939, 116.779, 123.68)},
    "keras-raw": lambda _: {**_KERAS},
    "torchvision": lambda side: {**IMAGENET, "resize": _short_side(side), "interpolation": "bilinear"},
    "efficientnet-lite": lambda side: {"mean": 127.0, "std": 128.0, "crop": side / (side + 32)},
}
"""Name → the fields of an :class:`onnxviz.ImageInput`, from the longer side of the network's input.

The ``keras-`` modes are those of ``keras.applications.imagenet_utils.preprocess_input``: ``tf`` −1 … 1 (MobileNet,
Xception, Inception, NASNet, ResNetV2), ``torch`` (DenseNet), ``caffe`` (VGG, ResNet); ``raw`` leaves the pixels as
they are, for networks that scale them themselves (EfficientNet, ConvNeXt, MobileNetV3). torchvision: its reference
evaluation of ImageNet. EfficientNet-Lite: its authors' (github.com/tensorflow/tpu, models/official/efficientnet).
"""


def fields_of(name: str, size: int | tuple[int, int] | None) -> dict[str, Any]:
    """The fields of a preset at a size; raises OptionError for an unknown name."""
    if name not in PRESETS:
        raise OptionError(f"there is no preset {name!r}; presets: {', '.join(PRESETS)}{nearest(str(name), PRESETS)}")
    size = 224 if size is None else size
    return {"size": size, **PRESETS[name](size if isinstance(size, int) else max(size))}
