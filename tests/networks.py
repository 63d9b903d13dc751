"""Small networks of every kind: images, series, volumes, tables, tokens; one head, several, none with an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Cnn(nn.Module):
    """Two convolutions and a linear head on (N, 3, 12, 12); five logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(8 * 36, 5)

    def forward(self, image):
        return self.head(self.features(image).flatten(1))


class Series(nn.Module):
    """(N, 2, 17) to one probability: a sigmoid over a head of one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 4, stride=2)
        self.head = nn.Linear(6, 1)

    def forward(self, signal):
        return torch.sigmoid(self.head(torch.relu(self.conv(signal)).mean(-1)))


class Volume(nn.Module):
    """(N, 1, 6, 7, 5) to three log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, scan):
        return torch.log_softmax(self.head(self.act(self.conv(scan)).mean((2, 3, 4))), -1)


class Classifier(nn.Module):
    """A table of six columns to four probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 8)
        self.act = nn.Tanh()
        self.head = nn.Linear(8, 4)
        self.prob = nn.Softmax(-1)

    def forward(self, table):
        return self.prob(self.head(self.act(self.hidden(table))))


class Segmenter(nn.Module):
    """(N, 3, 8, 8) to four logits per place of a 4×4 grid."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.head = nn.Conv2d(5, 4, 1)

    def forward(self, image):
        return self.head(torch.relu(self.body(image)))


class Regressor(nn.Module):
    """A table of six columns to one number per sample, without an axis of its own: (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, table):
        return self.head(torch.tanh(self.hidden(table)))[:, 0]


class TwoHeads(nn.Module):
    """Two inputs and a dict of two outputs, of which one sees one input only."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 4)
        self.right = nn.Linear(3, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, first, second):
        one = torch.tanh(self.left(first))
        return {"both": self.out(one + self.right(second)), "one": one}


class Tokens(nn.Module):
    """Integers (N, 7), embedded, mixed along the sequence, three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, ids):
        return self.head(torch.tanh(self.mix(self.embedding(ids))).mean(1))


class Residual(nn.Module):
    """Blocks whose skip, or whose branch, begins with a layer that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.skip = nn.Identity()
        self.first = nn.Linear(6, 6)
        self.drop = nn.Dropout()
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, table):
        x = self.stem(table)
        x = self.skip(x) + torch.tanh(self.first(x))
        x = x + torch.tanh(self.second(self.drop(x)))
        return self.head(x)


class Mixed(nn.Module):
    """A ConvNeXt block: convolution channels first, norm and linear layers channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.wide = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.narrow = nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, image):
        x = self.stem(image)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        x = x + self.narrow(self.act(self.wide(y))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Rectifiers(nn.Module):
    """One layer of every activation that guided backprop rewrites, and of some that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.rectifiers = nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU6(), nn.Linear(8, 8), nn.LeakyReLU(0.1),
            nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8), nn.Hardswish(),
        )  # fmt: skip
        self.gates = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Hardtanh(-1, 1), nn.Linear(8, 3))

    def forward(self, table):
        return self.gates(self.rectifiers(table))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Mapping[str, np.ndarray]]]] = {
    "cnn": (Cnn, lambda n: {"image": normal(n, 3, 12, 12)}),
    "series": (Series, lambda n: {"signal": normal(n, 2, 17)}),
    "volume": (Volume, lambda n: {"scan": normal(n, 1, 6, 7, 5)}),
    "classifier": (Classifier, lambda n: {"table": normal(n, 6)}),
    "segmenter": (Segmenter, lambda n: {"image": normal(n, 3, 8, 8)}),
    "regressor": (Regressor, lambda n: {"table": normal(n, 6)}),
    "two heads": (TwoHeads, lambda n: {"first": normal(n, 6), "second": normal(n, 3, seed=1)}),
    "tokens": (Tokens, lambda n: {"ids": np.random.default_rng(0).integers(0, 20, (n, 7))}),
    "residual": (Residual, lambda n: {"table": normal(n, 6)}),
    "mixed": (Mixed, lambda n: {"image": normal(n, 3, 10, 10)}),
    "rectifiers": (Rectifiers, lambda n: {"table": normal(n, 6)}),
}
"""Name → network, and a batch of inputs for it."""


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()
