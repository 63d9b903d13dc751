"""What notebooks show of layers, features, methods and files: everything, and nothing of it as markup."""

from __future__ import annotations

import base64
import copy
import pickle
import re

import cv2
import numpy as np
import pytest

import onnxviz as ov
from onnxviz.algorithms.registry import METHODS
from onnxviz.display import CHANNELS, LAYERS, Features, size, table
from onnxviz.engine.layers import LayerTable
from onnxviz.manifest import Axes, Layer
from tests.support import convert

HOSTILE = "<b onclick='x'>\"&"
ESCAPED = "&lt;b onclick=&#x27;x&#x27;&gt;&quot;&amp;"


def features(*shape: int, axes: Axes, name: str = "layer") -> Features:
    return Features({name: np.random.default_rng(0).normal(size=shape)}, {name: axes})


def pictures(shown: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([^\"]*)", shown)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR) for one in found]


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 KiB"), (34_010, "33.2 KiB"), (2**20, "1.0 MiB")])
def test_sizes(count, text):
    assert size(count) == text


def test_tables_escape_every_cell():
    shown = table([HOSTILE], [[HOSTILE]], HOSTILE)
    assert shown.count(ESCAPED) == 3
    assert "<b " not in shown


def test_layers():
    layer = Layer(HOSTILE, "v", "float32", ("N", 8), Axes(0, 1), type="<i>", reason="a < b")
    shown = LayerTable([layer])._repr_html_()
    assert (ESCAPED in shown, "&lt;i&gt;" in shown, "a &lt; b" in shown) == (True, True, True)
    assert shown.count("<tr>") == 2


def test_all_layers_and_methods_are_listed(cnn):
    shown = cnn.explainer.layers._repr_html_()
    assert all(f">{layer.name}<" in shown for layer in cnn.explainer.layers)
    found = ov.methods()
    assert found == tuple(METHODS.values())
    assert [line.split()[0] for line in repr(found).splitlines()] == list(METHODS)
    assert all(f">{name}<" in found._repr_html_() for name in METHODS)


def test_a_file(tmp_path):
    explainer = ov.load(convert("cnn", tmp_path / "<i>.onnx", classes=list("abcde")), providers="cpu")
    shown = explainer._repr_html_()
    assert "&lt;i&gt;.onnx" in shown
    for text in ("PyTorch", "image float32 N × 3 × 12 × 12", "5, named", "opset 18"):
        assert text in shown


DRAWN = {
    "pictures": ((2, 12, 6, 6), Axes(0, 1, (2, 3)), 1),
    "channels last": ((2, 6, 6, 12), Axes(0, 3, (1, 2)), 1),
    "series": ((2, 12, 30), Axes(0, 1, (2,)), 1),
    "a table": ((2, 12), Axes(0, 1), 0),
    "unknown axes": ((2, 12, 6, 6), Axes(), 0),
    "nothing": ((0, 12, 6, 6), Axes(0, 1, (2, 3)), 0),
}


@pytest.mark.parametrize("case", DRAWN)
def test_features_are_drawn(case):
    shape, axes, count = DRAWN[case]
    shown = features(*shape, axes=axes, name=HOSTILE)._repr_html_()
    assert f"{ESCAPED}: {' × '.join(map(str, shape))}" in shown
    assert len(pictures(shown)) == count
    assert all(np.ptp(picture) == 255 for picture in pictures(shown))


def test_features_are_a_dict(cnn):
    x = cnn.x(1)
    found = cnn.explainer.features(x)
    assert isinstance(found, dict)
    assert list(found) == [layer.name for layer in cnn.explainer.layers]
    for twin in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert twin.axes == found.axes
        assert all(twin[name] is found[name] or np.array_equal(twin[name], found[name]) for name in found)
    assert len(pictures(found._repr_html_())) <= LAYERS


def test_many_layers_are_counted():
    names = [f"layer {i}" for i in range(LAYERS + 2)]
    many = Features({name: np.zeros((1, 2)) for name in names}, dict.fromkeys(names, Axes(0, 1)))
    assert "and 2 more layers" in many._repr_html_()
    assert CHANNELS <= 16


def test_figures_show_themselves():
    assert ov.plot.feature_maps(np.ones((2, 3, 3)))._repr_png_().startswith(b"\x89PNG")
