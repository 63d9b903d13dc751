"""Reports in a headless Chromium: what moves, what is shown, and that nothing is fetched."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

import onnxviz as ov
from onnxviz.image import resize_linear
from tests.support import convert

pytestmark = pytest.mark.slow

HOSTILE = ["</script><img src=x onerror=alert(1)>", "<b>bold</b>", "</title><script>alert(2)</script>", "d", "e"]
PAGES = ("photo", "series")
IMAGE = ov.ImageInput(12, scale=1 / 255)


@pytest.fixture(scope="module")
def photo():
    """A smooth photo of 180 × 240 pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3))
    return np.rint(resize_linear(coarse, (180, 240), (0, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def seen(node, photo, subjects, tmp_path_factory):
    """The folder with pictures of both pages, what was found there, and the network of the first."""
    folder = tmp_path_factory.mktemp("pages")
    path = convert("cnn", folder / "<b>net.onnx", input=IMAGE, classes=HOSTILE)
    explainer = ov.load(path, providers="cpu", threads=1)
    explainer.report(
        photo, folder / "photo.html", ["grad_cam", "gradient"], [[0, 2]], names=HOSTILE[:1], percentile=None
    )
    series = subjects("series")
    series.explainer.report(series.x(2), folder / "series.html", ["saliency", "gradient"], names=HOSTILE[:2])
    script = Path(__file__).with_name("browser.mjs")
    command = [node[0], script, node[1] / "chromium.mjs", folder, *(folder / f"{name}.html" for name in PAGES)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return folder, json.loads(done.stdout), explainer


def shot(seen, name: str) -> np.ndarray:
    return np.asarray(Image.open(seen[0] / f"{name}.png").convert("RGB"), float)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_fetched_and_nothing_goes_wrong(seen, name):
    folder, found, _ = seen
    assert found[name]["requests"] == [(folder / f"{name}.html").as_uri()]
    assert found[name]["errors"] == []


@pytest.mark.parametrize("name", PAGES)
def test_names_are_text(seen, name):
    found = seen[1][name]
    assert found["foreign"] == 0
    assert found["headings"][0] == HOSTILE[0]
    if name == "photo":
        assert set(found["classes"]) == set(HOSTILE)
        assert found["title"].startswith("<b>net · ")


@pytest.mark.parametrize("name", PAGES)
def test_slider_class_method_and_colours_change_the_picture(seen, name):
    states = [shot(seen, f"{name}-{state}") for state in ("input", "map", "class", "method", "colours")]
    changes = [np.abs(a - b).mean() for a, b in pairwise(states)]
    # The series has one class, and its colours are not those of pictures; those of both signs stay.
    still = {"series": (1, 3), "photo": (3,)}[name]
    assert [change > 2 for change in changes] == [i not in still for i in range(4)], changes
    assert seen[1][name]["chosen"] == {"class": int(name == "photo"), "method": 1}


def test_at_the_left_end_stands_the_photo(seen, photo):
    shown = shot(seen, "photo-input")
    expected = np.asarray(Image.fromarray(photo).resize(shown.shape[1::-1], Image.Resampling.BILINEAR), float)
    assert np.abs(shown - expected).mean() < 3


def test_at_the_right_end_stands_the_map(seen, photo):
    """In the colours of matplotlib, by the numbers of the engine, at the centres of the network's places."""
    shown, explainer = shot(seen, "photo-map"), seen[2]
    values = explainer.grad_cam(explainer.read_image(photo), 0).values[0]
    table = 255 * mpl.colormaps["inferno"](np.linspace(0, 1, 256))[:, :3]
    rows, columns = ((np.arange(12) + 0.5) * n / 12 for n in shown.shape[:2])
    pixels = shown[rows.astype(int)][:, columns.astype(int)]
    found = np.linalg.norm(pixels[:, :, None] - table, axis=-1).argmin(-1) / 255
    assert np.abs(found - values / values.max()).max() < 0.06
    assert seen[1]["photo"]["alt"].startswith("Grad-CAM at ")
    assert HOSTILE[0] in seen[1]["photo"]["alt"]


@pytest.mark.parametrize("name", PAGES)
def test_layers_are_sifted(seen, name, subjects):
    layers = seen[2].layers if name == "photo" else subjects("series").explainer.layers
    expected = [layer.name for layer in layers if "conv" in f"{layer.name} {layer.type}".lower()]
    assert seen[1][name]["layers"] == expected
    assert seen[1][name]["count"] == f"{len(expected)} of {len(layers)} layers"


@pytest.mark.parametrize("name", PAGES)
def test_phones_and_the_dark(seen, name):
    found = seen[1][name]
    assert found["phone"] == [360, 360]
    brightness = {mode: sum(map(int, found[mode][4:-1].split(","))) / 3 for mode in ("light", "dark")}
    assert brightness["light"] > 200
    assert brightness["dark"] < 50
