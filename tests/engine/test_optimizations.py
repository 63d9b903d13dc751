"""What is done for speed changes no result, and is really done."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.engine import cache as sessions
from onnxviz.engine.optimizations import NAMES
from onnxviz.errors import OptionError
from tests.networks import normal
from tests.support import assert_close


class Pooled(nn.Module):
    """A max pool between two layers, with what the case gives it to pool."""

    def __init__(self, before: nn.Module, channels: int, **pool: object) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.before = before
        self.pool = nn.MaxPool2d(**pool)
        self.head = nn.Conv2d(channels, 4, 1)

    def forward(self, image):
        return self.head(self.pool(self.before(self.stem(image)))).mean((2, 3))


class Pools(nn.Module):
    """A class for each pool of what a layer gives."""

    def __init__(self, pools: dict[str, dict[str, object]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.pools = nn.ModuleList(nn.MaxPool2d(**pool) for pool in pools.values())
        self.heads = nn.ModuleList(nn.Conv2d(16, 1, 1) for _ in pools)

    def forward(self, image):
        x = self.stem(image).relu()
        return torch.cat([head(pool(x)).mean((2, 3)) for pool, head in zip(self.pools, self.heads, strict=True)], 1)


class Fire(nn.Module):
    """Two branches, each with its ReLU, joined and pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, image):
        joined = torch.cat([self.left(image).relu(), self.right(image).relu()], 1)
        return self.head(nn.functional.max_pool2d(joined, 3, 2)).mean((2, 3))


class Twice(nn.Module):
    """What is pooled is read a second time, so that its ReLU's gradient is a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, image):
        x = self.stem(image).relu()
        return self.head(nn.functional.max_pool2d(x, 3, 2)).mean((2, 3)) + self.head(x).mean((2, 3))


class Normed(nn.Module):
    """Convolutions behind which batch norms scale each channel, one of them strided, one grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4), nn.BatchNorm2d(8), nn.Tanh(),
            nn.Conv2d(8, 4, (1, 3), bias=False), nn.BatchNorm2d(4),
        )  # fmt: skip
        for norm in self.layers[1::3]:
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.uniform_(norm.running_var, 0.1, 4)

    def forward(self, image):
        return self.layers(image).mean((2, 3))


POOLS = {
    f"{kernel}, stride {stride}, pads {pads}, {'ceil' if ceil else 'floor'}": {
        "kernel_size": kernel, "stride": stride, "padding": pads, "ceil_mode": ceil,
    }
    for kernel, stride, (pads, ceil) in product(
        (2, 3, (1, 3), (3, 2), 5), (1, 2, 3), [(0, False), (1, False), (0, True), (1, True)]
    )
    if pads <= min(kernel if isinstance(kernel, tuple) else (kernel,)) // 2
}  # fmt: skip
BEFORE = {"ReLU": nn.ReLU(), "nothing": nn.Identity(), "Tanh": nn.Tanh(), "ReLU6": nn.ReLU6()}
NETWORKS = {
    f"behind {name}": (lambda b=before: Pooled(b, 32, kernel_size=3, stride=2, padding=1))
    for name, before in BEFORE.items()
}
NETWORKS |= {
    "pools": lambda: Pools(POOLS),
    "24 channels": lambda: Pooled(nn.ReLU(), 24, kernel_size=3, stride=2),
    "joined": Fire,
    "read twice": Twice,
}

SHOT = normal(2, 3, 13, 14, seed=5)
IMAGES = {"noise": SHOT, "flat": np.full_like(SHOT, 0.5), "large": 1e4 * SHOT, "small": 1e-4 * SHOT}

