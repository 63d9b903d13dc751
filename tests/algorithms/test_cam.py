"""Grad-CAM on series, images and volumes, against the paper's formula in numpy and PyTorch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxviz.errors import LayerError
from tests.support import assert_close, recorded, torch_gradient, torch_values

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def naive(subject, target: int, layer: str, *, channel: int = 1, size: tuple[int, ...] | None = None) -> np.ndarray:
    activation = torch_values(subject.model, subject.feeds(), layer)
    gradient = torch_gradient(subject.model, subject.feeds(), lambda y: y[:, target], layer=layer)
    spatial = tuple(i for i in range(1, activation.ndim) if i != channel)
    alpha = gradient.mean(spatial, keepdims=True)
    heat = np.maximum((alpha * activation).sum(channel), 0)
    if size is None:
        return heat
    resized = torch.nn.functional.interpolate(
        torch.tensor(heat)[:, None], size, mode=MODES[len(size)], align_corners=False
    )
    return resized[:, 0].numpy()


# network, layer, channel axis there, the input's spatial size
CASES = {
    "image": ("cnn", "features.3", 1, (12, 12)),
    "an earlier layer": ("cnn", "features.0", 1, (12, 12)),
    "channels last within": ("mixed", "wide", 3, (10, 10)),
    "channels first within": ("mixed", "depthwise", 1, (10, 10)),
}


@pytest.mark.parametrize("case", CASES)
def test_grad_cam(subjects, case):
    name, layer, channel, size = CASES[case]
    subject = subjects(name)
    for target in (0, 1, 2):
        found = subject.explainer.grad_cam(subject.x(), target, layer=layer)
        assert_close(found, naive(subject, target, layer, channel=channel, size=size))
        small = subject.explainer.grad_cam(subject.x(), target, layer=layer, upsample=False)
        assert_close(small, naive(subject, target, layer, channel=channel))
        assert found.axes == small.axes == ("batch", "spatial", "spatial")
        assert (found.layer, found.options["upsample"], small.options["upsample"]) == (layer, True, False)


@pytest.mark.parametrize(("name", "layer", "size"), [("series", "conv", (17,)), ("volume", "act", (6, 7, 5))])
def test_series_and_volumes(subjects, name, layer, size):
    """Of their logits: the networks end in a sigmoid and a log-softmax."""
    subject = subjects(name)
    values = recorded(subject.model, subject.feeds(), "head", layer)
    a = values[layer]
    (gradient,) = torch.autograd.grad(values["head"][:, 0].sum(), a)
    space = tuple(range(2, a.ndim))
    heat = torch.relu((gradient.mean(space, keepdim=True) * a).sum(1)).detach()
    assert_close(subject.explainer.grad_cam(subject.x(), 0, layer=layer, upsample=False), heat.numpy())
    wide = torch.nn.functional.interpolate(heat[:, None], size, mode=MODES[len(size)], align_corners=False)[:, 0]
    found = subject.explainer.grad_cam(subject.x(), 0, layer=layer)
    assert_close(found, wide.numpy())
    assert found.axes == ("batch", *["spatial"] * len(size))


def test_a_list_of_layers_gives_a_list(cnn):
    layers = ["features.0", -3, "auto"]
    for found in (
        cnn.explainer.grad_cam(cnn.x(), 1, layer=layers),
        cnn.explainer.explain(cnn.x(), "grad_cam", 1, layer=layers),
    ):
        assert [f.layer for f in found] == ["features.0", "features.3", "features.3"]
        for one, layer in zip(found, layers, strict=True):
            assert_close(one, cnn.explainer.grad_cam(cnn.x(), 1, layer=layer).values, bar=0)
    assert [f.layer for f in cnn.explainer.grad_cam(cnn.x(), 1, layer=())] == []


def test_by_name_index_and_auto(cnn):
    expected = naive(cnn, 2, "features.3", size=(12, 12))
    for layer in ("features.3", 3, -3, "auto"):
        assert_close(cnn.explainer.grad_cam(cnn.x(), 2, layer=layer), expected)
    assert cnn.explainer.grad_cam(cnn.x(), 2).layer == "features.3"
    assert_close(cnn.explainer.explain(cnn.x(), target=2), expected)


def test_several_targets_at_one_layer(cnn):
    found = cnn.explainer.grad_cam(cnn.x(), [[0, 3]])
    assert found.axes == ("batch", "target", "spatial", "spatial")
    for i, target in enumerate((0, 3)):
        assert_close(found.values[:, i], naive(cnn, target, "features.3", size=(12, 12)))


@pytest.mark.parametrize("layer", ["head", "features.9"])
def test_where_there_are_no_maps(cnn, layer):
    with pytest.raises(LayerError, match=layer):
        cnn.explainer.grad_cam(cnn.x(), 1, layer=layer)


def test_a_table_has_no_maps(subjects):
    with pytest.raises(LayerError, match="Use saliency"):
        subjects("classifier").explainer.grad_cam(subjects("classifier").x(), 1)
