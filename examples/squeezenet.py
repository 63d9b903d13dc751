"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360) in PyTorch, with every step a module that can be tapped."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """Concatenation along the channels, as a layer with a name."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Parts (N, C_i, H, W) as one (N, ΣC_i, H, W)."""
        return torch.cat(parts, dim=1)


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1×1 and 3×3 kernels, concatenate."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.squeeze_relu = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_relu = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_relu = nn.ReLU()
        self.concat = Concat()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, 2 · expanded, H, W)."""
        x = self.squeeze_relu(self.squeeze1x1(x))
        return self.concat(self.expand1x1_relu(self.expand1x1(x)), self.expand3x3_relu(self.expand3x3(x)))


class SqueezeNet(nn.Sequential):
    """Version 1.1; (N, 3, 227, 227) to logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 3, stride=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, stride=2),
                fire2=Fire(64, 16, 64),
                fire3=Fire(128, 16, 64),
                pool3=nn.MaxPool2d(3, stride=2),
                fire4=Fire(128, 32, 128),
                fire5=Fire(256, 32, 128),
                pool5=nn.MaxPool2d(3, stride=2),
                fire6=Fire(256, 48, 192),
                fire7=Fire(384, 48, 192),
                fire8=Fire(384, 64, 256),
                fire9=Fire(512, 64, 256),
                conv10=nn.Conv2d(512, 1000, 1),
                pool10=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
            )
        )
