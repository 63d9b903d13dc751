"""What the ascent moves: spectra, their inverse and their derivative, colours, bounds, and the units of images."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.parameterization import Fourier, Pixels, Units
from onnxviz.image import ImageInput
from onnxviz.manifest import Axes, Input
from tests.algorithms.appended import appended
from tests.algorithms.ascent_in_numpy import Spectrum
from tests.support import assert_close, normal

IMAGE = ((2, 3, 8, 7), Axes(0, 1, (2, 3)), "RGB")
SPECTRA = {
    "image": IMAGE,
    "bgr last": ((1, 6, 9, 3), Axes(0, 3, (1, 2)), "BGR"),
    "series": ((2, 2, 11), Axes(0, 1, (2,)), None),
    "volume": ((1, 1, 4, 6, 5), Axes(0, 1, (2, 3, 4)), None),
    "no channels": ((2, 6, 5), Axes(0, None, (1, 2)), None),
}
LIMITS = (-128.0, 127.0)


def decoded(fourier, numbers):
    return appended(lambda add: fourier.decode(add, "numbers"), numbers=numbers)[0]


def spectrum_of(name, limits):
    """The parameterization, and its canvas."""
    shape, axes, colours = SPECTRA[name]
    canvas = Canvas.of(shape, axes)
    return Fourier(canvas, colours, limits), canvas


@pytest.mark.parametrize("limits", [None, LIMITS])
@pytest.mark.parametrize("name", SPECTRA)
def test_fourier_is_the_transform_its_inverse_and_its_derivative(name, limits):
    """Against the fast Fourier transform in float64. Products of n terms: n·2⁻²³ of the largest value."""
    fourier, canvas = spectrum_of(name, limits)
    shape, gradient = (2, *canvas.shape), normal(2, *canvas.shape, seed=2)
    bar = 2.0**-23 * sum(canvas.space)
    colours = SPECTRA[name][2]
    reference = Spectrum(shape, canvas.axes, 1 if colours else None, limits, colours)
    numbers = 20 * normal(*shape)
    expected = reference.decode(numbers.astype(np.float64))
    images = decoded(fourier, numbers)
    assert_close(images, expected, bar)
    again, pulled = appended(
        lambda add: [fourier.encode(add, "images"), fourier.pull(add, "images", "gradient")],
        images=images, gradient=gradient,
    )  # fmt: skip
    assert_close(again, reference.encode(images.astype(np.float64)), 4 * bar)
    assert_close(pulled, reference.pull(images.astype(np.float64), gradient), bar)
    if limits is None:
        assert_close(again, numbers, 4 * bar)


def test_the_pull_is_the_slope():
    """Along a direction, by a central difference."""
    fourier, canvas = spectrum_of("image", LIMITS)
    shape = (2, *canvas.shape)
    numbers, direction, gradient = 20 * normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2)
    h = 2.0**-6
    change = (decoded(fourier, numbers + h * direction) - decoded(fourier, numbers - h * direction)) / (2 * h)
    images = decoded(fourier, numbers)
    (pulled,) = appended(lambda add: fourier.pull(add, "x", "g"), x=images, g=gradient)
    assert (pulled * direction).sum() == pytest.approx((change * gradient).sum(), rel=5e-3)


def test_fourier_holds_images_within_limits_and_natural_noise_among_them():
    fourier, canvas = spectrum_of("image", LIMITS)
    wild = decoded(fourier, 1000 * normal(2, *canvas.shape))
    assert wild.min() >= -128
    assert wild.max() <= 127
    many = decoded(Fourier(Canvas((3,), (32, 32), (0, 1, 2, 3)), "RGB", None), 10 * normal(50, 3, 32, 32))
    assert many.std() == pytest.approx(10, rel=0.1)
    neighbours = np.corrcoef(many[..., 1:].ravel(), many[..., :-1].ravel())[0, 1]
    assert neighbours > 0.6, "of white noise it is 0"


def test_colours_follow_the_order_of_channels():
    canvas, numbers = Canvas((3,), (8, 8), (0, 1, 2, 3)), normal(1, 3, 8, 8)
    rgb, bgr = (decoded(Fourier(canvas, colours, None), numbers) for colours in ("RGB", "BGR"))
    np.testing.assert_allclose(rgb, bgr[:, ::-1], rtol=1e-6)


def test_pixels_are_clipped():
    for limits, expected in (((-1.0, 2.0), [[-1, 1, 2]]), (None, [[-5, 1, 7]])):
        (images,) = appended(
            lambda add, limits=limits: add("Identity", Pixels(limits).decode(add, "x")), x=np.float32([[-5, 1, 7]])
        )
        assert images.tolist() == expected


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_units_are_grey_levels(layout):
    image = ImageInput(4, layout=layout, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), scale=1 / 255, channels="BGR")
    units = Units.of(Input("x", "x", "float32", ("N", 3, 4, 4), Axes(0, 1, (2, 3)), image=image.to_dict()))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    centred = pixels[..., ::-1].astype(np.float32) - 128
    centred = centred.transpose(0, 3, 1, 2) if layout == "NCHW" else centred
    np.testing.assert_allclose(units.input(centred), image.encode(pixels), atol=1e-5)
    np.testing.assert_allclose(units.images(image.encode(pixels)), centred, atol=1e-4)


def test_canvases_put_space_last():
    x = normal(2, 5, 6, 3)
    canvas = Canvas.of(x.shape, Axes(0, 3, (1, 2)))
    assert (canvas.rest, canvas.space, canvas.axes, canvas.spatial, canvas.size) == ((3,), (5, 6), (2, 3), (1, 2), 90)
    np.testing.assert_array_equal(canvas.inward(x), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(canvas.outward(canvas.inward(x)), x)