SATURATED = ("behind Tanh", "behind ReLU6")
"""Networks whose gradient is 0 where values are large."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return conversions(NETWORKS, tmp_path_factory.mktemp("pools"))


def conversions(networks, folder):
    """Network → its module and its file, made when first asked for."""

    @cache
    def get(name):
        torch.manual_seed(0)
        model = networks[name]().eval()
        number = list(networks).index(name)
        return model, ov.convert(model, folder / f"{number}.onnx", example=SHOT, quiet=True)

    return get


def gradient(model: nn.Module, image: np.ndarray, target: int = 1) -> np.ndarray:
    x = torch.tensor(image, requires_grad=True)
    (found,) = torch.autograd.grad(model(x)[:, target].sum(), x)
    return found.numpy()


def compare(model, plain, fast, image, target=1):
    expected = plain.gradient(image, target).values
    assert np.array_equal(fast.gradient(image, target).values, expected)
    assert_close(expected, gradient(model, image, target))


@pytest.mark.parametrize("network", NETWORKS)
def test_all_of_them_leave_the_gradient_as_it_is(converted, network):
    model, path = converted(network)
    plain, fast = (ov.load(path, providers="cpu", optimize=optimize) for optimize in (False, True))
    for image in IMAGES.values() if network not in SATURATED else [SHOT]:
        compare(model, plain, fast, image)


@pytest.fixture(scope="module")
def pools(converted):
    model, path = converted("pools")
    return model, *(ov.load(path, providers="cpu", optimize=optimize) for optimize in (False, True))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("image", IMAGES)
def test_every_pool(pools, pool, image):
    compare(*pools, IMAGES[image], list(POOLS).index(pool))


def test_each_that_can_be_is_computed_by_its_winners(converted, monkeypatch):
    """Ceil mode with pads is not."""
    counted = operators(converted("pools")[1], monkeypatch, optimize=True)
    assert counted["ScatterElements"] == sum(not (p["ceil_mode"] and p["padding"]) for p in POOLS.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["joined", "read twice", "behind ReLU", "24 channels"])
@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "deconvnet", "grad_cam"])
def test_each_of_them_alone_leaves_methods_as_they_are(converted, network, name, method):
    _, path = converted(network)
    found = [
        ov.load(path, providers="cpu", optimize=optimize).explain(SHOT, method, 2).values
        for optimize in (False, [name])
    ]
    assert np.array_equal(*found)


def operators(path, monkeypatch, optimize, target=1) -> Counter[str]:
    """Those that onnxruntime was given for a gradient."""
    seen, create = Counter(), sessions.create_session

    def watched(model, *args, **options):
        seen.update(node.op_type for node in model.graph.node)
        return create(model, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "create_session", watched)
        ov.load(path, providers="cpu", optimize=optimize).gradient(SHOT, target)
    return seen


@pytest.mark.parametrize(("network", "winners", "masks"), [
    ("joined", True, True), ("behind ReLU", True, True), ("read twice", True, False), ("behind Tanh", True, False),
    ("24 channels", False, True),
])  # fmt: skip
def test_it_is_done_where_it_can_be(converted, monkeypatch, network, winners, masks):
    _, path = converted(network)
    assert "ScatterElements" not in operators(path, monkeypatch, optimize=False)
    assert (operators(path, monkeypatch, ["pool_winners"])["ScatterElements"] == 1) == winners
    split = "masks_before_splits"
    moved, before = (operators(path, monkeypatch, optimize) for optimize in ([split, "masks_before_pools"], [split]))
    assert operators(path, monkeypatch, optimize=False)["ReluGrad"] == {"joined": 2, "behind Tanh": 0}.get(network, 1)
    behind = int(network != "behind Tanh")
    assert before["ReluGrad"] == behind
    assert (moved["ReluGrad"], moved["Identity"]) == (
        (1, before["Identity"] + behind) if masks else (behind, before["Identity"])
    )
    blocked = operators(path, monkeypatch, [split, "masks_in_blocks"])
    assert blocked["ReluGrad"] == 0
    assert blocked["HardSigmoid"] == behind


def test_several_targets_are_fast_too(converted, monkeypatch):
    _, path = converted("joined")
    assert operators(path, monkeypatch, True, [[0, 1]])["ScatterElements"] == 1
    found = [ov.load(path, providers="cpu", optimize=o).gradient(SHOT, [[0, 1]]).values for o in (False, True)]
    assert np.array_equal(*found)


@pytest.mark.parametrize(("optimize", "message"), [
    ("pool_winners", "optimize='pool_winners': expected True or False or a sequence"),
    (["pool_winner"], "no 'pool_winner'; did you mean 'pool_winners'"),
])  # fmt: skip
def test_unknown_names_are_refused(cnn, optimize, message):
    with pytest.raises(OptionError, match=message):
        ov.load(cnn.path, optimize=optimize)


def test_scales_of_norms_go_into_weights(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = Normed().eval()
    path = ov.convert(model, tmp_path / "m.onnx", example=SHOT, quiet=True)
    found = ov.load(path, providers="cpu", optimize=["norms_in_weights"])
    assert_close(found.gradient(SHOT, 1).values, gradient(model, SHOT))
    products = [operators(path, monkeypatch, optimize) for optimize in (["norms_in_weights"], False)]
    assert products[0]["Reshape"] == products[1]["Reshape"] + 3  # each scale beside its weights
    for layer in ("layers.0", "layers.1", "layers.3"):  # what a layer gets is scaled, where it is asked for
        plain = ov.load(path, providers="cpu", optimize=False).gradient(SHOT, 1, layer=layer).values
        assert_close(found.gradient(SHOT, 1, layer=layer).values, plain, bar=1e-6)


# ----- samples on cores of their own -----


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "smooth_grad", "occlusion", "rise"])
def test_spread_samples_give_what_a_whole_batch_gives(cnn, monkeypatch, method):
    from onnxviz.engine import chunks

    monkeypatch.setattr(chunks, "WORTH_SPREADING", 0)
    x = cnn.x(7)
    together = ov.load(cnn.path, providers="cpu", threads=3, optimize=False).explain(x, method, 1)
    spread = ov.load(cnn.path, providers="cpu", threads=3).explain(x, method, 1)
    assert_close(spread.values, together.values, bar=1e-6)
    assert_close(spread.score, together.score, bar=1e-6)


def test_how_samples_are_spread(cnn, monkeypatch):
    from onnxviz.engine import chunks

    plan = ov.load(cnn.path, providers="cpu", threads=3)._engine.chunks.plan
    each = ov.load(cnn.path)._bundle.manifest.activation_bytes * 2
    assert plan({"image": cnn.x(2)}, 2) == chunks.Plan(2)  # too little to do
    monkeypatch.setattr(chunks, "WORTH_SPREADING", 0)
    assert plan({"image": cnn.x(2)}, 2) == chunks.Plan(2)  # fewer samples than cores
    assert plan({"image": cnn.x(7)}, 7) == chunks.Plan(3, 3)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 2 * each - ov.load(cnn.path).memory()["weights"])
    assert plan({"image": cnn.x(12)}, 12) == chunks.Plan(2, 3)
    assert plan({"image": cnn.x(7)}, 7) == chunks.Plan(3, 3)  # rather one round of a few more than a second, half empty
    monkeypatch.setattr(chunks, "CHUNK_BYTES", each)
    assert plan({"image": cnn.x(7)}, 7) == chunks.Plan(1, 3)
