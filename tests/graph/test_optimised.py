"""What ONNX Runtime's optimisers write is explained as the model that they were given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import UnsupportedModelError
from onnxviz.graph.decompositions import DECOMPOSITIONS
from onnxviz.graph.decompositions.registry import MICROSOFT
from onnxviz.graph.plain import source
from tests.networks import normal
from tests.support import assert_close


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 6, 6, 3, padding=1) for i in range(6))
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        a, b, c, d, e, f = self.convs
        x = torch.relu(self.norm(a(x)))
        x = torch.relu(b(x) + x)
        x = nn.functional.leaky_relu(c(x), 0.2)
        x = torch.sigmoid(d(x)) + torch.tanh(e(x))
        x = torch.clamp(f(x), -0.4, 0.5)
        return self.head(x.mean((2, 3)))


class Layer(nn.Module):
    """A layer of BERT, in the words that the optimisers know."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads, self.size = heads, size
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=1e-12) for _ in range(2))

    def split(self, x):
        return x.view(*x.size()[:-1], self.heads, self.size // self.heads).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        query, key, value = (self.split(part(x)) for part in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(self.size // self.heads)
        mixed = torch.matmul(torch.softmax(scores + mask, dim=-1), value).permute(0, 2, 1, 3).contiguous()
        x = self.norms[0](self.output(mixed.view(*mixed.size()[:-2], self.size)) + x)
        return self.norms[1](self.down(nn.functional.gelu(self.up(x))) + x)


class Bert(nn.Module):
    def __init__(self, size: int = 16):
        super().__init__()
        self.words, self.places, self.kinds = nn.Embedding(50, size), nn.Embedding(16, size), nn.Embedding(2, size)
        self.norm, self.head = nn.LayerNorm(size, eps=1e-12), nn.Linear(size, 3)
        self.layers = nn.ModuleList(Layer(size, 2) for _ in range(2))
        self.register_buffer("positions", torch.arange(16)[None])

    def forward(self, input_ids, token_type_ids, attention_mask):
        places = self.places(self.positions[:, : input_ids.size(1)])
        x = self.norm(self.words(input_ids) + self.kinds(token_type_ids) + places)
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(torch.tanh(x[:, 0]))


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)

    def forward(self, x):
        x = self.norm(x + self.down(nn.functional.gelu(self.up(x))))
        x = x + self.down(nn.functional.gelu(self.up(x), approximate="tanh"))
        h = self.up(torch.softmax(torch.matmul(x, x.transpose(1, 2)) * 0.3, -1) @ x)
        return self.down(h * torch.sigmoid(1.702 * h))


TEXT = {
    "input_ids": np.random.default_rng(0).integers(0, 50, (2, 6)),
    "token_type_ids": np.zeros((2, 6), np.int64),
    "attention_mask": np.array([[1] * 6, [1, 1, 1, 1, 0, 0]]),
}
NETWORKS = {
    "convolutions": (Convolutions, {"x": normal(2, 3, 8, 8)}),
    "gates": (Gates, {"x": normal(2, 5, 8)}),
    "bert": (Bert, TEXT),
}


def traced(name: str, path: Path, opset: int) -> dict[str, np.ndarray]:
    """Export a network by tracing, as most files at hand were; its inputs."""
    build, feeds = NETWORKS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():  # this exporter is deprecated, and says so
        warnings.simplefilter("ignore")
        torch.onnx.export(
            build().eval(),
            tuple(torch.from_numpy(x) for x in feeds.values()),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=list(feeds),
            output_names=["y"],
            dynamic_axes={key: {0: "batch"} for key in feeds},
        )
    return feeds


