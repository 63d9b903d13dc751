"""The networks in PyTorch: with real weights where an installed package holds them, else with random ones."""

from __future__ import annotations

from torch import Tensor, nn

import zoo


class Classifier(nn.Module):
    """Features, then a head."""

    def __init__(self, features: list[nn.Module], head: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*head)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs to logits."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Vgg16(Classifier):
    """VGG16 (Simonyan & Zisserman 2015, arXiv:1409.1556, column D), 138 million parameters."""

    WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    """Channels of the convolutions; 0 is a pooling."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in self.WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            channels = width or channels
        dense = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
        super().__init__(layers, [nn.Flatten(), *dense])


class Series(Classifier):
    """A convolutional network for series, as they are used on electrocardiograms: 12 leads, 4096 steps."""

    WIDTHS = (12, 32, 64, 128, 256)

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip(self.WIDTHS[:-1], self.WIDTHS[1:], strict=True):
            layers += [nn.Conv1d(inputs, outputs, 7, stride=2), nn.ReLU()]
        super().__init__(layers, [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(256, 10)])


class Small(Classifier):
    """Two convolutions."""

    def __init__(self) -> None:
        layers = [nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
        super().__init__(layers, [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)])


class Logits(nn.Module):
    """A model of ``transformers`` that returns its logits alone, as the other libraries want it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Inputs to logits."""
        logits: Tensor = self.model(x).logits
        return logits


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 (Iandola 2016, arXiv:1602.07360) with ImageNet weights."""
    return zoo.squeezenet()[0]


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights."""
    return zoo.efficientnet_lite0()[0]


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (Sandler 2018, arXiv:1801.04381)."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return Logits(MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)))


def resnet(kind: str, *depths: int) -> nn.Module:
    """ResNet (He et al. 2015, arXiv:1512.03385), of blocks that are ``"basic"`` or ``"bottleneck"``."""
    from transformers import ResNetConfig, ResNetForImageClassification

    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    config = ResNetConfig(depths=list(depths), hidden_sizes=widths, layer_type=kind, num_labels=1000)
    return Logits(ResNetForImageClassification(config))


def convnext_tiny() -> nn.Module:
    """ConvNeXt-T (Liu et al. 2022, arXiv:2201.03545)."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return Logits(ConvNextForImageClassification(ConvNextConfig(num_labels=1000)))


def vit_small() -> nn.Module:
    """ViT-S/16 (Dosovitskiy et al. 2021, arXiv:2010.11929, in DeiT's small size), 22 million parameters."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    return Logits(ViTForImageClassification(ViTConfig(**sizes, num_labels=1000)))
