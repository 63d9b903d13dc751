"""Gradient and saliency on one, two and three spatial axes and both layouts, against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import LayerError
from tests.support import assert_close, model_of, nhwc, normal, torch_gradient

PLAIN = {"cnn": 1, "segmenter": None, "rectifiers": 0, "residual": 2, "mixed": 1}


def score(target):
    return (lambda y: y[:, target]) if target is not None else (lambda y: y.sum((2, 3)).max(1).values)


@pytest.mark.parametrize("name", PLAIN)
def test_gradient(subjects, name):
    subject, target = subjects(name), PLAIN[name]
    found = subject.explainer.gradient(subject.x(), target)
    assert_close(found, torch_gradient(subject.model, subject.feeds(), score(target)))
    assert (found.method, found.layer) == ("gradient", None)


@pytest.mark.parametrize("name", PLAIN)
def test_gradient_at_every_layer(subjects, name):
    subject, target = subjects(name), PLAIN[name]
    for layer in subject.explainer.layers:
        found = subject.explainer.gradient(subject.x(), target, layer=layer.name)
        assert_close(found, torch_gradient(subject.model, subject.feeds(), score(target), layer=layer.name))
        assert found.layer == layer.name


REDUCTIONS = {
    "max": lambda g: np.abs(g).max(1),
    "mean": lambda g: np.abs(g).mean(1),
    "sum": lambda g: np.abs(g).sum(1),
    None: np.abs,
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("name", ["cnn", "mixed"])
def test_saliency(subjects, name, reduce):
    subject = subjects(name)
    found = subject.explainer.saliency(subject.x(), 1, reduce=reduce)
    expected = REDUCTIONS[reduce](torch_gradient(subject.model, subject.feeds(), lambda y: y[:, 1]))
    assert_close(found, expected)
    channel = ("channel",) if reduce is None else ()
    assert found.axes == ("batch", *channel, "spatial", "spatial")
    assert found.options["reduce"] == reduce


@pytest.mark.parametrize(("name", "target", "spatial"), [("series", 0, 1), ("volume", 2, 3)])
def test_saliency_of_series_and_volumes(subjects, name, target, spatial):
    subject = subjects(name)
    gradient = subject.explainer.gradient(subject.x(), target).values
    found = subject.explainer.saliency(subject.x(), target)
    assert_close(found, np.abs(gradient).max(1), bar=1e-6)
    assert found.axes == ("batch", *["spatial"] * spatial)


def test_saliency_of_a_table_keeps_its_columns(subjects):
    subject = subjects("rectifiers")
    found = subject.explainer.saliency(subject.x(), 1)
    assert_close(found, np.abs(torch_gradient(subject.model, subject.feeds(), lambda y: y[:, 1])))
    assert found.axes == ("batch", "channel")


@pytest.fixture(scope="module")
def channels_last(tmp_path_factory):
    model, weights = nhwc()
    path = ov.convert(model, tmp_path_factory.mktemp("nhwc") / "nhwc.onnx", quiet=True)
    return ov.load(path, threads=1), {name: torch.tensor(array) for name, array in weights.items()}


def forward_nhwc(x, weights):
    act = torch.relu(torch.conv2d(x.permute(0, 3, 1, 2), weights["w"], weights["b"], stride=2, padding=1))
    return act, act.mean((2, 3)) @ weights["m"] + weights["c"]


def test_channels_last(channels_last):
    ex, weights = channels_last
    x = torch.tensor(normal(2, 9, 11, 3, seed=5), requires_grad=True)
    act, y = forward_nhwc(x, weights)
    dx, da = torch.autograd.grad(y[:, 2].sum(), [x, act])
    assert_close(ex.gradient(x, 2), dx.numpy())
    assert_close(ex.saliency(x, 2), dx.abs().amax(3).numpy())
    assert ex.gradient(x, 2).axes == ("batch", "spatial", "spatial", "channel")
    heat = torch.relu((da.mean((2, 3), keepdim=True) * act).sum(1)).detach()
    assert_close(ex.grad_cam(x, 2, upsample=False), heat.numpy())
    wide = torch.nn.functional.interpolate(heat[:, None], (9, 11), mode="bilinear", align_corners=False)[:, 0]
    assert_close(ex.grad_cam(x, 2), wide.numpy())


def test_unknown_channels_are_not_guessed(tmp_path):
    """Two axes beside the batch, and no operator that says which of them is the channels."""
    model = model_of(
        "a = Tanh(x)  y = ReduceSum<keepdims = 0>(a, axes)",
        "float[N, 4, 5] x",
        "float[N] y",
        {"axes": np.array([1, 2])},
    )
    ex, x = ov.load(ov.convert(model, tmp_path / "m.onnx", quiet=True)), normal(2, 4, 5)
    with pytest.raises(LayerError, match=r"holds the channels is not known .* reduce=None"):
        ex.saliency(x, 0)
    assert_close(ex.saliency(x, 0, reduce=None), 1 - np.tanh(x) ** 2)


def test_inputs_of_other_libraries(cnn):
    x = cnn.x(2)
    expected = cnn.explainer.gradient(x, 1).values
    tensor = torch.tensor(x, requires_grad=True)
    strided = np.asfortranarray(x)
    for given in (
        tensor,
        tensor.detach(),
        {"image": x},
        (x,),
        x.tolist(),
        strided,
        x.astype(np.float64),
        memoryview(x),
    ):
        assert_close(cnn.explainer.gradient(given, 1), expected, bar=0)


def test_integers_of_another_width(subjects):
    tokens = subjects("tokens")
    ids = tokens.x()
    assert ids.dtype == np.int64
    assert_close(tokens.explainer.predict(ids.astype(np.int32)), tokens.explainer.predict(ids), bar=0)
