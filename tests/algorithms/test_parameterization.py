"""What the ascent moves, and what moves it about: each map's inverse and adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxviz.algorithms.parameterization import Fourier, Pixels, Units
from onnxviz.algorithms.transforms import Resample, Roll, Transforms
from onnxviz.errors import OptionError
from onnxviz.image import ImageInput
from onnxviz.manifest import Axes, Input
from tests.support import assert_close, normal

IMAGE = ((2, 3, 8, 7), Axes(0, 1, (2, 3)), "RGB")
SPECTRA = {
    "image": IMAGE,
    "bgr last": ((1, 6, 9, 3), Axes(0, 3, (1, 2)), "BGR"),
    "series": ((2, 2, 11), Axes(0, 1, (2,)), None),
    "volume": ((1, 1, 4, 6, 5), Axes(0, 1, (2, 3, 4)), None),
}


@pytest.mark.parametrize("limits", [None, (-128.0, 127.0)])
@pytest.mark.parametrize("name", SPECTRA)
def test_fourier_is_inverted_and_pulled_back(name, limits):
    shape, axes, colours = SPECTRA[name]
    fourier = Fourier(shape, axes, colours, limits)
    images, direction, gradient = 20 * normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2)
    numbers = fourier.encode(images)
    assert_close(fourier.decode(numbers), images, 1e-5)
    h = 2.0**-6
    change = (fourier.decode(numbers + h * direction) - fourier.decode(numbers - h * direction)) / (2 * h)
    along = (fourier.pull(images, gradient).astype(np.float64) * direction).sum()
    assert along == pytest.approx((change.astype(np.float64) * gradient).sum(), rel=5e-3)


def test_fourier_holds_images_within_limits_and_natural_noise_among_them():
    fourier = Fourier(*IMAGE, (-128.0, 127.0))
    wild = fourier.decode(1000 * normal(2, 3, 8, 7))
    assert wild.min() >= -128
    assert wild.max() <= 127
    many = Fourier((50, 3, 32, 32), *IMAGE[1:], None).decode(10 * normal(50, 3, 32, 32))
    assert many.std() == pytest.approx(10, rel=0.1)
    neighbours = np.corrcoef(many[..., 1:].ravel(), many[..., :-1].ravel())[0, 1]
    assert neighbours > 0.6, "of white noise it is 0"


def test_colours_follow_the_order_of_channels():
    shape = (1, 3, 8, 8)
    rgb, bgr = Fourier(shape, IMAGE[1], "RGB", None), Fourier(shape, IMAGE[1], "BGR", None)
    numbers = normal(*shape)
    np.testing.assert_array_equal(rgb.decode(numbers), bgr.decode(numbers)[:, ::-1])


def test_pixels_are_clipped():
    assert Pixels((-1.0, 2.0)).decode(np.float32([[-5, 1, 7]])).tolist() == [[-1, 1, 2]]
    assert Pixels(None).decode(np.float32([[-5, 1, 7]])).tolist() == [[-5, 1, 7]]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_units_are_grey_levels(layout):
    image = ImageInput(4, layout=layout, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), scale=1 / 255, channels="BGR")
    units = Units.of(Input("x", "x", "float32", ("N", 3, 4, 4), Axes(0, 1, (2, 3)), image=image.to_dict()))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    centred = pixels[..., ::-1].astype(np.float32) - 128
    centred = centred.transpose(0, 3, 1, 2) if layout == "NCHW" else centred
    np.testing.assert_allclose(units.input(centred), image.encode(pixels), atol=1e-5)
    np.testing.assert_allclose(units.images(image.encode(pixels)), centred, atol=1e-4)


def test_roll_goes_around():
    x = normal(2, 3, 5, 4)
    roll = Roll((2, -1), (2, 3))
    moved = roll.forward(x)
    assert moved[0, 0, 2, 3] == x[0, 0, 0, 0]
    np.testing.assert_array_equal(roll.adjoint(moved), x)


RESAMPLED = {"image": ((2, 3, 6, 7), (2, 3)), "last": ((1, 6, 5, 2), (1, 2)), "series": ((1, 2, 9), (2,))}


@pytest.mark.parametrize("kind", RESAMPLED)
def test_resample_has_its_adjoint(kind):
    shape, spatial = RESAMPLED[kind]
    matrix = np.eye(len(spatial)) + 0.2 * normal(len(spatial), len(spatial))
    resample = Resample(matrix, shape, spatial)
    x, g = normal(*shape), normal(*shape, seed=1)
    forward = (resample.forward(x).astype(np.float64) * g).sum()
    assert (resample.adjoint(g).astype(np.float64) * x).sum() == pytest.approx(forward, rel=1e-5)


def test_resample_interpolates_as_pytorch_does():
    x, matrix = normal(1, 2, 9, 9), np.array([[0.6, 0.3], [-0.3, 0.6]])  # stays inside: nothing comes around
    theta = torch.tensor(matrix[::-1, ::-1].copy(), dtype=torch.float32)  # torch counts (x, y)
    grid = torch.nn.functional.affine_grid(
        torch.cat([theta, torch.zeros(2, 1)], 1)[None], (1, 2, 9, 9), align_corners=True
    )
    expected = torch.nn.functional.grid_sample(torch.tensor(x), grid, align_corners=True)
    assert_close(Resample(matrix, x.shape, (2, 3)).forward(x), expected.numpy(), 1e-5)


def test_transforms_are_drawn_within_their_ranges():
    random, shape = np.random.default_rng(0), (1, 3, 9, 9)
    rolls = [map for _ in range(200) for map in Transforms(jitter=2).draw(random, shape, (2, 3))]
    assert {shift for roll in rolls for shift in roll.shifts} == {-2, -1, 0, 1, 2}
    assert Transforms().draw(random, shape, (2, 3)) == []
    assert Transforms(jitter=5).draw(random, (1, 6), ()) == []
    maps = Transforms(jitter=1, scale=(0.9, 1.1), rotation=5).draw(random, shape, (2, 3))
    assert [type(map) for map in maps] == [Roll, Resample]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"jitter": -1}, "jitter=-1"), ({"scale": (1.1, 0.9)}, "scale="), ({"rotation": 200}, "rotation=200")],
)
def test_impossible_transforms(options, named):
    with pytest.raises(OptionError, match=named):
        Transforms(**options)


def test_rotation_needs_two_axes():
    with pytest.raises(OptionError, match="1 spatial axes"):
        Transforms(rotation=5).draw(np.random.default_rng(0), (1, 2, 9), (2,))
