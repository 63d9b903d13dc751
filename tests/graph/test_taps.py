"""Every layer's value has the layer's name and a gradient of its own, whatever shares or passes it on."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.graph.taps import name_taps
from onnxviz.source import Tap
from tests.support import Subject, assert_close, model_of, normal, torch_gradient, torch_values

# ----- graphs -----

# nodes, taps (name: value), outputs (name: value) → where layers and outputs lie, names of the graph's outputs
GRAPHS = {
    "one each": (
        "a = Relu(x)  y = Tanh(a)", {"act": "a"}, {"out": "y"}, {"act": "act"}, {"out": "out"}, ["out", "act"],
    ),
    "an output is a layer": (
        "a = Relu(x)  y = Tanh(a)", {"one": "a", "two": "y"}, {"out": "y"},
        {"one": "one", "two": "two"}, {"out": "two"}, ["two", "one"],
    ),
    "a container and its last child": (
        "a = Relu(x)  y = Tanh(a)", {"net.1": "a", "net": "a"}, {"out": "y"}, {"net.1": "net.1", "net": "net"},
        {"out": "out"}, ["out", "net.1", "net"],
    ),
    "three of the same, the output too": (
        "y = Relu(x)", {"a": "y", "b": "y", "c": "y"}, {"out": "y"}, {"a": "a", "b": "b", "c": "c"}, {"out": "c"},
        ["c", "a", "b"],
    ),
    "through identities": (
        "a = Relu(x)  b = Identity(a)  c = Identity(b)  y = Tanh(c)", {"inner": "b", "outer": "c"}, {"out": "y"},
        {"inner": "inner", "outer": "outer"}, {"out": "out"}, ["out", "inner", "outer"],
    ),
    "named like the input": (
        "y = Relu(x)", {"x": "y"}, {"out": "y"}, {"x": "x#out"}, {"out": "x#out"}, ["x#out"],
    ),
    "the input itself": (
        "a = Identity(x)  y = Relu(a)", {"one": "a"}, {"out": "y"}, {"one": "one"}, {"out": "out"}, ["out", "one"],
    ),
    "an output is an input": (
        "a = Relu(x)  y = Identity(x)", {"act": "a"}, {"out": "y"}, {"act": "act"}, {"out": "out"}, ["out", "act"],
    ),
    "an output named like a layer": (
        "a = Relu(x)  y = Tanh(a)", {"y": "a"}, {"y": "y"}, {"y": "y"}, {"y": "y#out"}, ["y#out", "y"],
    ),
    "a value named like a layer": (
        "act = Relu(x)  b = Tanh(act)  y = Sigmoid(b)", {"act": "b"}, {"out": "y"},
        {"act": "act"}, {"out": "out"}, ["out", "act"],
    ),
    "names exchanged": (
        "one = Relu(x)  two = Tanh(one)  y = Sigmoid(two)", {"two": "one", "one": "two"}, {"out": "y"},
        {"two": "two", "one": "one"}, {"out": "out"}, ["out", "two", "one"],
    ),
    "a weight named like a layer": (
        "a = Add(x, w)  y = Tanh(a)", {"w": "a"}, {"out": "y"}, {"w": "w"}, {"out": "out"}, ["out", "w"],
    ),
    "two outputs of one value": (
        "y = Relu(x)  z = Identity(y)", {}, {"one": "y", "two": "z"}, {}, {"one": "one", "two": "one"}, ["one"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_names(case):
    nodes, taps, outputs, places, finals, graph_outputs = GRAPHS[case]
    ends = ", ".join(f"float[N, 3] {value}" for value in dict.fromkeys(outputs.values()))
    proto = onnx.shape_inference.infer_shapes(model_of(nodes, "float[N, 3] x", ends, {"w": normal(3)}))
    x = normal(2, 3)
    model = ir.serde.deserialize_model(proto)
    before = all_values(proto, x)
    placed, final = name_taps(model, [Tap(name, value, "layer") for name, value in taps.items()], outputs)
    assert [t.name for t in placed] == list(taps)
    assert {t.name: t.value for t in placed} == places
    assert final == finals
    assert sorted(v.name for v in model.graph.outputs) == sorted(graph_outputs)
    assert [v.name for v in model.graph.outputs][: len(set(finals.values()))] == list(dict.fromkeys(finals.values()))
    after = all_values(ir.serde.serialize_model(model), x)
    for name, value in taps.items():
        assert np.array_equal(after[places[name]], before[value])
    for name, value in outputs.items():
        assert np.array_equal(after[final[name]], before[value])


def all_values(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Of every node, whether it is an output or not; a graph whose names collide does not run."""
    names = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {"x": x} | dict(zip(names, session.run(None, {"x": x}), strict=True))


