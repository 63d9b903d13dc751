"""Guided backprop and deconvnet, against PyTorch with the rules written as hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from tests.support import assert_close, model_of, normal, recorded

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)


def guided(_module, dy):
    """What comes from above loses its negative part before the activation's derivative is applied."""
    return (dy[0].clamp(min=0),)


def deconvnet(_module, _dx, dy):
    """What comes from above, without its negative part, is passed on in place of the derivative."""
    return (dy[0].clamp(min=0),)


def rewritten(subject, rule: str) -> np.ndarray:
    """The gradient of a head's unit by autograd, where every rectifier passes it back by another rule."""
    modules = [m for m in subject.model.modules() if isinstance(m, RECTIFIERS)]
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


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
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
    "classifier": {},
    "rectifiers": {
        "ReluGrad": 1, "ClipGrad": 1, "LeakyReluGrad": 1, "QuickGeluGrad": 1, "GeluGrad": 1, "HardSwishGrad": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize("name", REWRITTEN)
def test_the_result_says_what_was_rewritten(subjects, name, method):
    assert subjects(name).explainer.explain(subjects(name).x(), method, 1).options["rewritten"] == REWRITTEN[name]
    several = subjects(name).explainer.explain(subjects(name).x(), method, [[1, 0]])
    assert several.options["rewritten"] == REWRITTEN[name]


def test_only_what_lies_behind_the_layer_is_rewritten(cnn):
    assert cnn.explainer.guided_backprop(cnn.x(), 1, layer="features.1").options["rewritten"] == {"ReluGrad": 1}
    assert cnn.explainer.guided_backprop(cnn.x(), 1, layer="features.3").options["rewritten"] == {}


def test_without_rectifiers_guided_backprop_is_the_gradient(subjects):
    ex, x = subjects("classifier").explainer, subjects("classifier").x()
    assert_close(ex.guided_backprop(x, 1), ex.gradient(x, 1).values, bar=0)
    assert_close(ex.deconvnet(x, 1), ex.gradient(x, 1).values, bar=0)


@pytest.mark.parametrize(("low", "rewritten"), [(0.0, {"ClipGrad": 1}), (-1.0, {})])
def test_a_clip_is_a_rectifier_only_from_zero_on(tmp_path, low, rewritten):
    weights = {"w": normal(4, 5), "m": normal(5, 2, seed=1), "low": np.float32(low), "high": np.float32(6)}
    model = model_of(
        "h = MatMul(x, w)  a = Clip(h, low, high)  y = MatMul(a, m)", "float[N, 4] x", "float[N, 2] y", weights
    )
    ex = ov.load(ov.convert(model, tmp_path / "clip.onnx", quiet=True))
    found, x = ex.guided_backprop(normal(6, 4), 1), torch.tensor(normal(6, 4))
    assert found.options["rewritten"] == rewritten
    dy = torch.tensor(weights["m"][:, 1]).expand(6, 5)
    h = x @ torch.tensor(weights["w"])
    dh = (dy.clamp(min=0) if low == 0 else dy) * ((h >= low) & (h <= 6))
    assert_close(found, (dh @ torch.tensor(weights["w"]).T).numpy())