def optimised(path: Path, level: str) -> Path:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path.with_name(f"{level}.onnx"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path.with_name(f"{level}.onnx")


def fusions(path: Path) -> set[str]:
    graph = onnx.load(path).graph
    return {node.op_type for node in graph.node if (MICROSOFT, node.op_type) in DECOMPOSITIONS}


def assert_explained_alike(one: Path, other: Path, feeds: Mapping[str, np.ndarray], layer: str | None) -> None:
    """Both files give the same output and gradient, at the input or at a layer of both."""
    with ov.load(one, providers="cpu") as a, ov.load(other, providers="cpu") as b:
        x = dict(feeds)
        assert_close(a.predict(x), b.predict(x))
        assert_close(a.gradient(x, target=1, layer=layer).values, b.gradient(x, target=1, layer=layer).values)


WRITTEN = {
    ("convolutions", 13): {"FusedConv", "FusedGemm"},
    ("convolutions", 18): {"FusedConv", "FusedGemm"},
    ("gates", 13): {"BiasGelu", "SkipLayerNormalization", "FusedMatMul", "QuickGelu"},
    ("gates", 18): {"FusedMatMul", "QuickGelu"},
    ("bert", 13): {"LayerNormalization", "FusedMatMul"},
}


@pytest.mark.parametrize(("name", "opset"), WRITTEN)
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_what_onnxruntime_optimised_is_explained_as_the_original(name, opset, level, tmp_path):
    feeds = traced(name, tmp_path / "original.onnx", opset)
    path = optimised(tmp_path / "original.onnx", level)
    if level == "EXTENDED":
        assert fusions(path) >= WRITTEN[name, opset]
    files = [
        ov.convert(each, tmp_path / f"{each.stem} explained.onnx", example=feeds, quiet=True)
        for each in (path, tmp_path / "original.onnx")
    ]
    layer = next((n for n in named(files[0]) & named(files[1]) if "norm" in n), None) if name == "bert" else None
    assert_explained_alike(*files, feeds, layer)


@pytest.mark.parametrize("mask", ["raw", "lengths", "heads"])
def test_what_the_transformers_optimiser_fused_is_explained_as_the_original(mask, tmp_path):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    traced("bert", tmp_path / "original.onnx", 14)
    options = FusionOptions("bert")
    options.use_raw_attention_mask(mask == "raw")
    options.use_multi_head_attention = mask == "heads"
    model = optimizer.optimize_model(
        str(tmp_path / "original.onnx"), "bert", num_heads=2, hidden_size=16, optimization_options=options, opt_level=0
    )
    model.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert fusions(tmp_path / "fused.onnx") == {
        *("EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu"),
        "MultiHeadAttention" if mask == "heads" else "Attention",
    }
    files = [
        ov.convert(tmp_path / f"{each}.onnx", tmp_path / f"{each} explained.onnx", example=TEXT, quiet=True)
        for each in ("fused", "original")
    ]
    same = min(n for n in named(files[0]) & named(files[1]) if "/down/" in n)
    assert_explained_alike(*files, TEXT, same)


def test_a_layout_that_is_bound_to_a_machine_is_refused(tmp_path):
    feeds = traced("convolutions", tmp_path / "original.onnx", 17)
    path = optimised(tmp_path / "original.onnx", "ALL")
    with pytest.raises(UnsupportedModelError, match=r"com\.microsoft\.nchwc::Conv .* blocks.*ORT_ENABLE_EXTENDED"):
        ov.convert(path, tmp_path / "explained.onnx", example=feeds)


def test_the_constants_of_a_fused_layer_count_as_its_parameters(tmp_path):
    feeds = traced("convolutions", tmp_path / "original.onnx", 17)
    path = optimised(tmp_path / "original.onnx", "EXTENDED")
    taps = source(path, example=feeds).taps
    assert {(tap.type, tap.parameters) for tap in taps} >= {("FusedConv", 6 * 3 * 9 + 6), ("FusedGemm", 6 * 8 + 8)}


def named(path: Path) -> set[str]:
    """The layers that have a gradient."""
    with ov.load(path, providers="cpu") as ex:
        return {layer.name for layer in ex.layers if layer.has_gradient}
