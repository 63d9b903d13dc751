from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxviz.image import ImageInput, View, resize_linear


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [((5,), (13,), "linear"), ((4, 7), (9, 3), "bilinear"), ((3, 4, 5), (5, 7, 2), "trilinear")],
)
def test_resize_linear_equals_torch(shape, size, mode):
    values = np.random.default_rng(0).standard_normal((2, 3, *shape))
    axes = range(2, values.ndim)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values), size, mode=mode, align_corners=False)
    np.testing.assert_allclose(resize_linear(values, size, axes), expected, atol=1e-6)
    np.testing.assert_allclose(
        resize_linear(np.moveaxis(values, 1, -1), size, [axis - 1 for axis in axes]),
        np.moveaxis(expected.numpy(), 1, -1),
        atol=1e-6,
    )


def test_a_view_of_all_is_a_resize():
    values = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(View((9, 30)).place(values, (1, 2)), resize_linear(values, (9, 30), (1, 2)))


def test_whole_pixels_are_laid_where_they_were():
    values = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
    expected = np.zeros((5, 8))
    expected[2:4, 1:4] = values
    np.testing.assert_allclose(View((5, 8), (0.4, 0.125, 0.8, 0.5)).place(values, (0, 1)), expected, atol=1e-6)


SEEN = [
    ImageInput((40, 60)),
    ImageInput(40, resize=50),
    ImageInput((40, 60), resize=64),
    ImageInput((40, 60), resize=(80, 64)),
    ImageInput((40, 60), crop=0.7),
    ImageInput(40, crop=1.0, interpolation="bilinear"),
]


@pytest.mark.parametrize("picture", [(120, 170), (175, 120), (31, 44)], ids=str)
@pytest.mark.parametrize("description", SEEN, ids=str)
def test_what_the_network_sees_comes_back_to_its_place(description, picture):
    """A picture of its own coordinates, through the network's eyes and back, tells each pixel where it is."""
    height, width = picture
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([y, x, np.zeros_like(x)], axis=2).astype(np.uint8)
    view = description.view(picture)
    back = view.place(description.fit(pixels)[..., :2], (0, 1))
    rows, columns = view.covered
    rim = 2 + 2 * max(picture) // 40  # filters are cut off at edges
    inner = slice(rows.start + rim, rows.stop - rim), slice(columns.start + rim, columns.stop - rim)
    for axis, expected in enumerate((y, x)):
        assert np.abs(back[..., axis][inner] - expected[inner]).max() <= 1.01  # whole levels of grey
        assert abs((back[..., axis][inner] - expected[inner]).mean()) <= 0.51
    outside = np.ones(picture, bool)
    outside[rows, columns] = False
    assert (back[outside] == 0).all()
