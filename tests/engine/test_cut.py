"""Only what a question needs is computed, and what a hidden unit depends on comes from the stored graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from onnxviz import bundle
from onnxviz.engine.cut import Graph, cut
from tests.support import assert_close, normal, recorded, tensors, torch_gradient, torch_values


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
