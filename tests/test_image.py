from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from onnxviz.errors import InputError, OptionError
from onnxviz.image import ImageInput, read_pixels, resize_linear


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


DESCRIPTIONS = [
    ImageInput((5, 7)),
    ImageInput((5, 7), layout="NHWC", mean=127, std=128),
    ImageInput((5, 7), channels="BGR", mean=(103.939, 116.779, 123.68)),
    ImageInput((5, 7), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ImageInput((5, 7), layout="NHWC", channels="BGR", scale=1 / 127.5, mean=1),
]


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=str)
def test_pixels_are_the_exact_inverse(description, pixels):
    x = description.read(pixels)
    assert x.dtype == np.float32
    assert x.shape == ((1, 3, 5, 7) if description.layout == "NCHW" else (1, 5, 7, 3))
    np.testing.assert_array_equal(description.pixels(x), pixels[None])


def test_every_pixel_value_survives_there_and_back():
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    description = ImageInput(16, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    np.testing.assert_array_equal(description.pixels(description.encode(ramp))[0], ramp)


def test_the_formula_and_the_order_of_channels(pixels):
    x = ImageInput((5, 7), channels="BGR", scale=0.5, mean=(1, 2, 3), std=(4, 5, 6)).read(pixels)
    for channel, (source, mean, std) in enumerate([(2, 1, 4), (1, 2, 5), (0, 3, 6)]):
        np.testing.assert_allclose(x[0, channel], (pixels[..., source] * 0.5 - mean) / std, rtol=1e-6)


def test_luma(pixels):
    description = ImageInput((5, 7), channels="L", scale=1 / 255)
    x = description.read(pixels)
    assert x.shape == (1, 1, 5, 7)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    seen = description.pixels(x)[0]
    assert np.abs(seen[..., 0].astype(int) - grey).max() <= 1  # OpenCV computes in fixed point
    np.testing.assert_array_equal(seen[..., 0], seen[..., 2])


def test_encode_takes_a_batch_of_the_right_size_only(pixels):
    description = ImageInput((5, 7))
    assert description.encode(np.stack([pixels, pixels])).shape == (2, 3, 5, 7)
    with pytest.raises(InputError, match=r"uint8 RGB pixels \(5, 7, 3\).*uint8 \(7, 5, 3\)"):
        description.encode(pixels.transpose(1, 0, 2))
    with pytest.raises(InputError, match="float64"):
        description.encode(pixels / 255)


def test_pixels_refuses_another_layout(pixels):
    description = ImageInput((5, 7))
    with pytest.raises(InputError, match=r"NCHW with 3 channels.*\(1, 5, 7, 3\)"):
        description.pixels(pixels[None])


@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
def test_resize_keeps_the_centre(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    middle = slice(shape[0] // 2 - 10, shape[0] // 2 + 10), slice(shape[1] // 2 - 10, shape[1] // 2 + 10)
    picture[middle] = 200
    seen = ImageInput(20, resize=40).fit(picture)
    assert seen.shape == (20, 20, 3)
    assert (seen == 200).all()
    assert (ImageInput(20).fit(picture) == 0).any()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "area"])
def test_shrinking_does_not_alias(interpolation):
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = ImageInput(50, interpolation=interpolation).fit(stripes)
    assert seen.min() >= 127
    assert seen.max() <= 129


def test_json():
    for description in DESCRIPTIONS:
        text = json.dumps(description.to_dict())
        assert ImageInput.from_dict(json.loads(text)) == description


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": (3, 4, 5)}, "size"),
        ({"size": True}, "size"),
        ({"size": 8, "layout": "CHW"}, "layout"),
        ({"size": 8, "channels": "GRB"}, "channels"),
        ({"size": 8, "interpolation": "lanczos"}, "interpolation"),
        ({"size": 8, "mean": (1, 2)}, "mean"),
        ({"size": 8, "mean": "a"}, "mean"),
        ({"size": 8, "std": 0}, "must not be 0"),
        ({"size": 8, "std": (1, float("nan"), 1)}, "std"),
        ({"size": 8, "scale": None}, "scale"),
        ({"size": (8, 10), "resize": 9}, "resize"),
        ({"size": 8, "sizes": 8}, "did you mean 'size'"),
        ({"layout": "NCHW"}, "lacks 'size'"),
    ],
)
def test_bad_descriptions_are_refused(fields, message):
    with pytest.raises(OptionError, match=message):
        ImageInput.from_dict(fields)


def write(path, pixels):
    """Pixels in OpenCV's BGR(A) order into a file."""
    assert cv2.imwrite(str(path), pixels)
    return path


def test_files_are_read_in_rgb(tmp_path, pixels):
    path = write(tmp_path / "a.png", pixels[..., ::-1])
    np.testing.assert_array_equal(read_pixels(path), pixels)
    np.testing.assert_array_equal(read_pixels(str(path)), pixels)


def test_grey_and_sixteen_bits(tmp_path):
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for picture in (ramp.astype(np.uint8), ramp * 257):
        for source in (picture, write(tmp_path / "a.png", picture)):
            np.testing.assert_array_equal(read_pixels(source), np.repeat(ramp[..., None], 3, axis=2))
    deep = np.stack([ramp * 257, ramp, ramp], axis=2)
    np.testing.assert_array_equal(read_pixels(write(tmp_path / "b.png", deep[..., ::-1]))[..., 0], ramp)


def test_transparency_lies_over_white(tmp_path):
    picture = np.zeros((1, 3, 4), np.uint8)
    picture[..., 0] = 100
    picture[0, :, 3] = (0, 51, 255)
    expected = np.array([[[255, 255, 255], [224, 204, 204], [100, 0, 0]]])
    np.testing.assert_array_equal(read_pixels(picture), expected)
    np.testing.assert_array_equal(read_pixels(write(tmp_path / "a.png", picture[..., [2, 1, 0, 3]])), expected)


def jpeg_with_orientation(pixels, orientation):
    """A JPEG whose EXIF block holds one entry: tag 0x0112, the orientation."""
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


def test_exif_orientation_is_applied(tmp_path):
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with_orientation(picture, 1))
    assert read_pixels(path).shape == (16, 32, 3)
    path.write_bytes(jpeg_with_orientation(picture, 6))  # to be turned by a quarter to the right
    turned = read_pixels(path)
    assert turned.shape == (32, 16, 3)
    assert turned[:16].min() > 200
    assert turned[16:].max() < 50


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png.*not a picture"):
        read_pixels(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="cannot read the picture"):
            read_pixels(path)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_array_of_pixels(array):
    with pytest.raises(InputError, match="the array has"):
        read_pixels(array)


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
