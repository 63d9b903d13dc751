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
from tests.networks import NETWORKS, network, normal


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


def score_of(
    model: nn.Module, x: torch.Tensor, layer: str | None, score: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """A score (N,) of a layer's output, as autograd sees it; of the model's own where ``layer`` is None."""
    kept: dict[str, torch.Tensor] = {}
    with hooked(model, {layer: lambda _m, _x, y: kept.update(y=y)} if layer else {}):
        output = model(x)
    return score(kept["y"] if layer else output)


def kept_slopes(found: ov.Explanation) -> tuple[str, ...]:
    """The notes on what a rewrite left alone."""
    return tuple(note for note in found.notes if note.startswith("no rectifiers"))


def assert_close(got, expected, bar: float = 1e-5) -> None:
    """Equal to ``bar`` of the largest absolute expected value, and not all zero."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0, "a comparison with zeros tells nothing"
    assert np.abs(got.astype(np.float64) - expected).max() <= bar * scale


# ----- graphs -----


def model_of(nodes: str, inputs: str, outputs: str, weights: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A model from ONNX text: ``model_of("y = Relu(x)", "float[N, 3] x", "float[N, 3] y")``."""
    text = f'<ir_version: 10, opset_import: ["": 18]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
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


def nchw() -> onnx.ModelProto:
    """The same network as :func:`nhwc`, of pixels channels first."""
    model, _ = nhwc()
    del model.graph.node[0]
    model.graph.node[0].input[0] = "pixels"
    for size, n in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], (3, 9, 11), strict=True):
        size.dim_value = n
    return model


WEIGHTS = {"w": normal(6, 400), "c": normal(400, seed=1), "m": normal(400, 3, seed=2)}


def mlp(**weights: np.ndarray) -> onnx.ModelProto:
    """A network of two matrices, as a plain ONNX file holds it."""
    return model_of(
        "h = Gemm(x, w, c)  a = Relu(h)  y = MatMul(a, m)", "float[N, 6] x", "float[N, 3] y", {**WEIGHTS, **weights}
    )


def data_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix == ".data")
