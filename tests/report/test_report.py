"""What stands in a report, without a browser: the numbers are the engine's, and nothing can break out of its place."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import onnxviz as ov
from onnxviz.algorithms.registry import METHODS
from onnxviz.errors import FileFormatError, InputError, LayerError, OptionError, TargetError
from onnxviz.report import encoding
from onnxviz.report.answers import TITLES, USUAL
from tests.support import convert, nhwc

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"quoted\" & 'single'",
    "${policy}",
    "\u2028é\ud800",
]


@pytest.fixture
def written(tmp_path):
    """Write a report; the result, and what the page shows."""

    def write(explainer, inputs, *arguments, **options):
        path = tmp_path / "report.html"
        result = explainer.report(inputs, path, *arguments, **options)
        assert (result.path, result.bytes) == (path, path.stat().st_size)
        return result, content(path)

    return write


def content(path: Path) -> dict:
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', path.read_text(), re.DOTALL)[1])


def decoded(shown: dict) -> np.ndarray:
    """A map's numbers, by what its greys mean."""
    kind, data = shown["image"].removeprefix("data:image/").split(";base64,")
    assert kind == "png"
    greys = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float)
    return shown["high"] * ((greys - 128) / 127 if shown["signed"] else greys / 255)


# ----- numbers -----


@pytest.mark.parametrize("method", USUAL)
def test_maps_are_the_engine_s(method, pictured, written):
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    _, shown = written(pictured, x, [method], percentile=None)
    for n, sample in enumerate(shown["samples"]):
        (found,) = sample["methods"]
        assert (found["title"], len(found["maps"])) == (TITLES[method], 3)
        classes = [index for index, _, _ in pictured.top(x[n : n + 1], 3)[0]]
        expected = pictured.explain(x[n : n + 1], method, [classes])
        for each, values, score in zip(found["maps"], expected.maps()[0], expected.score[0], strict=True):
            assert each["high"] == each["largest"] == pytest.approx(np.abs(values).max())
            np.testing.assert_allclose(decoded(each), values, atol=0.51 * each["high"] / 127)
            assert each["score"] == pytest.approx(score)


def test_predictions_are_the_engine_s(pictured, written):
    x = np.random.default_rng(1).normal(size=(1, 3, 12, 12)).astype(np.float32)
    _, shown = written(pictured, x, ["saliency"], k=2)
    (sample,) = shown["samples"]
    expected = pictured.top(x, 5)[0]
    assert [(one["name"], one["probability"]) for one in sample["classes"]] == [
        (name, pytest.approx(probability)) for _, name, probability in expected
    ]
    assert [one["map"] for one in sample["classes"]] == [0, 1, None, None, None]


CURVES = {"short": np.sin(np.arange(50)), "long": np.sin(np.arange(9000) / 700)}


@pytest.mark.parametrize("case", CURVES)
def test_curves_keep_their_ends(case):
    found = np.array(encoding.curve(CURVES[case]))
    assert len(found) <= encoding.POINTS
    np.testing.assert_allclose([found.min(), found.max()], [CURVES[case].min(), CURVES[case].max()], rtol=1e-3)
    places = np.linspace(0, len(CURVES[case]) - 1, len(found)).round().astype(int)
    np.testing.assert_allclose(found, CURVES[case][places], atol=0.02)


MAPS = {
    "zero": (np.zeros((4, 5)), None, {"signed": False, "high": 0.0, "largest": 0.0}),
    "clipped": (np.arange(101.0).reshape(1, -1), 90, {"signed": False, "high": 90.0, "largest": 100.0}),
    "mostly zero": (np.eye(1, 50), 90, {"signed": False, "high": 1.0, "largest": 1.0}),
    "not finite": (np.array([[np.nan, np.inf, 2, -np.inf]]), None, {"signed": False, "high": 2.0, "lost": 3}),
    "negative": (-np.ones((2, 2)), 99, {"signed": True, "high": 1.0, "largest": 1.0}),
}


@pytest.mark.parametrize("case", MAPS)
def test_maps_become_greys(case):
    values, percentile, expected = MAPS[case]
    found = encoding.colour_map(values.astype(np.float32), percentile)
    assert {name: found[name] for name in expected} == expected
    values = np.where(np.isfinite(values), values, 0)
    np.testing.assert_allclose(decoded(found), np.clip(values, -found["high"], found["high"]), atol=found["high"] / 250)


def test_large_pictures_and_maps_become_smaller():
    values = np.linspace(0, 1, 1000, dtype=np.float32)[None].repeat(500, 0)
    found = decoded(encoding.colour_map(values, None))
    assert found.shape == (160, 320)
    np.testing.assert_allclose(found[0], np.linspace(0, 1, 320), atol=0.01)
    uri = encoding.picture(np.full((2000, 1000, 3), 77, np.uint8))
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert image.shape == (800, 400, 3)
    assert np.abs(image - 77.0).max() <= 2


