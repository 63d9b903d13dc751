"""Networks for the tests on real models: architectures that people use, at small sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import zoo


@dataclass(frozen=True)
class Network:
    """A network for the tests.

    Attributes:
        build: makes it.
        shape: of one sample.
        middle: a layer in its middle.
        blocks: a pattern of the layers that follow one another in a chain, for deep networks.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    middle: str
    blocks: str | None = None

    def example(self) -> Tensor:
        """Two seeded samples."""
        return torch.randn(2, *self.shape, generator=torch.Generator().manual_seed(0))


def resnet(kind: str, depths: list[int], hidden_sizes: list[int]) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(depths=depths, hidden_sizes=hidden_sizes, layer_type=kind, num_labels=1000)
    return ResNetForImageClassification(config)


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=64, patch_size=16, num_labels=10))


def convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[16, 32, 48, 64], image_size=64, num_labels=10)
    return ConvNextForImageClassification(config)


def mobilenet_v2() -> nn.Module:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(image_size=64, num_labels=10))


class SeriesNetwork(nn.Sequential):
    """A fully convolutional network for time series (Wang et al. 2017, arXiv:1611.06455), ending in a softmax."""

    def __init__(self) -> None:
        super().__init__(
            *self.block(1, 32, 7), *self.block(32, 64, 5), nn.MaxPool1d(2), *self.block(64, 32, 3),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 2), nn.Softmax(-1),
        )  # fmt: skip

    @staticmethod
    def block(inputs: int, outputs: int, width: int) -> list[nn.Module]:
        return [nn.Conv1d(inputs, outputs, width, padding="same"), nn.BatchNorm1d(outputs), nn.ReLU()]


class VolumeNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2))
        self.second = nn.Sequential(nn.Conv3d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3, 4)))


class Varied(nn.Module):
    """Strides, paddings, groups and dilations, with ReLU as a module and as a function.

    ``relu`` is the function that both use, so that a test can put another in its place.
    """

    def __init__(self, relu: Callable[[Tensor], Tensor] = functional.relu) -> None:
        super().__init__()
        self.relu = relu
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 16, (3, 5), padding=(0, 2), groups=4)
        self.dilated = nn.Conv2d(16, 16, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv2d(16, 16, 4, stride=3, padding=1, groups=16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.grouped(self.relu(self.strided(x))))
        x = functional.max_pool2d(self.relu(self.dilated(x)) + x, 2)
        return self.head(self.relu(self.depthwise(functional.avg_pool2d(x, 2))).mean((2, 3)))


class Activations(nn.Sequential):
    """One of each activation that ONNX Runtime has a training operator for."""

    def __init__(self) -> None:
        kinds = [
            nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.2), nn.GELU(), nn.GELU(approximate="tanh"), nn.Softmax(1),
            nn.LogSoftmax(1), nn.SiLU(), nn.ReLU(),
        ]  # fmt: skip
        layers = [layer for kind in kinds for layer in (nn.Conv2d(6, 6, 3, padding=1), kind)]
        super().__init__(nn.Conv2d(3, 6, 1), *layers, nn.Flatten(), nn.Linear(6 * 64, 5))


RESNET_BLOCKS = r"resnet\.encoder\.stages\.\d\.layers\.\d"

NETWORKS = {
    "efficientnet_lite0": Network(lambda: zoo.efficientnet_lite0()[0], (3, 224, 224), "_blocks.5", r"_blocks\.\d+"),
    "squeezenet": Network(lambda: zoo.squeezenet()[0], (3, 227, 227), "fire5.concat", r"fire\d\.concat"),
    "resnet18": Network(
        lambda: resnet("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
        (3, 64, 64),
        "resnet.encoder.stages.1.layers.0",
        RESNET_BLOCKS,
    ),
    "resnet50": Network(
        lambda: resnet("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
        (3, 64, 64),
        "resnet.encoder.stages.1",
        RESNET_BLOCKS,
    ),
    "vit": Network(vit, (3, 64, 64), "vit.layers.0"),
    "convnext": Network(convnext, (3, 64, 64), "convnext.encoder.stages.1"),
    "mobilenet_v2": Network(mobilenet_v2, (3, 64, 64), "mobilenet_v2.layer.6", r"mobilenet_v2\.layer\.\d+"),
    "series": Network(SeriesNetwork, (1, 150), "3"),
    "volume": Network(VolumeNetwork, (1, 8, 12, 12), "second.0"),
    "varied": Network(Varied, (3, 32, 32), "dilated"),
    "activations": Network(Activations, (3, 8, 8), "8"),
}


def build(name: str) -> nn.Module:
    """The network, the same at each call, in evaluation mode and with nothing to learn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name].build().eval().requires_grad_(requires_grad=False)


@contextmanager
def outputs_of(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """While it is open, what these modules return is kept.

    The network goes on with a copy, so that what follows in place does not change what is kept.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            kept[name] = output
            return output.clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
