"""The networks that are timed: name → module, shape of one input, and the layer that Grad-CAM looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import zoo


@dataclass(frozen=True)
class Network:
    """What is timed.

    Attributes:
        build: makes the module; its weights are real or random, which changes no time.
        shape: of one input.
        layer: the module whose output Grad-CAM weighs, its last convolutional one.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layer: str


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


NETWORKS = {
    "squeezenet": Network(lambda: zoo.squeezenet()[0], (3, 227, 227), "conv10"),
    "efficientnet_lite0": Network(lambda: zoo.efficientnet_lite0()[0], (3, 224, 224), "_bn1"),
    "resnet18": Network(resnet18, (3, 224, 224), "model.resnet.encoder.stages.3"),
    "vgg16": Network(Vgg16, (3, 224, 224), "features.29"),
    "small": Network(small, (3, 32, 32), "3"),
}


def build(name: str) -> nn.Module:
    """The network in evaluation mode, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name].build().eval()
