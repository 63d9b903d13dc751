"""The networks that are timed: in PyTorch, and some of them in Keras with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import zoo

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class KerasNetwork:
    """The twin in Keras.

    Attributes:
        build: makes the model.
        layer: the layer whose output Grad-CAM weighs.
    """

    build: Callable[[], keras.Model]
    layer: str


@dataclass(frozen=True)
class Network:
    """What is timed.

    Attributes:
        build: makes the module; its weights are real or random, which changes no time.
        shape: of one input.
        layer: the module whose output Grad-CAM weighs, its last convolutional one.
        twin: the same network with the same weights in Keras.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layer: str
    twin: KerasNetwork | None = None


class Vgg16(nn.Module):
    """VGG16 (Simonyan & Zisserman 2015, arXiv:1409.1556, column D), 138 million parameters."""

    WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    """Channels of the convolutions; 0 is a pooling."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in self.WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            channels = width or channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) to logits (N, 1000)."""
        return self.classifier(self.features(x))


class Logits(nn.Module):
    """A model of ``transformers`` that returns its logits alone, as the other libraries want it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Inputs to logits."""
        logits: Tensor = self.model(x).logits
        return logits


def resnet18() -> nn.Module:
    """ResNet-18 (He et al. 2015, arXiv:1512.03385) with random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=1000)
    return Logits(ResNetForImageClassification(config))


def small() -> nn.Module:
    """Two convolutions: what remains of the time is the cost of a call."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), *head)


def small_keras() -> keras.Model:
    """The same in Keras, with its weights."""
    from keras import Input, Sequential, layers

    head = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    convolutions = [layers.Conv2D(16, 3, strides=2), layers.ReLU(), layers.Conv2D(16, 3), layers.ReLU(name="last")]
    model = Sequential([Input((32, 32, 3)), *convolutions, *head])
    arrays = [parameter.detach().numpy() for parameter in build("small").parameters()]
    model.set_weights([array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in arrays])
    return model


SQUEEZENET_TWIN = KerasNetwork(lambda: zoo.squeezenet_keras()[0], "conv10")

NETWORKS = {
    "squeezenet": Network(lambda: zoo.squeezenet()[0], (3, 227, 227), "conv10", SQUEEZENET_TWIN),
    "efficientnet_lite0": Network(lambda: zoo.efficientnet_lite0()[0], (3, 224, 224), "_bn1"),
    "resnet18": Network(resnet18, (3, 224, 224), "model.resnet.encoder.stages.3"),
    "vgg16": Network(Vgg16, (3, 224, 224), "features.29"),
    "small": Network(small, (3, 32, 32), "3", KerasNetwork(small_keras, "last")),
}


def build(name: str) -> nn.Module:
    """The network in evaluation mode, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name].build().eval()