# ----- networks -----


class Branches(nn.Module):
    """Layers that pass on what they get, in every place of a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.stem = nn.Linear(4, 4)
        self.skip = nn.Identity()
        self.branch = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.Tanh(), nn.Dropout())
        self.after = nn.Identity()
        self.twice = nn.Identity()
        self.second = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Linear(4, 3), nn.Identity())

    def forward(self, table):
        x = self.stem(self.entry(table))
        x = self.after(self.skip(x) + self.branch(x))
        x = self.twice(x) * torch.tanh(self.twice(self.second(x)))
        return self.head(x)


class ReadBesideTheInput(nn.Module):
    """The input of a layer that passes it on is read elsewhere: before it, after it, and by another such layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Identity()
        self.two = nn.Identity()
        self.inner = nn.Sequential(nn.Identity(), nn.Identity())
        self.head = nn.Linear(4, 3)

    def forward(self, table):
        h = torch.tanh(table)
        early = h * h
        return self.head(early + 2 * self.one(h) + torch.exp(self.two(h)) + 3 * self.inner(h) + h**3)


class Containers(nn.Module):
    """Sequentials in Sequentials whose outputs are one value."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())))
        self.head = nn.Linear(4, 3)

    def forward(self, table):
        h = self.net(table)
        return self.head(h) + h[:, :3]


class OnlyReturned(nn.Module):
    """Layers that nothing reads: one that passes on what others read, and one part of another's output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = WithPooled()
        self.aside = nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, table):
        found = self.body(table)
        self.aside(found["pooled"])
        return self.head(found["pooled"])


class WithPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()
        self.pool = nn.Linear(4, 4)

    def forward(self, table):
        states = self.act(table)
        return {"states": states, "pooled": self.pool(states)}


class InPlace(nn.Module):
    """An in-place layer overwrites its input, which is a layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, table):
        h = self.first(table)
        return self.head(self.act(h) + h)


@pytest.fixture(scope="module", params=[Branches, ReadBesideTheInput, Containers])
def passing(request, tmp_path_factory) -> Subject:
    torch.manual_seed(0)
    model = request.param().eval()
    path = tmp_path_factory.mktemp("taps") / "net.onnx"
    return Subject("", model, ov.convert(model, path, example=normal(2, 4), quiet=True))


def test_a_layer_has_its_own_gradient_and_no_more(passing):
    """What flows back through this module's output alone, where its input is read by others as well."""
    feeds = {"table": normal(3, 4, seed=3)}
    names = [t.name for t in passing.explainer.layers if "#" not in t.name and t.name != "twice"]
    assert len(names) >= 5
    for name in names:
        expected = torch_gradient(passing.model, feeds, lambda y: y[:, 1], layer=name)
        assert_close(passing.explainer.gradient(feeds, 1, layer=name), expected)
        assert_close(passing.explainer.features(feeds, name)[name], torch_values(passing.model, feeds, name))


def test_every_layer_is_an_output_of_the_file(passing):
    session = onnxruntime.InferenceSession(passing.path, providers=["CPUExecutionProvider"])
    outputs = {o.name for o in session.get_outputs()}
    modules = {name for name, _ in passing.model.named_modules() if name}
    for name in modules:
        assert {name, f"grad/{name}"} <= outputs


