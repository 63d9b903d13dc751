"""The priors of activation maximisation against autograd of their definitions, what a blur is, and priors in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.algorithms.canvas import Canvas
from onnxviz.errors import NotFiniteError, OptionError
from onnxviz.manifest import Axes
from tests.algorithms import ascent_in_numpy as in_numpy
from tests.algorithms.appended import appended
from tests.support import assert_close, nchw, nhwc, normal

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


def slope_of(penalty, x, spatial):
    """What the nodes of a penalty say of images in any layout."""
    canvas = Canvas.of(x.shape, Axes(0, None, spatial))
    (slope,) = appended(lambda add: penalty.slope(add, "x", canvas), x=canvas.inward(x))
    return canvas.outward(slope)


def blurred(blur, x):
    """Of images with the space last."""
    canvas = Canvas((x.shape[1],), x.shape[2:], tuple(range(x.ndim)))
    return appended(lambda add: blur.replacement(add, "x", canvas), x=x)[0]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", PENALTIES)
def test_slopes_are_autograds(name, kind):
    (penalty, definition), (shape, spatial) = PENALTIES[name], SHAPES[kind]
    x = normal(*shape)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = definition(leaf, spatial)
    assert_close(slope_of(penalty, x, spatial), torch.autograd.grad(value.sum(), leaf)[0].numpy(), 1e-5)


def test_flat_images_have_no_variation():
    flat = np.full((1, 3, 4, 4), 7, np.float32)
    for beta in (1, 2):
        assert not slope_of(ov.TotalVariation(1, beta=beta), flat, (2, 3)).any()


def test_an_axis_of_one_place_does_not_vary():
    x = normal(1, 2, 1, 5)
    assert_close(
        slope_of(ov.TotalVariation(3), x, (2, 3)), slope_of(ov.TotalVariation(3), x[:, :, 0], (2,))[:, :, None]
    )


def test_blur_is_a_gaussian_every_few_steps():
    dot = np.zeros((1, 1, 21, 21), np.float32)
    dot[..., 10, 10] = 1
    blur = ov.Blur(1.5, every=3)
    assert [blur.due(step) for step in range(1, 7)] == [False, False, True] * 2
    assert not ov.Blur(0, every=3).due(3)
    y, x = np.mgrid[-10:11, -10:11]
    expected = np.exp(-(x**2 + y**2) / (2 * 1.5**2)) * (np.maximum(abs(x), abs(y)) <= 4)
    assert_close(blurred(blur, dot)[0, 0], expected / expected.sum(), 1e-6)


@pytest.mark.parametrize("shape", [(2, 2, 9), (1, 3, 6, 5), (1, 1, 4, 5, 3)])
def test_blur_repeats_the_edges(shape):
    x, spatial = normal(*shape), tuple(range(2, len(shape)))
    assert_close(blurred(ov.Blur(1.2, every=1), x), in_numpy.blurred(x, spatial, 1.2), 1e-6)
    flat = np.full(shape, 3, np.float32)
    np.testing.assert_allclose(blurred(ov.Blur(2.0, every=1), flat), flat, rtol=1e-6)


# ----- priors in numpy -----


class Sixth:
    """LpNorm(6, weight) in numpy, which remembers what it was asked."""

    def __init__(self, weight):
        self.weight, self.shapes = weight, set()

    def value(self, _images, _spatial):
        raise AssertionError("an ascent needs slopes alone")

    def gradient(self, images, spatial):
        self.shapes.add((images.shape, spatial))
        with np.errstate(over="ignore"):
            return 6 * self.weight / images[0].size * images**5


class Softened:
    """A blur in numpy after every second step."""

    def __init__(self):
        self.steps = []

    def project(self, images, spatial, step):
        self.steps.append(step)
        return None if step % 2 else in_numpy.blurred(images, spatial, 0.7)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["pixels", "fourier"])
def test_priors_in_numpy_do_what_those_in_the_graph_do(tmp_path, layout, kind):
    model = nchw() if layout == "NCHW" else nhwc()[0]
    image = ov.ImageInput((9, 11), layout=layout, mean=(120, 110, 100), std=(60, 55, 50))
    path = ov.convert(model, tmp_path / "net.onnx", input=image, quiet=True)
    own, soft = Sixth(1e-9), Softened()
    with ov.load(path, providers="cpu", threads=1) as ex:
        options = {"steps": 5, "parameterization": kind, "scale": (0.9, 1.1)}
        graph = ex.maximize([1, "conv:2"], regularizers=[ov.LpNorm(6, 1e-9), ov.Blur(0.7, 2)], **options)
        numpy = ex.maximize([1, "conv:2"], regularizers=[own, soft], **options)
    assert_close(numpy.images, graph.images, 1e-5)
    shape, spatial = ((1, 3, 9, 11), (2, 3)) if layout == "NCHW" else ((1, 9, 11, 3), (1, 2))
    assert own.shapes == {(shape, spatial)}
    assert soft.steps == [1, 2, 3, 4, 5] * 2


def test_a_prior_in_numpy_that_is_not_finite_is_named(cnn):
    with pytest.raises(NotFiniteError, match=r"step \d+: the gradient of the regulariser <.*Sixth"):
        cnn.explainer.maximize(1, regularizers=[Sixth(1e4)], optimizer="plain", learning_rate=1e3)


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
