"""Networks whose weights became random, from the file alone: the same as PyTorch's with these weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import onnxviz as ov
from onnxviz.trust.weights import randomised, weight_of, weighted_layers
from tests.support import assert_close, network, normal, torch_gradient


def layers_of(explainer):
    return {group.layer: set(group.names) for group in weighted_layers(explainer.engine)}


@pytest.mark.parametrize(("name", "expected"), [
    ("cnn", {"features.0": 2, "features.2": 2, "head": 2}),
    ("series", {"conv": 2, "head": 1}),  # a single bias has no other order
    ("volume", {"conv": 2, "head": 2}),
    ("classifier", {"hidden": 2, "head": 2}),
    ("segmenter", {"body": 2, "head": 2}),
    ("two heads", {"left": 2, "right": 2, "out": 2}),
    ("tokens", {"embedding": 1, "mix": 2, "head": 2}),
    ("mixed", {"stem": 2, "depthwise": 2, "wide": 2, "narrow": 2, "head": 2}),  # the norm's are all ones and zeros
])  # fmt: skip
def test_what_learned_something(subjects, name, expected):
    """In the order of computation, but for branches that do not depend on each other."""
    found = layers_of(subjects(name).explainer)
    assert {layer: len(names) for layer, names in found.items()} == expected


class Deep(nn.Module):
    """Small and large weights, of operators whose weights are shared between sessions and of others; a norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3, padding=1)
        self.norm = nn.BatchNorm2d(20)
        self.wide = nn.Linear(20 * 16, 1000)  # more than a mebibyte
        self.out = nn.Linear(1000, 3)
        for array in (self.norm.weight.data, self.norm.running_mean, self.norm.running_var):
            array.copy_(torch.rand(20) + 0.5)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return self.out(torch.relu(self.wide(y.flatten(1))))


X = normal(3, 3, 4, 4)


@pytest.fixture(scope="module", params=[False, True], ids=["in the file", "beside the file"])
def deep(request, tmp_path_factory):
    torch.manual_seed(0)
    model, path = Deep().eval(), tmp_path_factory.mktemp("deep") / "deep.onnx"
    ov.convert(model, path, example=torch.tensor(X), quiet=True, external_data=request.param)
    with ov.load(path, providers="cpu", threads=1) as explainer:
        yield model, explainer


def with_the_same(model, engine, names):
    """A copy of the model with the engine's arrays where the file's names say whose they are."""
    changed = copy.deepcopy(model)
    state = changed.state_dict()
    for name in names:
        array = torch.tensor(np.array(weight_of(engine, name)))
        own = state[name.removeprefix("model.")]
        own.copy_(array if array.shape == own.shape else array.T)
    changed.load_state_dict(state)
    return changed


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_same_as_pytorch_with_these_weights(deep, count):
    model, explainer = deep
    random = weighted_layers(explainer.engine)[::-1][:count]
    engine = randomised(explainer.engine, random, seed=3)
    changed = with_the_same(model, engine, [name for group in random for name in group.names])
    assert not np.allclose(changed(torch.tensor(X)).detach(), model(torch.tensor(X)).detach(), rtol=0.1)

    from onnxviz.algorithms import gradient
    from onnxviz.algorithms.question import Question

    found = gradient(Question(engine, X, 1, None, "logits"))
    assert_close(found.score, changed(torch.tensor(X))[:, 1].detach().numpy(), 1e-5)
    assert_close(found, torch_gradient(changed, {"x": X}, lambda y: y[:, 1]), 1e-5)
    assert_close(explainer.predict(X), model(torch.tensor(X)).detach().numpy(), 1e-5)  # nothing has leaked


def test_shuffled_numbers_are_the_same_numbers(deep):
    _, explainer = deep
    groups = weighted_layers(explainer.engine)
    engine = randomised(explainer.engine, groups, seed=0)
    for name in (name for group in groups for name in group.names):
        before, after = weight_of(explainer.engine, name), weight_of(engine, name)
        assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        assert not np.array_equal(before, after)
        assert before.dtype == after.dtype


def test_the_order_depends_on_the_seed_and_the_name_alone(deep):
    _, explainer = deep
    groups = weighted_layers(explainer.engine)
    name = groups[-1].names[0]
    alone, among, other = (
        weight_of(randomised(explainer.engine, some, seed), name)
        for some, seed in ((groups[-1:], 5), (groups, 5), (groups[-1:], 6))
    )
    assert np.array_equal(alone, among)
    assert not np.array_equal(alone, other)


def test_the_file_is_only_read(deep):
    _, explainer = deep
    before = {path: path.read_bytes() for path in explainer.path.parent.iterdir()}
    randomised(explainer.engine, weighted_layers(explainer.engine), seed=0).forward({"x": X}, ["out"])
    assert {path: path.read_bytes() for path in explainer.path.parent.iterdir()} == before


class Shared(nn.Module):
    """One layer called twice, with another between; and a mask of large numbers."""

    def __init__(self):
        super().__init__()
        self.again = nn.Linear(6, 6)
        self.between = nn.Linear(6, 6)
        self.register_buffer("mask", torch.tensor([0, 0, -3e38, 0, 0, -3e38]))

    def forward(self, x):
        y = self.again(torch.tanh(self.between(torch.tanh(self.again(x)))))
        return (y + self.mask).softmax(-1)


def test_shared_weights_count_to_the_last_call_and_masks_to_none(tmp_path):
    model = Shared().eval()
    with ov.load(ov.convert(model, tmp_path / "s.onnx", example=torch.randn(2, 6), quiet=True)) as explainer:
        groups = weighted_layers(explainer.engine)
    assert [group.layer for group in groups] == ["between", "again#1"]
    assert sum(group.size for group in groups) == sum(p.numel() for p in model.parameters())


def test_replaced_small_weights_stand_in_the_skeleton(cnn):
    bundle = cnn.explainer.engine.bundle
    changed = bundle.with_weights({"model.head.bias": np.arange(5, dtype=np.float32)})
    found = {t.name: t for t in changed.skeleton.graph.initializer}["model.head.bias"]
    assert numpy_helper.to_array(found).tolist() == [0, 1, 2, 3, 4]
    assert network("cnn").head.bias.shape == (5,)