def test_a_layer_that_nothing_reads_is_not_its_input(tmp_path):
    """It has the value of a layer that is read, and no gradient."""
    torch.manual_seed(0)
    model, x = OnlyReturned().eval(), normal(3, 4, seed=3)
    ex = ov.load(ov.convert(model, tmp_path / "net.onnx", example=normal(2, 4), quiet=True))
    able = {layer.name: layer.has_gradient for layer in ex.layers}
    assert able == {
        "body.act": True, "body.pool": True, "body:states": False, "body:pooled": True, "aside": False, "head": True
    }  # fmt: skip
    assert {layer.reason for layer in ex.layers if not layer.has_gradient} == {"no output depends on it"}
    values = ex.features(x)
    for unread, read in (("body:states", "body.act"), ("aside", "body:pooled")):
        assert_close(values[unread], values[read])
    pooled = model.head.weight[1].detach().expand(3, 4).numpy()
    assert_close(ex.gradient(x, 1, layer="body:pooled"), pooled)
    assert_close(ex.gradient(x, 1, layer="body.act"), pooled @ model.body.pool.weight.detach().numpy())


def test_both_calls_of_a_layer(passing):
    if "twice" not in passing.explainer.layers:
        assert "twice" not in dict(passing.model.named_modules())
        return
    model, table = passing.model, torch.tensor(normal(3, 4, seed=3))
    x = model.stem(table)
    x = (x + model.branch(x)).detach()
    first, second = x.clone().requires_grad_(), model.second(x).detach().requires_grad_()
    dfirst, dsecond = torch.autograd.grad(model.head(first * torch.tanh(second))[:, 1].sum(), [first, second])
    for name, value, gradient in (("twice", first, dfirst), ("twice#1", second, dsecond)):
        assert_close(passing.explainer.features(table, name)[name], value.detach().numpy())
        assert_close(passing.explainer.gradient(table, 1, layer=name), gradient.numpy())


def test_a_layer_that_is_overwritten_keeps_its_own_value(tmp_path):
    torch.manual_seed(0)
    model, x = InPlace().eval(), normal(3, 4, seed=3)
    ex = ov.load(ov.convert(model, tmp_path / "net.onnx", example=normal(2, 4), quiet=True))
    first = model.first(torch.tensor(x)).detach()
    assert_close(ex.features(x, "first")["first"], first.numpy())
    act = torch.relu(first)
    assert_close(ex.features(x, "act")["act"], act.numpy())
    dact = 2 * model.head.weight[1].detach().expand(3, 4)
    assert_close(ex.gradient(x, 1, layer="first"), (dact * (first > 0)).numpy())


@pytest.mark.parametrize(
    "name", ["a b", "Σ", "a/b", "a:0", 'quo"te', "grad/x", "100%", "seed/out", "dot.", "head/result"]
)
def test_names_with_odd_characters(tmp_path, name):
    proto = model_of("a = Tanh(x)  y = MatMul(a, w)", "float[N, 3] x", "float[N, 2] out", {"w": normal(3, 2)})
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = [{"a": name, "y": "out"}.get(v, v) for v in values]
    onnx.save(proto, tmp_path / "plain.onnx")
    ex = ov.load(ov.convert(tmp_path / "plain.onnx", tmp_path / "net.onnx", quiet=True))
    x = normal(2, 3)
    assert_close(ex.features(x, name)[name], np.tanh(x))
    expected = np.tile(normal(3, 2)[:, 1], (2, 1))
    assert_close(ex.gradient(x, 1, layer=name), expected)
    assert_close(ex.gradient(x, 1), expected * (1 - np.tanh(x) ** 2))
    assert_close(ex.saliency(x, [[0, 1]]).values[:, 1], np.abs(expected * (1 - np.tanh(x) ** 2)))
