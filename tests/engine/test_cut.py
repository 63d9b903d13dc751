"""Only what a question needs is computed, and what a hidden unit depends on comes from the stored graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from onnxviz import bundle
from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Graph, cut
from onnxviz.explainable import explain
from onnxviz.source import Source, Tap
from tests.support import assert_close, model_of, normal, recorded, tensors, torch_gradient, torch_values


@pytest.fixture
def graph(cnn) -> Graph:
    return Graph(bundle.read(cnn.path))


def operators(sketch) -> Counter[str]:
    return Counter(n.op_type for n in [*sketch.forward, *sketch.seeding, *sketch.backward, *sketch.closing])


# wanted, given, live seeds → operators that are needed, inputs that are declared
CUTS = {
    "the first layer": (["features.0"], [], [], {"Conv": 1}, ["image"]),
    "a later layer": (["features.3"], [], [], {"Conv": 2, "Relu": 2}, ["image"]),
    "from a layer on": (["features.3"], ["features.1"], [], {"Conv": 1, "Relu": 1}, ["features.1"]),
    "a given layer": (["features.1"], ["features.1"], [], {}, ["features.1"]),
    "a hidden unit": (
        ["grad/image"],
        ["grad/features.1"],
        [],
        {"Conv": 1, "Relu": 1, "ReluGrad": 1, "ConvGrad": 1},
        ["grad/features.1", "image"],
    ),
    "a hidden unit from values": (
        ["grad/features.0"],
        ["grad/features.1", "features.1"],
        [],
        {"ReluGrad": 1},
        ["features.1", "grad/features.1"],
    ),
    "the gradient of the head alone": (["grad/head"], ["head"], ["seed/output"], {"Identity": 1}, ["head"]),
}


@pytest.mark.parametrize("case", CUTS)
def test_a_cut_has_nothing_to_spare(graph, case):
    wanted, given, live, expected, inputs = CUTS[case]
    found = cut(graph, wanted, given=given, live=live)
    shapes = {"Shape", "Expand", "Squeeze", "Reshape", "Concat"}
    assert {op: count for op, count in operators(found).items() if op not in shapes} == expected
    assert sorted(found.inputs) == inputs


def test_a_gradient_at_a_late_layer_needs_no_early_gradients(graph):
    whole = cut(graph, ["grad/image"], live=["seed/output"])
    late = cut(graph, ["grad/features.3"], live=["seed/output"])
    assert operators(whole)["ConvGrad"] == operators(whole)["ReluGrad"] == 2
    assert not {"ConvGrad", "ReluGrad"} & operators(late).keys()


def test_dead_seeds_leave_no_nodes(subjects):
    graph = Graph(bundle.read(subjects("two heads").path))
    live = cut(graph, ["grad/first"], live=["seed/both", "seed/one"])
    dead = cut(graph, ["grad/first"], live=["seed/one"])
    assert "seed/both" in {x for node in live.backward for x in node.input}
    assert not {x for node in dead.backward for x in node.input} & {"seed/both", "grad/out"}
    assert operators(dead)["Gemm"] < operators(live)["Gemm"]


@pytest.mark.parametrize(
    ("name", "of", "wrt"),
    [
        ("cnn", "features.2", "image"),
        ("cnn", "features.3", "features.0"),
        ("mixed", "narrow", "image"),
        ("mixed", "act", "stem"),
        ("residual", "second", "table"),
        ("rectifiers", "rectifiers.9", "table"),
    ],
)
def test_derivatives_of_hidden_units(subjects, name, of, wrt):
    """d Σ cotangent · layer / d earlier value, from the stored graph with ``grad/<layer>`` replaced."""
    subject = subjects(name)
    feeds = subject.feeds(2)
    values = recorded(subject.model, feeds, *({of, wrt} - feeds.keys()))
    cotangent = normal(*values[of].shape, seed=3)
    (expected,) = torch.autograd.grad(values[of], values[wrt], torch.tensor(cotangent))
    got = subject.explainer._engine.linear(feeds, {f"grad/{of}": cotangent}, [wrt])
    assert_close(got[wrt], expected.numpy())


def test_seeds_of_several_outputs_add_up(subjects):
    subject = subjects("two heads")
    feeds, seeds = subject.feeds(), {"both": normal(3, 2, seed=5), "one": normal(3, 4, seed=6)}
    got = subject.explainer._engine.linear(feeds, {f"seed/{k}": v for k, v in seeds.items()}, ["first", "second"])
    for wrt in ("first", "second"):
        expected = torch_gradient(
            subject.model, feeds, lambda y: sum((y[k] * torch.tensor(v)).sum() for k, v in seeds.items()), wrt=wrt
        )
        assert_close(got[wrt], expected)


def test_values_from_a_given_layer(cnn):
    engine, values = cnn.explainer._engine, normal(2, 6, 6, 6, seed=4)
    got = engine.forward({**cnn.feeds(2), "features.1": values}, ["features.2"])["features.2"]
    assert_close(got, cnn.model.features[2](torch.tensor(values)).detach().numpy())


@pytest.mark.parametrize("layers", [None, "features.2", 2, -1, ["head", "features.0"], [0, "features"]])
def test_features(cnn, layers):
    table = cnn.explainer.layers
    chosen = list(table) if layers is None else [table[k] for k in (layers if isinstance(layers, list) else [layers])]
    found = cnn.explainer.features(cnn.x(), layers)
    assert list(found) == [layer.name for layer in chosen]
    for name, values in found.items():
        assert_close(values, torch_values(cnn.model, cnn.feeds(), name))


@pytest.mark.parametrize("name", ["series", "volume", "classifier", "segmenter", "regressor", "two heads", "tokens"])
def test_predict(subjects, name):
    subject = subjects(name)
    found = subject.explainer.predict(subject.feeds())
    expected = subject.model(**tensors(subject.feeds()))
    if name == "two heads":
        assert list(found) == ["both", "one"]
        for key, values in expected.items():
            assert_close(found[key], values.detach().numpy())
    else:
        assert_close(found, expected.detach().numpy())


@pytest.mark.parametrize(
    ("name", "probabilities"),
    [
        ("cnn", lambda y: y.softmax(1)),
        ("classifier", lambda y: y),
        ("volume", lambda y: y.exp()),
        ("series", lambda y: y),
    ],
)
def test_top(subjects, name, probabilities):
    subject = subjects(name)
    expected = probabilities(subject.model(**tensors(subject.feeds()))).detach().numpy()
    found = subject.explainer.top(subject.x(), 2)
    for row, scores in zip(found, expected, strict=True):
        assert [i for i, _, _ in row] == np.argsort(-scores)[:2].tolist()
        assert [name for _, name, _ in row] == [str(i) for i, _, _ in row]
        np.testing.assert_allclose([s for _, _, s in row], np.sort(scores)[::-1][:2], rtol=1e-5)
    assert [row[:1] for row in found] == subject.explainer.top(subject.x(), 1)
    assert len(subject.explainer.top(subject.x(), 50)[0]) == expected.shape[1]


# ----- a channels-last network: its layers lie otherwise than its convolutions -----


class ChannelsLast(nn.Module):
    """What :func:`channels_last` holds, in PyTorch; layers are returned with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3), nn.Linear(5, 3)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {"pixels": pixels, "conv1": self.first(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clone()}
        found["act1"] = found["conv1"].relu()
        found["pass"] = found["act1"].clone()
        found["pool"] = nn.functional.max_pool2d(found["pass"].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        found["act2"] = self.second(found["pool"].permute(0, 3, 1, 2)).permute(0, 2, 3, 1).relu()
        found["scores"] = self.head(found["act2"].mean((1, 2)))
        return found


@pytest.fixture(scope="module")
def channels_last(tmp_path_factory) -> tuple[Engine, ChannelsLast]:
    """A network as a channels-last framework exports it: a Transpose before each convolution and one back after it."""
    torch.manual_seed(0)
    network = ChannelsLast()
    weights = {
        "k1": network.first.weight, "b1": network.first.bias, "k2": network.second.weight, "b2": network.second.bias,
        "w": network.head.weight.T, "b": network.head.bias,
    }  # fmt: skip
    nodes = """
    f1 = Transpose<perm = [0, 3, 1, 2]>(pixels) c1 = Conv<pads = [1, 1, 1, 1]>(f1, k1)
    l1 = Transpose<perm = [0, 2, 3, 1]>(c1) t1 = Add(l1, b1) conv1 = Identity(t1)
    r1 = Relu(conv1) act1 = Identity(r1) pass = Identity(act1)
    f2 = Transpose<perm = [0, 3, 1, 2]>(pass) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(f2)
    l2 = Transpose<perm = [0, 2, 3, 1]>(m) pool = Identity(l2)
    f3 = Transpose<perm = [0, 3, 1, 2]>(pool) c3 = Conv(f3, k2, b2)
    l3 = Transpose<perm = [0, 2, 3, 1]>(c3) r3 = Relu(l3) act2 = Identity(r3)
    g = ReduceMean<keepdims = 0>(act2, space) p = MatMul(g, w) scores = Add(p, b)
    """
    layers = ["conv1", "act1", "pass", "pool", "act2"]
    proto = model_of(
        nodes,
        "float[N, 8, 8, 3] pixels",
        ", ".join(f"float[] {name}" for name in [*layers, "scores"]),
        {**{name: tensor.detach().numpy().copy() for name, tensor in weights.items()}, "space": np.array([1, 2])},
    )
    source = Source(
        ir.from_proto(proto), {"scores": "scores"}, [Tap(name, name, "Layer") for name in layers], "keras", {},
        {"pixels": normal(2, 8, 8, 3)}, None,
    )  # fmt: skip
    model, manifest = explain(source)
    path = tmp_path_factory.mktemp("cut") / "channels_last.onnx"
    bundle.write(path, model, manifest)
    return Engine(bundle.read(path, draft=True), providers="cpu"), network


# wanted, given, live seeds → Transposes in the forward and in the backward pass
TRANSPOSED = {
    "the output": (["scores"], [], [], 1, 0),
    "a layer": (["act1"], [], [], 2, 0),
    "a layer that passes its input on, and the output": (["pass", "scores"], [], [], 2, 0),
    "two layers": (["conv1", "act2"], [], [], 3, 0),
    "from a layer on": (["scores"], ["pool"], [], 1, 0),
    "the input's gradient": (["grad/pixels"], [], ["seed/scores"], 1, 1),
    "a late layer's gradient": (["grad/act2"], [], ["seed/scores"], 1, 1),
    "an early layer's gradient, and its values": (["act1", "grad/act1"], [], ["seed/scores"], 2, 1),
    "two layers' gradients": (["grad/conv1", "grad/pool"], [], ["seed/scores"], 1, 2),
    "a hidden unit": (["grad/pixels"], ["grad/act2"], [], 1, 2),
    "a hidden unit from values": (["grad/conv1"], ["grad/act2", "pass", "act1"], [], 2, 2),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_layouts_change_where_a_layer_is_taken_or_given(channels_last, case):
    wanted, given, live, forward, backward = TRANSPOSED[case]
    found = cut(channels_last[0].graph, wanted, given=given, live=live)
    counted = [sum(n.op_type == "Transpose" for n in nodes) for nodes in (found.forward, found.backward)]
    assert counted == [forward, backward]
    returned = {x for n in [*found.forward, *found.backward] if n.op_type == "Identity" for x in n.output}
    assert returned <= {*wanted, "conv1", "act1"}


def test_all_layers_of_a_channels_last_network(channels_last):
    engine, network = channels_last
    x = normal(3, 8, 8, 3, seed=9)
    expected = network(torch.tensor(x))
    names = [name for name in expected if name != "pixels"]
    together = engine.forward({"pixels": x}, names)
    for name in names:
        assert_close(together[name], expected[name].detach().numpy())
        assert_close(engine.forward({"pixels": x}, [name])[name], expected[name].detach().numpy())


@pytest.mark.parametrize("of", ["conv1", "act1", "pass", "pool", "act2", "scores"])
def test_all_gradients_of_a_channels_last_network(channels_last, of):
    engine, network = channels_last
    x = torch.tensor(normal(2, 8, 8, 3, seed=4), requires_grad=True)
    values = network(x)
    cotangent = normal(*values[of].shape, seed=5)
    wrt = list(values)[: list(values).index(of)]
    expected = torch.autograd.grad(values[of], [values[name] for name in wrt], torch.tensor(cotangent))
    fed = {"seed/scores" if of == "scores" else f"grad/{of}": cotangent}
    for got in (engine.linear({"pixels": x.detach().numpy()}, fed, wrt), *(
        engine.linear({"pixels": x.detach().numpy()}, fed, [name]) for name in wrt
    )):  # fmt: skip
        for name, gradient in zip(wrt, expected, strict=True):
            if name in got:
                assert_close(got[name], gradient.numpy())


def test_a_given_value_of_a_channels_last_layer_is_what_later_layers_read(channels_last):
    engine, _ = channels_last
    given = normal(2, 8, 8, 4, seed=6)
    pooled = nn.functional.max_pool2d(torch.tensor(given).relu().permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    got = engine.forward({"pixels": normal(2, 8, 8, 3), "conv1": given}, ["pool", "act1"])
    assert_close(got["pool"], pooled.numpy())
    assert_close(got["act1"], given.clip(0))
