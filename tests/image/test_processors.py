from __future__ import annotations

import json

import numpy as np
import pytest
import transformers
from PIL import Image

from onnxviz.errors import InputError, OptionError
from onnxviz.image import ImageInput

SIZES = [(300, 300), (300, 400), (400, 300)]
"""Of pictures whose rest after resizing has its centre where both roundings put it."""
PROCESSORS = {
    "ViT": {},
    "ViT, 4 bits of options": {"size": {"height": 32, "width": 48}, "do_normalize": False, "resample": 3},
    "ViT, raw": {"do_rescale": False, "do_normalize": False, "resample": 0},
    "CLIP": {},
    "Siglip": {},
    "DeiT": {},
    "Beit": {},
    "ConvNext": {"size": {"shortest_edge": 224}},
    "ConvNext, large": {"size": {"shortest_edge": 384}},
    "Levit": {},
    "PoolFormer": {},
    "MobileNetV2": {},
    "MobileViT": {"size": {"shortest_edge": 288}},
    "BiT": {"class": "Bit"},
    "EfficientNet": {},
    "EfficientNet, offset": {"rescale_offset": True, "include_top": False, "do_center_crop": True},
}


def processor(name):
    options = dict(PROCESSORS[name])
    kind = options.pop("class", name.partition(",")[0])
    return getattr(transformers, f"{kind}ImageProcessorPil")(**options)


@pytest.fixture(scope="module")
def photo():
    y, x = np.mgrid[:500, :500]
    pixels = np.stack([y / 2, x / 2, 128 + 100 * np.sin(x / 9 + y / 7)], axis=2).astype(np.uint8)
    pixels[100:150, 60:200] = (250, 10, 30)
    return pixels


@pytest.mark.parametrize("name", PROCESSORS)
def test_equals_the_processor(name, photo, tmp_path):
    theirs = processor(name)
    ours = ImageInput.from_processor(theirs)
    theirs.save_pretrained(tmp_path)
    assert ImageInput.from_processor(tmp_path) == ours
    assert ImageInput.from_processor(json.loads((tmp_path / "preprocessor_config.json").read_text())) == ours
    for height, width in SIZES:
        pixels = photo[:height, :width]
        expected = theirs(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(ours.read(pixels), expected, rtol=1e-5, atol=2e-6)


OLD = [
    ({"feature_extractor_type": "ViTFeatureExtractor", "size": 224}, {"size": (224, 224), "resize": None}),
    ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "do_center_crop": True},
     {"size": (224, 224), "resize": 224}),
    ({"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, "do_center_crop": True},
     {"size": (224, 224), "resize": (256, 256)}),
    ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875},
     {"size": (224, 224), "resize": 256}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), OLD)
def test_configurations_with_a_single_number(config, expected):
    found = ImageInput.from_processor({**config, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    assert {name: getattr(found, name) for name in expected} == expected


REFUSED = {
    "padding": ({"do_pad": True}, "do_pad=True"),
    "multiples": ({"size_divisor": 32}, "size_divisor=32"),
    "longest edge": ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, "longest_edge"),
    "no crop": ({"size": {"shortest_edge": 224}}, "does not crop"),
    "no size": ({"do_resize": False}, "does not resize"),
    "no mean": ({"image_mean": None}, "no image_mean"),
    "another filter": ({"resample": 9}, "resample=9"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_described_is_refused(case):
    config = {"image_processor_type": "X", "size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    changes, message = REFUSED[case]
    with pytest.raises(OptionError, match=message):
        ImageInput.from_processor(config | changes)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"preprocessor_config\.json.*No such file"):
        ImageInput.from_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        ImageInput.from_processor(tmp_path)
    with pytest.raises(OptionError, match="an image processor is"):
        ImageInput.from_processor(3)
