from __future__ import annotations

import json
import os

import keras
import numpy as np
import onnx
import pytest
import torch

import onnxviz as ov
from tests.support import mlp, nhwc


@pytest.fixture
def pictured(folder):
    """A plain ONNX file that takes pictures (N, 9, 11, 3) and has four classes."""
    onnx.save(nhwc()[0], folder / "plain.onnx")
    return folder / "plain.onnx"


NAMES = ["cat", "dog", "cow", "owl"]


def test_options_for_pictures_and_classes(pictured, folder, call):
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    code, out, err = call(
        "convert", pictured, "net.onnx", "--preset", "keras-tf", "-i", "size=[9,11]", "-i", "interpolation=nearest",
        "--classes", "names.txt",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith("net.onnx: onnx, ")
    explainer = ov.load("net.onnx")
    assert explainer.image_input == ov.ImageInput.preset("keras-tf", (9, 11), interpolation="nearest")
    assert explainer.classes == tuple(NAMES)
    assert call("explain", "net.onnx", "photos/red.png", "-t", "owl")[0] == 0


CLASSES = {
    "a list": NAMES,
    "indices": {str(i): name for i, name in enumerate(NAMES)},
    "indices with identifiers": {str(i): [f"n{i}", name] for i, name in enumerate(NAMES)},
    "a transformers config": {"id2label": {str(i): name for i, name in enumerate(NAMES)}},
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_in_json(kind, pictured, folder, call):
    (folder / "names.json").write_text(json.dumps(CLASSES[kind]))
    assert call("convert", pictured, "net.onnx", "--classes", "names.json")[0] == 0
    assert ov.load("net.onnx").classes == tuple(NAMES)


TOML = """
classes = ["cat", "dog", "cow", "owl"]
layers = ["act"]
[image]
preset = "keras-raw"
size = [9, 11]
std = 2
"""


@pytest.mark.parametrize("form", ["toml", "json", "toml, names in a file"])
def test_a_configuration(form, pictured, folder, call):
    import tomllib

    (folder / "sub").mkdir()
    (folder / "sub" / "names.txt").write_text("\n".join(NAMES))
    text = TOML.replace(str(NAMES).replace("'", '"'), '"names.txt"') if "file" in form else TOML
    path = folder / "sub" / ("net.json" if form == "json" else "net.toml")
    path.write_text(json.dumps(tomllib.loads(text)) if form == "json" else text)
    assert call("convert", pictured, "net.onnx", "--config", path, "-i", "std=4")[0] == 0
    explainer = ov.load("net.onnx")
    assert explainer.image_input == ov.ImageInput.preset("keras-raw", (9, 11), std=4)
    assert explainer.classes == tuple(NAMES)
    assert [layer.name for layer in explainer.layers] == ["act"]


def test_a_processor_of_transformers(pictured, folder, call):
    config = {"size": {"height": 9, "width": 11}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    assert call("convert", pictured, "net.onnx", "--processor", folder, "-i", "layout=NHWC")[0] == 0
    expected = ov.ImageInput((9, 11), "NHWC", 0.5, 0.25, 1 / 255, interpolation="bilinear")
    assert ov.load("net.onnx").image_input == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, when it saves
def test_every_kind_of_file(call):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    model.save("k.keras")
    model.save("k.h5")
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(2, 3),)), "t.pt2")
    onnx.save(mlp(), "o.onnx")
    for source, framework in (("k.keras", "keras"), ("k.h5", "keras"), ("t.pt2", "pytorch"), ("o.onnx", "onnx")):
        code, found, _ = call("convert", source, "net.onnx", "--json")
        assert code == 0
        assert found["residuals"]["values"] <= 1e-5
        assert found == call("info", "net.onnx", "--json")[1]
        assert ov.load("net.onnx").metadata["framework"] == framework


def test_example_gradient_and_layers(pictured, call):
    np.save("x.npy", np.full((2, 9, 11, 3), 7, np.float32))
    assert call("convert", pictured, "net.onnx", "--example", "x.npy", "--gradient", "none", "--layer", "ac*")[0] == 0
    explainer = ov.load("net.onnx")
    assert explainer.residuals["recipe"]["pixels"]["mean"] == 7
    assert [(layer.name, layer.has_gradient) for layer in explainer.layers] == [("act", False)]


REFUSED = {
    "no file": (["none.onnx", "net.onnx"], "there is no file none.onnx"),
    "another kind": (["photos/red.png", "net.onnx"], "files of kind .png are not taken"),
    "a preset": (["plain.onnx", "net.onnx", "--preset", "keras"], "no preset 'keras'"),
    "two preparations": (["plain.onnx", "net.onnx", "--preset", "keras-tf", "--processor", "x"], "give one"),
    "a field": (["plain.onnx", "net.onnx", "-i", "size=9", "-i", "meen=3"], "did you mean 'mean'"),
    "too few classes": (["plain.onnx", "net.onnx", "--classes", "three.txt"], "3 class names for 4"),
    "a missing index": (["plain.onnx", "net.onnx", "--classes", "hole.json"], "has a name for each index from 0 on"),
    "a configuration's key": (["plain.onnx", "net.onnx", "--config", "bad.toml"], "'class'; did you mean 'classes'"),
    "no TOML": (["plain.onnx", "net.onnx", "--config", "none.toml"], "is no TOML"),
    "a pipe of classes": (["plain.onnx", "net.onnx", "--classes", "pipe"], "pipe is not a file"),
    "a device": (["plain.onnx", "net.onnx", "--config", "/dev/zero"], "/dev/zero is not a file"),
    "deep JSON": (["plain.onnx", "net.onnx", "--config", "deep.json"], "is no JSON: maximum recursion depth"),
    "deep TOML": (["plain.onnx", "net.onnx", "--config", "deep.toml"], "is no TOML: maximum recursion depth"),
    "a number of classes": (["plain.onnx", "net.onnx", "--classes", "4.json"], "is a list of names"),
    "a name of no letters": (["plain.onnx", "net.onnx", "--classes", "empty.json"], "none of them empty"),
    "no folder": (["plain.onnx", "x/net.onnx"], "there is no folder x"),
    "no text": (["plain.onnx", "net.onnx", "--classes", "photos/red.png"], "is no text in UTF-8"),
    "a missing file": (["plain.onnx", "net.onnx", "--classes", "no.txt"], "there is no file no.txt"),
    "an image that is no table": (["plain.onnx", "net.onnx", "--config", "image.toml"], "image is a table of fields"),
    "classes that are none": (["plain.onnx", "net.onnx", "--config", "classes.json"], "classes is a list of names"),
    "no example": (["plain.onnx", "net.onnx", "--example", "three.txt"], "is no .txt file of numbers"),
}


@pytest.mark.usefixtures("pictured")
@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(case, folder, call):
    (folder / "three.txt").write_text("a\nb\nc")
    (folder / "hole.json").write_text('{"0": "a", "2": "b"}')
    (folder / "bad.toml").write_text("class = []")
    (folder / "none.toml").write_text("= 3")
    (folder / "deep.json").write_text("[" * 10**5)
    (folder / "deep.toml").write_text("x = " + "[" * 10**5)
    (folder / "4.json").write_text("4")
    (folder / "empty.json").write_text('["a", [], "c", "d"]')
    os.mkfifo(folder / "pipe")
    (folder / "image.toml").write_text('image = "torchvision"')
    (folder / "classes.json").write_text('{"classes": 3}')
    arguments, message = REFUSED[case]
    code, _, err = call("convert", *arguments)
    assert code == 1
    assert message in err
    assert not (folder / "net.onnx").exists()
