"""Small networks with their explainable files, and PyTorch's numbers for the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

import onnxviz as ov


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ----- networks -----


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


@dataclass(frozen=True)
class Subject:
    """A network, its explainable file, and the file opened."""

    name: str
    model: nn.Module
    path: Path

    @cached_property
    def explainer(self) -> ov.Explainer:
        return ov.load(self.path, providers="cpu", threads=1)

    def feeds(self, batch: int = 3) -> dict[str, np.ndarray]:
        return dict(NETWORKS[self.name][1](batch))

    def x(self, batch: int = 3) -> np.ndarray:
        """The input of a network that has one."""
        (array,) = self.feeds(batch).values()
        return array


def convert(name: str, path: Path, **options) -> Path:
    """The explainable file of one of the networks."""
    example = dict(NETWORKS[name][1](2))
    return ov.convert(network(name), path, example=example, quiet=True, **options)


# ----- PyTorch's answers -----


def tensors(feeds: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in feeds.items()}


@contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Callable]) -> Iterator[None]:
    """With forward hooks on submodules."""
    handles = [model.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    yield
    for handle in handles:
        handle.remove()


def recorded(model: nn.Module, feeds: Mapping[str, np.ndarray], *layers: str) -> dict[str, torch.Tensor]:
    """The inputs by name and the outputs of submodules of one run, joined by autograd's graph."""
    found = tensors(feeds)
    given = {name: x.requires_grad_(x.is_floating_point()) for name, x in found.items()}
    with hooked(model, {layer: lambda _m, _x, y, layer=layer: found.update({layer: y}) for layer in layers}):
        model(**given)
    return found


def torch_values(model: nn.Module, feeds: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """The output of a submodule."""
    return recorded(model, feeds, layer)[layer].detach().numpy()


def torch_gradient(
    model: nn.Module,
    feeds: Mapping[str, np.ndarray],
    score: Callable[[torch.Tensor], torch.Tensor],
    *,
    wrt: str | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """d Σ score(model(x)) by autograd: with respect to an input, or to what all read of a submodule's output."""
    given, kept = tensors(feeds), {}
    if layer is None:
        name = wrt or next(iter(given))
        kept["value"] = given[name].requires_grad_()

    def passed_on(_module, _inputs, output):
        kept["value"] = output.clone() if output.requires_grad else output.detach().requires_grad_()
        return kept["value"]

    with hooked(model, {layer: passed_on} if layer else {}):
        total = score(model(**given)).sum()
    return torch.autograd.grad(total, kept["value"])[0].numpy()


def assert_close(got, expected, bar: float = 1e-5) -> None:
    """Equal to ``bar`` of the largest absolute expected value, and not all zero."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0, "a comparison with zeros tells nothing"
    assert np.abs(got.astype(np.float64) - expected).max() <= bar * scale


# ----- graphs -----


def model_of(
    nodes: str, inputs: str, outputs: str, weights: Mapping[str, np.ndarray] | None = None, *, opset: int = 18
) -> onnx.ModelProto:
    """A model from ONNX text: ``model_of("y = Relu(x)", "float[N, 3] x", "float[N, 3] y")``."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (weights or {}).items())
    return model


def nhwc() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """What exports from channels-last frameworks look like: a transpose, then convolutions; and the weights."""
    weights = {"w": normal(6, 3, 3, 3), "b": normal(6, seed=1), "m": normal(6, 4, seed=2), "c": normal(4, seed=3)}
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w", "b"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["act"]),
        helper.make_node("Transpose", ["act"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["last", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "m", "c"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "channels_last",
        [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 9, 11, 3])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(a, n) for n, a in {**weights, "axes": np.array([1, 2])}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), weights