def test_the_model_is_described(pictured, written):
    _, shown = written(pictured, np.zeros((1, 3, 12, 12), np.float32), ["saliency"])
    card, facts = dict(shown["card"]), dict(shown["facts"])
    numbers = sum(
        parameter.size for parameter in (np.ones((6, 3, 3, 3)), np.ones(6), np.ones((8, 6, 3, 3)), np.ones(8))
    )
    assert facts["Parameters"] == f"{numbers + 5 * 288 + 5:,}"
    assert card["File"].endswith("opset 18, IR 10")
    assert card["Inputs"] == "image float32 N × 3 × 12 × 12"
    assert dict(shown["preparation"])["std"] == "0.2, 0.25, 0.3"
    assert [row[0] for row in shown["layers"]] == [layer.name for layer in pictured.layers]
    assert [float(row[-1]) for row in shown["layers"]] == [
        pytest.approx(pictured.residuals["layers"][layer.name], rel=0.06) for layer in pictured.layers
    ]
    versions = {name: at for name, at, _ in shown["versions"]}
    assert {**versions, **pictured.metadata["versions"]} == versions


def test_every_method_has_a_title():
    assert TITLES.keys() == METHODS.keys()


# ----- targets -----

X = np.random.default_rng(2).normal(size=(2, 3, 12, 12)).astype(np.float32)
# target → the classes that maps are of, for each of two samples
TARGETS = {
    "one class": (3, [[3], [3]]),
    "one per sample": ([0, 2], [[0], [2]]),
    "several": ([[0, 2]], [[0, 2], [0, 2]]),
    "several per sample": ([[0, 2], [1, 4]], [[0, 2], [1, 4]]),
    "from the end": (-1, [[4], [4]]),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets(case, cnn, written):
    target, expected = TARGETS[case]
    _, shown = written(cnn.explainer, X, ["gradient"], target)
    for sample, classes in zip(shown["samples"], expected, strict=True):
        explained = {one["map"]: one["name"] for one in sample["classes"] if one["map"] is not None}
        assert [explained[t] for t in range(len(classes))] == [f"class {index}" for index in classes]
        assert len(sample["methods"][0]["maps"]) == len(classes)


def test_a_weighting(cnn, written):
    weights = np.array([1, -1, 0, 0, 0], np.float32)
    _, shown = written(cnn.explainer, X, ["gradient"], weights, percentile=None)
    expected = cnn.explainer.gradient(X, weights).maps()
    for sample, values in zip(shown["samples"], expected, strict=True):
        assert sample["classes"][0] == {"name": "the weighting that was given", "probability": None, "map": 0}
        np.testing.assert_allclose(decoded(sample["methods"][0]["maps"][0]), values[0], atol=np.abs(values).max() / 250)


# ----- inputs -----


def test_photos_of_any_size_with_the_part_that_was_seen(tmp_path, written):
    image = ov.ImageInput(12, scale=1 / 255, resize=16)
    explainer = ov.load(convert("cnn", tmp_path / "net.onnx", input=image), providers="cpu", threads=1)
    photos = [
        np.random.default_rng(n).integers(0, 256, size, np.uint8) for n, size in enumerate([(40, 30, 3), (16, 90)])
    ]
    Image.fromarray(photos[0]).save(tmp_path / "tall.png")
    _, shown = written(explainer, [tmp_path / "tall.png", photos[1]], ["grad_cam"])
    first, second = shown["samples"]
    assert (first["name"], second["name"]) == ("tall.png", "Input 2")
    assert (first["width"], first["height"]) == (30, 40)
    np.testing.assert_allclose(first["part"], image.view((40, 30)).part)
    assert first["notes"] == ["The network saw the framed part of the picture."]
    expected = explainer.grad_cam(explainer.read_image(photos[1]), explainer.top(photos[1], 1)[0][0][0])
    assert second["methods"][0]["maps"][0]["largest"] == pytest.approx(expected.values.max(), rel=1e-5)


# network → what is drawn, and what its maps are of
NETWORKS = {
    "cnn": ("picture", {"class 0", "class 1", "class 2", "class 3", "class 4"}),
    "series": ("series", {"class 0"}),
    "segmenter": ("picture", {"class 0", "class 1", "class 2", "class 3"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_kinds(name, subjects, written):
    subject, (kind, known) = subjects(name), NETWORKS[name]
    result, shown = written(subject.explainer, subject.x(2), ["grad_cam", "gradient"], names=["<b>", "b"])
    assert (result.inputs, result.methods) == (("<b>", "b"), ("grad_cam", "gradient"))
    assert [(sample["name"], sample["kind"]) for sample in shown["samples"]] == [("<b>", kind), ("b", kind)]
    for sample in shown["samples"]:
        explained = {one["name"] for one in sample["classes"] if one["map"] is not None}
        assert explained <= known
        assert [len(method["maps"]) for method in sample["methods"]] == [len(explained)] * 2


def test_arrays_are_drawn_between_their_ends(tmp_path, written):
    """Channels last, in a file that does not describe its pictures."""
    onnx.save(nhwc()[0], tmp_path / "plain.onnx")
    explainer = ov.load(ov.convert(tmp_path / "plain.onnx", tmp_path / "net.onnx", quiet=True), threads=1)
    x = np.random.default_rng(3).normal(size=(1, 9, 11, 3)).astype(np.float32)
    _, shown = written(explainer, x, ["gradient"])
    (sample,) = shown["samples"]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["image"].partition(",")[2]))), float)
    assert image.shape == x.shape[1:]
    np.testing.assert_allclose(image, 255 * (x[0] - x.min()) / np.ptp(x), atol=0.51)
    assert f"{x.min():.3g} (dark)" in sample["notes"][0]


