"""Guided backprop and deconvnet, against PyTorch with the policy written as autograd functions and as hooks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import onnxviz as ov
from onnxviz.engine import overlays
from onnxviz.engine.cut import cut
from onnxviz.errors import LayerError
from onnxviz.gradient.training_ops import BODIES
from tests.engine.activations import BENDS, OTHERS, RECTIFIERS, ZERO, Act, Rewritten
from tests.support import assert_close, kept_slopes, model_of, normal, recorded

methods = pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])

# ----- every activation: a small CNN of it in ONNX, and the same in PyTorch -----

WEIGHTS = {
    "first": normal(6, 3, 3, 3, seed=1) * 0.3, "second": normal(6, 6, 3, 3, seed=2) * 0.2, "head": normal(6, 4, seed=3)
}  # fmt: skip


def network(first: Act, second: Act, path):
    """Two convolutions, each with an activation, and a linear head: its explainable file."""
    nodes = (
        f"a = Conv(image, first)  {first.nodes.format(x='a', y='p')}  "
        f"b = Conv(p, second)  {second.nodes.format(x='b', y='q')}  "
        "m = GlobalAveragePool(q)  n = Flatten(m)  scores = MatMul(n, head)"
    )
    model = model_of(
        nodes, "float[N, 3, 9, 9] image", "float[N, 4] scores", {**WEIGHTS, **first.constants, **second.constants}
    )
    layers = ["a", "p", "b", "q", "scores"]
    return ov.load(ov.convert(model, path / "cnn.onnx", layers=layers, quiet=True), providers="cpu", threads=1)


def by_torch(x: np.ndarray, first, second) -> np.ndarray:
    """The gradient of score 2 of the same network, with activations as given."""
    image = torch.tensor(x, requires_grad=True)
    weights = {name: torch.tensor(array) for name, array in WEIGHTS.items()}
    hidden = first(torch.conv2d(image, weights["first"]))
    hidden = second(torch.conv2d(hidden, weights["second"]))
    (hidden.mean((2, 3)) @ weights["head"])[:, 2].sum().backward()
    return image.grad.numpy()


def operators(explainer: ov.Explainer, method: str | None) -> Counter[str]:
    """How often each operator stands in the backward pass that a question runs."""
    sketch = cut(explainer._engine.graph, ["grad/image"], live=["seed/scores"])
    if method:
        overlays.apply_overlay(sketch, method, "image")
    return Counter(node.op_type for node in sketch.backward)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_every_rectifier(name, tmp_path):
    act, x = RECTIFIERS[name], normal(4, 3, 9, 9, seed=4)
    with network(act, act, tmp_path) as ex:
        plain = operators(ex, None)
        assert (plain[act.gradient], plain["Relu"]) == (2, 0)
        for method, left in (("guided_backprop", 2), ("deconvnet", 0)):
            found = ex.explain(x, method, 2)
            assert found.options["rewritten"] == {act.gradient: 2}
            assert kept_slopes(found) == ()
            expected = by_torch(x, *[lambda a, method=method: Rewritten.apply(a, act.torch, method)] * 2)
            assert_close(found, expected)
            assert np.abs(ex.gradient(x, 2).values - expected).max() > 0.01 * np.abs(expected).max()
            counts = operators(ex, method)
            assert (counts[act.gradient], counts["Relu"]) == (left, 2)
            assert counts - Counter({"Relu": 2, act.gradient: left}) == plain - Counter({act.gradient: 2})


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_rectifier_keeps_its_derivative_and_the_result_says_so(name, tmp_path):
    relu, act, x = RECTIFIERS["Relu"], OTHERS[name], normal(4, 3, 9, 9, seed=5)
    with network(relu, act, tmp_path) as ex:
        for method in ("guided_backprop", "deconvnet"):
            found = ex.explain(x, method, 2)
            assert found.options["rewritten"] == {"ReluGrad": 1}
            (note,) = kept_slopes(found)
            assert note.endswith(f": {name} ×1")
            assert note in repr(found)
            assert_close(found, by_torch(x, lambda a, method=method: Rewritten.apply(a, F.relu, method), act.torch))
            assert operators(ex, method)[act.gradient] == 1
            with pytest.raises(LayerError, match=rf"{method} .* between 'p' and the score .*\(only {name} ×1\)"):
                ex.explain(x, method, 2, layer="p")
        assert ex.gradient(x, 2).notes == ()


@pytest.mark.parametrize("name", BENDS)
def test_what_bends_without_a_gradient_of_its_own_is_named(name, tmp_path):
    nodes, function, constants = BENDS[name]
    relu, act, x = RECTIFIERS["Relu"], Act(nodes, function, "", constants), normal(4, 3, 9, 9, seed=6)
    with network(relu, act, tmp_path) as ex:
        for method in ("guided_backprop", "deconvnet"):
            for target in (2, [[2, 0]] * 4):
                found = ex.explain(x, method, target)
                assert found.options["rewritten"] == {"ReluGrad": 1}
                (note,) = kept_slopes(found)
                assert note.endswith(f": {name} ×1")
            found = ex.explain(x, method, 2)
            assert_close(found, by_torch(x, lambda a, method=method: Rewritten.apply(a, F.relu, method), function))
            with pytest.raises(LayerError, match=rf"between 'p' and the score .*\(only {name} ×1\)"):
                ex.explain(x, method, 2, layer="p")
        assert ov.coverage(ex).kept == {name: 1}


def test_a_choice_that_does_not_depend_on_what_it_chooses_from_is_no_activation(tmp_path):
    """A mask that is given, and sizes."""
    model = model_of(
        "a = MatMul(x, w)  r = Relu(a)  c = Where(mask, r, low)  s = Shape(c)  t = Max(s, ones)  e = Expand(c, t)  "
        "y = MatMul(e, m)",
        "float[N, 4] x",
        "float[N, 2] y",
        {
            "w": normal(4, 6), "m": normal(6, 2, seed=1), "mask": np.array([1, 0, 1, 1, 0, 1], bool), "low": ZERO,
            "ones": np.array([1, 1]),
        },
    )  # fmt: skip
    with ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex:
        assert kept_slopes(ex.guided_backprop(normal(3, 4), 1)) == ()
        assert ov.coverage(ex).kept == {}


def test_every_activation_s_gradient_is_decided_about():
    """The table names what exists, and nothing of the bodies of activations is forgotten."""
    decided = overlays.RECTIFIERS.keys() | overlays.OTHERS.keys()
    assert not overlays.RECTIFIERS.keys() & overlays.OTHERS.keys()
    assert decided <= BODIES.keys()
    families = ("activation", "recurrent")
    assert decided == {name for name, (_, body) in BODIES.items() if body.__module__.rpartition(".")[2] in families}
    assert {act.gradient for act in RECTIFIERS.values()} == overlays.RECTIFIERS.keys()
    recurrent = {"LSTMGrad", "GRUGrad", "RNNGrad"}
    assert {act.gradient for act in OTHERS.values()} - {"ClipGrad"} == overlays.OTHERS.keys() - recurrent
    assert not {name.removesuffix("Grad") for name in decided} & overlays.BENDING
    assert BENDS.keys() <= overlays.BENDING


# ----- networks from PyTorch, with hooks on their modules -----

MODULES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)


def guided(_module, dy):
    """What comes from above loses its negative part before the activation's derivative is applied."""
    return (dy[0].clamp(min=0),)


