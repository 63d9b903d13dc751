from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps

from onnxviz.errors import OptionError
from onnxviz.plot.colours import DIVERGING, HEAT, SEQUENTIAL, Style, scale_of


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def test_one_sign_starts_at_zero():
    scale = scale_of(np.array([[2.0, 5.0]]))
    assert (scale.low, scale.high, scale.cmap) == (0, 5, SEQUENTIAL)


def test_both_signs_have_zero_in_the_middle():
    scale = scale_of(np.array([[-3.0, 1.0]]))
    assert (scale.low, scale.high, scale.cmap) == (-3, 3, DIVERGING)
    np.testing.assert_allclose(scale.paint(np.zeros((1, 1)))[0, 0], colormaps[DIVERGING](0.5)[:3])


def test_zeros_have_a_scale():
    scale = scale_of(np.zeros((2, 2)))
    assert (scale.low, scale.high) == (0, 1)


def test_unknown_colour_map():
    with pytest.raises(OptionError, match="'jett'"):
        scale_of(np.zeros((2, 2)), cmap="jett")


def test_blend_mixes_grey_and_colours(image):
    values = np.linspace(0, 2, 24).reshape(4, 6)
    grey = image @ np.array([0.299, 0.587, 0.114])
    colours = colormaps[HEAT](values / 2)[..., :3] * 255
    np.testing.assert_allclose(Style(alpha=0.25).lay(values, image), 0.75 * grey[..., None] + 0.25 * colours, atol=0.51)


def test_blend_of_nothing_is_half_the_grey_picture(image):
    laid = Style().lay(np.zeros((4, 6)), image)
    assert np.ptp(laid.astype(int), axis=-1).max() <= 2  # inferno's zero is not quite black
    np.testing.assert_allclose(laid[..., 0], image @ np.array([0.299, 0.587, 0.114]) / 2, atol=1)


def test_multiply_clips_at_percentiles():
    image = np.full((1, 101, 3), 200, np.uint8)
    values = np.arange(101.0)[None]
    laid = Style("multiply", clip=(10, 90)).lay(values, image)[0, :, 0]
    assert (laid[:11] == 0).all()
    assert (laid[90:] == 200).all()
    assert laid[50] == 100


def test_multiply_by_a_constant_map_is_finite(image):
    assert (Style("multiply").lay(np.ones((4, 6)), image) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "add"}, "mode"), ({"alpha": 1.5}, "alpha"), ({"clip": (90, 10)}, "clip"), ({"clip": (0, 101)}, "clip")],
)
def test_impossible_styles(options, message):
    with pytest.raises(OptionError, match=message):
        Style(**options)