def test_what_has_no_answer_is_told(tmp_path, written):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(2 * 36, 2)
    )
    path = ov.convert(network, tmp_path / "net.onnx", example=torch.zeros(1, 1, 8, 8), quiet=True)
    result, shown = written(ov.load(path, threads=1), np.ones((1, 1, 8, 8), np.float32))
    assert result.methods == ("grad_cam", "integrated_gradients", "saliency")
    assert shown["leftOut"] == result.left_out
    assert "rectif" in result.left_out["guided_backprop"]
    assert repr(result).endswith(
        f"report.html: 1 input, grad_cam, integrated_gradients, saliency, {result.bytes / 2**10:.1f} KiB"
    )


REFUSED = {
    "a volume": ("volume", {}, InputError, "pictures of 1 or 3 channels, or series"),
    "a table": ("classifier", {}, InputError, r"'table' of shape \['N', 6\]; a report draws"),
    "two inputs": ("two heads", {}, InputError, "a report draws one input"),
    "no inputs": ("cnn", {"inputs": []}, InputError, "at least one input"),
    "another size": ("cnn", {"inputs": np.zeros((1, 3, 9, 9), np.float32)}, InputError, "has shape"),
    "a method": ("cnn", {"methods": ["grad_can"]}, OptionError, "did you mean 'grad_cam'"),
    "no methods": ("cnn", {"methods": []}, OptionError, "methods names at least one"),
    "an option": ("cnn", {"methods": {"saliency": {"steps": 3}}}, OptionError, "has no option 'steps'"),
    "a layer": ("cnn", {"methods": {"grad_cam": {"layer": "none"}}}, LayerError, "there is no layer 'none'"),
    "a class": ("cnn", {"target": 5}, TargetError, "out of range"),
    "too few targets": ("cnn", {"target": [1]}, TargetError, "target has classes for 1 samples"),
    "too many targets": ("cnn", {"target": [1, 2, 3]}, TargetError, "for 3 samples, and 2 were given"),
    "no classes": ("cnn", {"k": 0}, OptionError, "k=0"),
    "a percentile": ("cnn", {"percentile": 0}, OptionError, "percentile lies within"),
    "names": ("cnn", {"names": ["a"]}, OptionError, "names has one for each of the 2 inputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_leave_what_was_there(case, subjects, tmp_path):
    name, given, error, message = REFUSED[case]
    (tmp_path / "report.html").write_text("before")
    subject = subjects(name)
    feeds = subject.feeds(2)
    options = {"inputs": feeds if len(feeds) > 1 else subject.x(2), **given}
    with pytest.raises(error, match=message):
        subject.explainer.report(path=tmp_path / "report.html", **options)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.html", "before")]


def test_no_folder(cnn, tmp_path):
    with pytest.raises(FileFormatError, match="there is no folder"):
        cnn.explainer.report(X, tmp_path / "none" / "report.html")


# ----- what comes from outside stays text -----


def test_hostile_names_stay_in_the_block_of_data(tmp_path, written):
    explainer = ov.load(convert("cnn", tmp_path / "net.onnx", classes=[*HOSTILE[:4], "e"]), providers="cpu", threads=1)
    _, shown = written(explainer, X[[0] * 5], ["saliency"], k=5, names=HOSTILE)
    assert [sample["name"] for sample in shown["samples"]] == HOSTILE
    assert {one["name"] for one in shown["samples"][0]["classes"]} == {*HOSTILE[:4], "e"}
    page = (tmp_path / "report.html").read_text()
    data = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    assert data.isascii()
    assert not set("<>&") & set(data)
    assert page.count("</script>") == 2


def test_the_browser_is_told_to_run_the_page_s_script_alone(cnn, tmp_path):
    cnn.explainer.report(X, tmp_path / "report.html", ["saliency"])
    page = (tmp_path / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
