"""The priors of activation maximisation against autograd of their definitions, and what a blur is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import OptionError
from tests.support import assert_close, normal

SHAPES = {"image": ((2, 3, 6, 5), (2, 3)), "last": ((2, 6, 5, 3), (1, 2)), "series": ((2, 2, 9), (2,))}
SHAPES["volume"] = ((2, 1, 4, 5, 3), (2, 3, 4))


def variation(x, axes, beta):
    """Σ (Σ Δ²)^(β/2) with a difference of 0 past the end."""
    squares = 0
    for axis in axes:
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        squares = squares + torch.diff(torch.cat([x, last], axis), dim=axis) ** 2
    squares = torch.where(squares > 0, squares, 1) ** (beta / 2) * (squares > 0)
    return squares.flatten(1).sum(1)


PENALTIES = {
    "lp6": (ov.LpNorm(6, 10), lambda x, _: 10 * (x.abs() ** 6).flatten(1).mean(1)),
    "lp1.5": (ov.LpNorm(1.5, 3), lambda x, _: 3 * (x.abs() ** 1.5).flatten(1).mean(1)),
    "l2": (ov.L2(0.3), lambda x, _: 0.3 * (x**2).flatten(1).sum(1)),
    "tv2": (ov.TotalVariation(10), lambda x, axes: 10 * variation(x, axes, 2) / x[0].numel()),
    "tv1": (ov.TotalVariation(2, beta=1), lambda x, axes: 2 * variation(x, axes, 1) / x[0].numel()),
    "tv3": (ov.TotalVariation(2, beta=3), lambda x, axes: 2 * variation(x, axes, 3) / x[0].numel()),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", PENALTIES)
def test_value_and_gradient(name, kind):
    (penalty, definition), (shape, spatial) = PENALTIES[name], SHAPES[kind]
    x = normal(*shape)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = definition(leaf, spatial)
    assert_close(penalty.value(x, spatial), value.detach().numpy(), 1e-6)
    assert_close(penalty.gradient(x, spatial), torch.autograd.grad(value.sum(), leaf)[0].numpy(), 1e-5)


@pytest.mark.parametrize("name", PENALTIES)
def test_slope_along_a_direction(name):
    """(R(x + hd) − R(x − hd)) / 2h = ⟨∇R, d⟩."""
    penalty, (shape, spatial) = PENALTIES[name][0], SHAPES["image"]
    x, d, h = normal(*shape), normal(*shape, seed=1), 2.0**-10
    slope = (penalty.value(x + h * d, spatial) - penalty.value(x - h * d, spatial)) / (2 * h)
    along = (penalty.gradient(x, spatial).astype(np.float64) * d).sum((1, 2, 3))
    np.testing.assert_allclose(slope, along, rtol=2e-3)


def test_flat_images_have_no_variation():
    flat = np.full((1, 3, 4, 4), 7, np.float32)
    for beta in (1, 2):
        assert ov.TotalVariation(1, beta=beta).value(flat, (2, 3)) == 0
        assert not ov.TotalVariation(1, beta=beta).gradient(flat, (2, 3)).any()


def test_blur_is_a_gaussian_every_few_steps():
    dot = np.zeros((1, 1, 21, 21), np.float32)
    dot[..., 10, 10] = 1
    blur = ov.Blur(1.5, every=3)
    assert [blur.project(dot, (2, 3), step) is None for step in range(1, 7)] == [True, True, False] * 2
    found = blur.project(dot, (2, 3), 3)[0, 0]
    y, x = np.mgrid[-10:11, -10:11]
    expected = np.exp(-(x**2 + y**2) / (2 * 1.5**2)) * (np.maximum(abs(x), abs(y)) <= 4)
    assert_close(found, expected / expected.sum(), 1e-6)


def test_blur_keeps_a_flat_image_to_its_edges():
    flat = np.full((1, 2, 9), 3, np.float32)
    np.testing.assert_allclose(ov.Blur(2.0, every=1).project(flat, (2,), 1), flat, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ov.LpNorm(0.5, 1), "LpNorm.p=0.5"),
        (lambda: ov.LpNorm(2, -1), "LpNorm.weight=-1"),
        (lambda: ov.TotalVariation(float("nan")), "TotalVariation.weight=nan"),
        (lambda: ov.TotalVariation(1, beta=0), "TotalVariation.beta=0"),
        (lambda: ov.L2("1"), "L2.weight='1'"),
        (lambda: ov.Blur(1, every=0), "Blur.every=0"),
    ],
)
def test_impossible_values(make, named):
    with pytest.raises(OptionError, match=named):
        make()
