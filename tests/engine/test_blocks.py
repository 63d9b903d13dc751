"""Gradients that stay in the convolutions' layout are the same gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import onnxviz as ov
from tests.engine.test_optimizations import SHOT, Fire, Twice, conversions, gradient, operators
from tests.support import assert_close


class Padded(nn.Module):
    """A convolution of values that a layer of its own has padded, between two others."""

    def __init__(self, pads: tuple[int, ...], *, again: bool = False, **conv: int) -> None:
        super().__init__()
        self.stem, self.pads, self.again = nn.Conv2d(3, 16, 3), pads, again
        self.conv = nn.Conv2d(16, 32, **conv)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, image):
        x = F.pad(self.stem(image).relu(), self.pads)
        seen = self.head(self.conv(x).relu()).mean((2, 3))
        return seen + x.sum((1, 2, 3))[:, None] if self.again else seen


class Residual(nn.Module):
    """Sums of branches, behind a transition that halves the image."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.stem, self.rectifier = nn.Conv2d(3, 16, 3, stride=2), rectifier
        self.inner = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, groups=g) for g in (1, 16, 1))
        self.down, self.short = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.Conv2d(16, 32, 1, stride=2)
        self.last, self.head = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 4)

    def forward(self, image):
        x = self.rectifier(self.stem(image))
        for conv in self.inner:
            x = self.rectifier(x + conv(x))
        x = self.rectifier(self.down(x) + self.short(x))
        return self.head(self.rectifier(x + self.last(x)).mean((2, 3)))


class Joined(nn.Module):
    """Two branches that one convolution reads."""

    def __init__(self, kernel: int, *, groups: int = 1, again: bool = False) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 32, 3, padding=1)
        self.conv, self.again = nn.Conv2d(48, 8, kernel, groups=groups), again
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = torch.cat([self.left(image).relu(), self.right(image).relu()], 1)
        seen = self.head(self.conv(x).relu()).mean((2, 3))
        return seen + x.mean((1, 2, 3))[:, None] if self.again else seen


NETWORKS = {
    "one pixel": lambda: Padded((1, 1, 1, 1), kernel_size=3),
    "uneven": lambda: Padded((0, 2, 1, 0), kernel_size=3),
    "of groups": lambda: Padded((2, 2, 2, 2), kernel_size=5, groups=16),
    "wider than the kernel": lambda: Padded((3, 3, 3, 3), kernel_size=3),
    "with a stride": lambda: Padded((0, 1, 0, 1), kernel_size=3, stride=2),
    "cropped": lambda: Padded((-1, 1, 0, -2), kernel_size=3),
    "padded for two": lambda: Padded((1, 1, 1, 1), kernel_size=3, again=True),
    "residual, ReLU": lambda: Residual(nn.ReLU()),
    "residual, ReLU6": lambda: Residual(nn.ReLU6()),
    "residual, Hardtanh": lambda: Residual(nn.Hardtanh(-0.3, 1.7)),
    "joined for 1×1": lambda: Joined(1),
    "joined for 3×3": lambda: Joined(3),
    "joined for groups": lambda: Joined(3, groups=2),
    "joined for two": lambda: Joined(3, again=True),
    "joined and pooled": Fire,
    "read twice": Twice,
}
MIXED = np.float32([[1, -2, 3, -1]] * 2)
"""A target of both signs, of which deconvnet and guided backprop leave something."""

WITHOUT_POLICY = ["residual, Hardtanh"]
"""Networks whose rectifiers guided backprop does not rewrite."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return conversions(NETWORKS, tmp_path_factory.mktemp("blocks"))


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_stay_as_they_are(converted, network):
    model, path = converted(network)
    plain, fast = (ov.load(path, providers="cpu", optimize=optimize) for optimize in (False, True))
    for image in (SHOT, 3 * SHOT):
        found = fast.gradient(image, 1).values
        assert_close(found, plain.gradient(image, 1).values, bar=1e-6)
        assert_close(found, gradient(model, image), bar=1e-5)
    for method in () if network in WITHOUT_POLICY else ("guided_backprop", "deconvnet"):
        assert_close(fast.explain(SHOT, method, MIXED).values, plain.explain(SHOT, method, MIXED).values, bar=1e-6)
    several = [[0, 1], [2, 3]]
    assert_close(fast.gradient(SHOT, several).values, plain.gradient(SHOT, several).values, bar=1e-6)


@pytest.mark.parametrize(("network", "name", "operator", "fewer"), [
    ("one pixel", "crops_in_convolutions", "Pad", 1),
    ("uneven", "crops_in_convolutions", "Pad", 1),
    ("of groups", "crops_in_convolutions", "Pad", 1),
    ("wider than the kernel", "crops_in_convolutions", "Pad", 0),
    ("with a stride", "crops_in_convolutions", "Pad", 0),
    ("cropped", "crops_in_convolutions", "Pad", 0),
    ("padded for two", "crops_in_convolutions", "Pad", 0),
    ("joined for 1×1", "splits_in_weights", "Split", 1),
    ("joined for 3×3", "splits_in_weights", "Split", 1),
    ("joined for groups", "splits_in_weights", "Split", 0),
    ("joined for two", "splits_in_weights", "Split", 0),
    ("residual, ReLU", "masks_in_blocks", "ReluGrad", 6),
    ("residual, ReLU6", "masks_in_blocks", "ClipGrad", 6),
    ("residual, Hardtanh", "masks_in_blocks", "ClipGrad", 6),
])  # fmt: skip
def test_it_is_done_where_it_can_be(converted, monkeypatch, network, name, operator, fewer):
    _, path = converted(network)
    plain, fast = (operators(path, monkeypatch, optimize)[operator] for optimize in (False, [name]))
    assert plain - fast == fewer
    values = [ov.load(path, providers="cpu", optimize=o).gradient(SHOT, 1).values for o in (False, [name])]
    assert_close(*values, bar=1e-6)


def test_a_sum_of_branches_is_brought_into_blocks_once(converted, monkeypatch):
    _, path = converted("residual, ReLU")
    plain, fast = (operators(path, monkeypatch, optimize)["Conv"] for optimize in (False, ["masks_in_blocks"]))
    assert fast - plain == 2  # behind the mean over the image, and behind the transition's sum


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-0.3, 1.7), (0, 1e-3), (-1e5, 3e6), (0.1, 0.3)])
def test_masks_of_clips_are_exact_at_their_bounds(tmp_path, low, high):
    bounds = np.float32([low, high])
    near = [np.nextafter(b, np.float32(side), dtype=np.float32) for b, side in product(bounds, (-np.inf, np.inf))]
    near = [x for x in near if x == 0 or abs(x) > 1e-37]  # denormals come near a bound of 0
    image = np.resize(np.float32([*bounds, *near, low - 1, high + 1, (low + high) / 2, -1e38, 1e38]), (1, 3, 5, 6))
    model = nn.Sequential(nn.Hardtanh(low, high), nn.Conv2d(3, 16, 1), nn.Flatten(), nn.Linear(480, 3))
    path = ov.convert(model, tmp_path / "m.onnx", example=np.zeros_like(image), quiet=True)
    ex = ov.load(path, providers="cpu", optimize=["masks_in_blocks"])
    inside = (image > bounds[0]) & (image < bounds[1])
    assert np.array_equal(ex.gradient(image, 1).values != 0, inside)