def deconvnet(_module, _dx, dy):
    """What comes from above, without its negative part, is passed on in place of the derivative."""
    return (dy[0].clamp(min=0),)


def rewritten(subject, rule: str) -> np.ndarray:
    """The gradient of a head's unit by autograd, where every rectifier passes it back by another rule."""
    modules = [m for m in subject.model.modules() if isinstance(m, MODULES)]
    if rule == "guided_backprop":
        handles = [m.register_full_backward_pre_hook(guided) for m in modules]
    else:
        handles = [m.register_full_backward_hook(deconvnet) for m in modules]
    last = "head" if hasattr(subject.model, "head") else "gates"
    values = recorded(subject.model, subject.feeds(), last)
    (gradient,) = torch.autograd.grad(values[last][:, 1].sum(), next(iter(values.values())))
    for handle in handles:
        handle.remove()
    return gradient.numpy()


@methods
@pytest.mark.parametrize("name", ["cnn", "volume", "rectifiers"])
def test_the_backward_pass_of_rectifiers_is_rewritten(subjects, name, method):
    subject = subjects(name)
    expected = rewritten(subject, method)
    assert_close(subject.explainer.explain(subject.x(), method, 1), expected)
    plain = subject.explainer.gradient(subject.x(), 1).values
    assert np.abs(plain - expected).max() > 0.01 * np.abs(expected).max()


REWRITTEN = {
    "cnn": {"ReluGrad": 2},
    "volume": {"ReluGrad": 1},
    "mixed": {"GeluGrad": 1},
    "rectifiers": {
        "ReluGrad": 1, "ClipGrad": 1, "LeakyReluGrad": 1, "QuickGeluGrad": 1, "GeluGrad": 1, "HardSwishGrad": 1,
    },
}  # fmt: skip


@methods
@pytest.mark.parametrize("name", REWRITTEN)
def test_the_result_says_what_was_rewritten(subjects, name, method):
    subject = subjects(name)
    notes = ("no rectifiers, so with their plain derivative: Clip ×1, Sigmoid ×1",) if name == "rectifiers" else ()
    for target in (1, [[1, 0]]):
        found = subject.explainer.explain(subject.x(), method, target)
        assert found.options["rewritten"] == REWRITTEN[name]
        assert kept_slopes(found) == notes


@methods
def test_only_what_lies_behind_the_layer_counts(cnn, method):
    ask = getattr(cnn.explainer, method)
    assert ask(cnn.x(), 1, layer="features.1").options["rewritten"] == {"ReluGrad": 1}
    with pytest.raises(LayerError, match=r"between 'features.3' and the score there is none .*no known activation"):
        ask(cnn.x(), 1, layer="features.3")


@methods
def test_a_network_of_gates_is_refused(subjects, method):
    subject = subjects("classifier")
    for target in (1, [[1, 0]]):
        with pytest.raises(
            LayerError, match=r"between 'table' .*\(only Tanh ×1\).*the plain gradient. Ask for gradient"
        ):
            getattr(subject.explainer, method)(subject.x(), target)
