"""The networks that are timed, by name. Frameworks are imported when a network is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    from torch import nn


@dataclass(frozen=True)
class KerasNetwork:
    """The twin in Keras, with the same weights.

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
        layer: the module whose output Grad-CAM weighs, its last convolutional one; of a transformer, the last
            normalisation before its tokens are mixed for the last time.
        grid: of a transformer, how its patches lie in the picture.
        twin: the same network in Keras.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layer: str
    grid: tuple[int, int] | None = None
    twin: KerasNetwork | None = None


def _torch(name: str, *arguments: object) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        from benchmarks import torch_networks

        module: nn.Module = getattr(torch_networks, name)(*arguments)
        return module

    return built


def _keras(name: str) -> Callable[[], keras.Model]:
    def built() -> keras.Model:
        from benchmarks import keras_networks

        return getattr(keras_networks, name)()

    return built


NETWORKS = {
    "squeezenet": Network(
        _torch("squeezenet"), (3, 227, 227), "conv10", twin=KerasNetwork(_keras("squeezenet"), "conv10")
    ),
    "efficientnet_lite0": Network(_torch("efficientnet_lite0"), (3, 224, 224), "_bn1"),
    "mobilenet_v2": Network(_torch("mobilenet_v2"), (3, 224, 224), "model.mobilenet_v2.conv_1x1"),
    "resnet18": Network(_torch("resnet", "basic", 2, 2, 2, 2), (3, 224, 224), "model.resnet.encoder.stages.3"),
    "resnet50": Network(_torch("resnet", "bottleneck", 3, 4, 6, 3), (3, 224, 224), "model.resnet.encoder.stages.3"),
    "vgg16": Network(_torch("Vgg16"), (3, 224, 224), "features.29", twin=KerasNetwork(_keras("vgg16"), "block5_conv3")),
    "convnext_tiny": Network(_torch("convnext_tiny"), (3, 224, 224), "model.convnext.encoder.stages.3"),
    "vit_small": Network(_torch("vit_small"), (3, 224, 224), "model.vit.layers.11.layernorm_before", grid=(14, 14)),
    "series": Network(_torch("Series"), (12, 4096), "features.7", twin=KerasNetwork(_keras("series"), "last")),
    "small": Network(_torch("Small"), (3, 32, 32), "features.3", twin=KerasNetwork(_keras("small"), "last")),
}
"""All of them; the last is for tests: what remains of its time is the cost of a call."""


def build(name: str) -> nn.Module:
    """The network in PyTorch, in evaluation mode, the same at each call."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name].build().eval()
