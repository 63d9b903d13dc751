from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from onnxviz.errors import InputError, OptionError
from onnxviz.image import ImageInput


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


DESCRIPTIONS = [
    ImageInput((5, 7)),
    ImageInput((5, 7), layout="NHWC", mean=127, std=128),
    ImageInput((5, 7), channels="BGR", mean=(103.939, 116.779, 123.68)),
    ImageInput((5, 7), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ImageInput((5, 7), layout="NHWC", channels="BGR", scale=1 / 127.5, mean=1),
    ImageInput((5, 7), crop=1.0),
    ImageInput((5, 7), resize=(5, 7)),
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


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "area", "lanczos", "hamming"])
def test_shrinking_does_not_alias(interpolation):
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = ImageInput(50, interpolation=interpolation).fit(stripes)[:, 1:-1]  # filters are cut off at the edges
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
        ({"size": 8, "interpolation": "cubic"}, "interpolation"),
        ({"size": 8, "mean": (1, 2)}, "mean"),
        ({"size": 8, "mean": "a"}, "mean"),
        ({"size": 8, "std": 0}, "must not be 0"),
        ({"size": 8, "std": (1, float("nan"), 1)}, "std"),
        ({"size": 8, "scale": None}, "scale"),
        ({"size": (8, 10), "resize": 9}, "resize"),
        ({"size": (8, 10), "resize": (8, 9)}, "resize"),
        ({"size": 8, "resize": "short"}, "resize"),
        ({"size": 8, "crop": 0}, "crop"),
        ({"size": 8, "crop": 1.1}, "crop"),
        ({"size": 8, "crop": 0.9, "resize": 9}, "without resize"),
        ({"size": 8, "sizes": 8}, "did you mean 'size'"),
        ({"layout": "NCHW"}, "lacks 'size'"),
        ({"size": 2**15}, r"ImageInput.size is at most 268435456 pixels; got 32768 × 32768"),
        ({"size": 5, "resize": 10**30}, "ImageInput.resize is at most 268435456 pixels"),
        ({"size": 5, "resize": [5, 10**30]}, "ImageInput.resize is at most 268435456 pixels"),
        ({"size": 5, "resize": 4}, r"at least the size \(5, 5\) on both sides; got 4"),
    ],
)
def test_bad_descriptions_are_refused(fields, message):
    with pytest.raises(OptionError, match=message):
        ImageInput.from_dict(fields)


def test_a_picture_of_one_row_is_not_blown_up():
    with pytest.raises(InputError, match="a picture of 1 × 90000 pixels would be resized to 256 × 23040000: at most"):
        ImageInput(224, resize=256).fit(np.zeros((1, 90000, 3), np.uint8))


def photo(height, width):
    """Smooth colours with an edge, so that shifts and flips show."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * y / height, 255 * x / width, 128 + 100 * np.sin(x / 9 + y / 7)], axis=2)
    pixels[height // 3 : height // 2, width // 5 : width // 2] = (250, 10, 30)
    return pixels.astype(np.uint8)


def torchvision(image, resize, size, kernel):
    """Resize(resize) and CenterCrop(size) on an image of Pillow, after torchvision's reference."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new = (resize, int(resize * long / short))
    image = image.resize(new if width <= height else new[::-1], kernel)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def keras_keeping_proportions(image, size, kernel):
    """What keras.utils.load_img does with keep_aspect_ratio=True."""
    height, width = size
    cropped_height = min(image.height, image.width * height // width)
    cropped_width = min(image.width, image.height * width // height)
    top, left = (image.height - cropped_height) // 2, (image.width - cropped_width) // 2
    return image.crop((left, top, left + cropped_width, top + cropped_height)).resize((width, height), kernel)


def efficientnet(image, size, kernel):
    """The centre that EfficientNet's evaluation decodes, resized."""
    side = int(size / (size + 32) * min(image.size))
    top, left = (image.height - side + 1) // 2, (image.width - side + 1) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), kernel)


BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
FITS = {
    "torchvision": (ImageInput.preset("torchvision", 56), lambda i: torchvision(i, 64, 56, BILINEAR)),
    "a short side": (ImageInput(30, resize=41), lambda i: torchvision(i, 41, 30, BICUBIC)),
    "stretched, then cropped": (
        ImageInput((20, 30), resize=(30, 41)),
        lambda i: i.resize((41, 30), BICUBIC).crop((6, 5, 36, 25)),  # (41 - 30) / 2 is rounded to even
    ),
    "stretched": (ImageInput((20, 31), interpolation="bilinear"), lambda i: i.resize((31, 20), BILINEAR)),
    "nearest": (ImageInput(19, interpolation="nearest"), lambda i: i.resize((19, 19), Image.Resampling.NEAREST)),
    "efficientnet-lite": (ImageInput.preset("efficientnet-lite", 40), lambda i: efficientnet(i, 40, BICUBIC)),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(90, 132), (133, 90), (97, 97), (64, 301), (12, 20)], ids=str)
@pytest.mark.parametrize("name", FITS)
def test_fit_equals_the_reference(name, shape):
    description, reference = FITS[name]
    pixels = photo(*shape)
    np.testing.assert_array_equal(description.fit(pixels), np.asarray(reference(Image.fromarray(pixels))))


@pytest.mark.parametrize("shape", [(90, 135), (132, 90), (98, 99), (64, 300)], ids=str)
def test_crop_is_what_keras_calls_keeping_proportions(shape):
    """At sizes that leave an even rest: Keras rounds the corner of an odd one down, EfficientNet up."""
    pixels = photo(*shape)
    expected = keras_keeping_proportions(Image.fromarray(pixels), (24, 36), BILINEAR)
    description = ImageInput((24, 36), crop=1.0, interpolation="bilinear")
    np.testing.assert_array_equal(description.fit(pixels), np.asarray(expected))
