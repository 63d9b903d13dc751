from __future__ import annotations

import keras
import numpy as np
import pytest

from onnxviz.errors import OptionError
from onnxviz.image import ImageInput


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)


APPLICATIONS = {
    "keras-tf": keras.applications.mobilenet_v2,
    "keras-torch": keras.applications.densenet,
    "keras-caffe": keras.applications.vgg16,
    "keras-raw": keras.applications.efficientnet,
}


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_modes_of_keras_applications(name, layout, pixels):
    stored = pixels if layout == "NHWC" else pixels.transpose(2, 0, 1)
    data_format = "channels_last" if layout == "NHWC" else "channels_first"
    expected = APPLICATIONS[name].preprocess_input(stored[None].astype(np.float32), data_format=data_format)
    found = ImageInput.preset(name, 6, layout=layout).read(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_torchvision_is_the_formula_of_its_models(pixels):
    description = ImageInput.preset("torchvision")
    assert (description.size, description.resize, description.interpolation) == ((224, 224), 256, "bilinear")
    assert ImageInput.preset("torchvision", 299).resize == 342
    big = np.repeat(np.repeat(pixels, 50, 0), 50, 1)
    x = description.read(big)
    expected = (description.fit(big) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x[0], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_efficientnet_lite(pixels):
    description = ImageInput.preset("efficientnet-lite", 260)
    assert description.crop == 260 / 292
    assert description.interpolation == "bicubic"
    big = np.repeat(np.repeat(pixels, 60, 0), 60, 1)
    np.testing.assert_allclose(description.read(big)[0, 0], (description.fit(big)[..., 0] - 127.0) / 128, atol=1e-6)


def test_changes_and_refusals():
    assert ImageInput.preset("keras-tf", (4, 6), layout="NCHW", interpolation="nearest").size == (4, 6)
    with pytest.raises(OptionError, match=r"no preset 'keras-tff'.*keras-caffe.*did you mean 'keras-tf'"):
        ImageInput.preset("keras-tff")
    with pytest.raises(OptionError, match="no field 'lay'"):
        ImageInput.preset("keras-tf", lay="NCHW")
