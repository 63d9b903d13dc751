"""The modules of :mod:`benchmarks.sweep.families.sequences`; all take (N, steps, channels) or (N, steps)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """Two recurrent layers, the second's last step to 4 classes."""

    def __init__(self, cell: str, channels: int, **options: Any) -> None:
        super().__init__()
        directions = 1 + options.get("bidirectional", False)
        self.cells = getattr(nn, cell)(channels, 8, num_layers=2, batch_first=True, **options)
        self.norm = nn.LayerNorm(8 * directions)
        self.head = nn.Linear(8 * directions, 4)

    def forward(self, x: Tensor) -> Tensor:
        """To logits."""
        states, _ = self.cells(x)
        return self.head(torch.tanh(self.norm(states))[:, -1])


class Words(nn.Module):
    """Integers through an embedding and a bidirectional LSTM, the mean of its steps to 4 classes."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 8)
        self.cells = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        """To logits."""
        states, _ = self.cells(self.embedding(words))
        return self.head(self.norm(states).mean(1))


class CausalBlock(nn.Module):
    """Two dilated convolutions that see the past alone, with weight normalisation, beside a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        self.first = weight_norm(nn.Conv1d(inputs, outputs, 3, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(outputs, outputs, 3, dilation=dilation))
        self.beside = nn.Conv1d(inputs, outputs, 1)
        self.relu = nn.ReLU()
        self.past = (2 * dilation, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, steps), as many steps as before."""
        y = self.relu(self.first(functional.pad(x, self.past)))
        y = self.relu(self.second(functional.pad(y, self.past)))
        return self.relu(y + self.beside(x))


class Temporal(nn.Module):
    """Three causal blocks, the last step to 4 classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(CausalBlock(channels, 8, 1), CausalBlock(8, 8, 2), CausalBlock(8, 8, 4))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """To logits."""
        return self.head(self.blocks(x.transpose(1, 2))[..., -1])


class FullyConvolutional(nn.Sequential):
    """Three convolutions with batch norm, the mean of their steps to 4 probabilities."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            Channels(),
            *self.block(channels, 16, 7),
            *self.block(16, 24, 5),
            *self.block(24, 16, 3),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
            nn.Softmax(-1),
        )

    @staticmethod
    def block(inputs: int, outputs: int, width: int) -> list[nn.Module]:
        """Convolution, norm, ReLU."""
        return [nn.Conv1d(inputs, outputs, width, padding="same"), nn.BatchNorm1d(outputs), nn.ReLU()]


class Channels(nn.Module):
    """(N, steps, channels) to (N, channels, steps)."""

    def forward(self, x: Tensor) -> Tensor:
        """Its transpose."""
        return x.transpose(1, 2)
