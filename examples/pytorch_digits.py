"""A small PyTorch network on handwritten digits, and what its file shows: `python examples/pytorch_digits.py`.

Usage: python examples/pytorch_digits.py [folder], by default demo/.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import trange

import onnxviz as ov
from digits import Digits, digits, rgb

INPUT = ov.ImageInput(28, channels="L", mean=33.3, std=78.6)
"""MNIST's mean and deviation."""
BATCH = 50
NOISE = 0.3
"""Added in training: the black around a digit is one constant, on which the gradient would else be arbitrary."""


class DigitNet(nn.Module):
    """Two blocks of convolution, batch norm, ReLU and pooling, then a global average and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.relu1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        self.conv2, self.norm2, self.relu2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28)."""
        first = self.pool(self.relu1(self.norm1(self.conv1(image))))
        second = self.pool(self.relu2(self.norm2(self.conv2(first))))
        logits: torch.Tensor = self.head(second.mean((2, 3)))
        return logits


def train(data: Digits, epochs: int) -> nn.Module:
    """The network, trained."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # convolutions this small are slower on more
    x, y = torch.from_numpy(INPUT.encode(rgb(data[0]))), torch.from_numpy(data[1])
    model = DigitNet().to(memory_format=torch.channels_last)
    steps = epochs * -(-len(x) // BATCH)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)
    for _ in trange(epochs, desc="training", unit="epoch"):
        for some in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            noisy = x[some] + NOISE * torch.randn_like(x[some])
            nn.functional.cross_entropy(model(noisy), y[some]).backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


def views(path: Path, data: Digits) -> dict[str, Figure]:
    """What there is to see in the file, by name. Nothing here needs PyTorch."""
    pixels, labels = data
    x = INPUT.encode(rgb(pixels))
    with ov.load(path) as ex:
        right = np.concatenate([ex.predict(x[i : i + BATCH]).argmax(1) for i in range(0, len(x), BATCH)]) == labels
        print(f"{len(x)} test digits, {right.mean():.1%} of them right")
        maps = ex.saliency(x[:4])
        low, high = (f(maps.values, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        predicted = [f"{true}, read as {top[0][1]}" for true, top in zip(labels, ex.top(x[:4], 1), strict=False)]
        return {
            "pca": ex.embed((x, labels)).plot(),
            "tsne": ex.embed((x, labels), method="tsne", perplexity=min(30, len(x) / 4)).plot(),
            "kernels": ov.plot.filters(ex.filters("conv1"), columns=4),
            "feature-maps": ov.plot.feature_maps(ex.features(x[:1], layers="relu1")["relu1"][0], columns=4),
            "saliency": ov.plot.compare(
                {"saliency, minimum to maximum": (maps.values - low) / (high - low)}, rgb(pixels[:4]),
                mode="beside", cmap="hot", titles=predicted,
            ),
        }  # fmt: skip


def main(folder: Path, *, per_class: int = 500, epochs: int = 20) -> None:
    """Train, convert and draw; the pictures go into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    training, test = digits(per_class)
    model = train(training, epochs)
    path = folder / "pytorch-digits.onnx"
    ov.convert(model, path, example=INPUT.encode(rgb(training[0][:2])), input=INPUT, classes=list("0123456789"))
    for name, figure in views(path, test).items():
        figure.savefig(folder / f"pytorch-digits-{name}.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
