"""README's examples run as they stand."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.readme import blocks

TORCH, KERAS = blocks("Twenty lines", "python")
(STOCK,) = blocks("The file", "python")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks leave behind, run in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        scope: dict[str, object] = {"onnxruntime": onnxruntime}
        exec(TORCH, scope)
        exec(KERAS, scope)
        yield scope


def test_the_example_writes_its_picture(names):
    assert Path("grad_cam.png").stat().st_size > 1000
    assert names["ex"].grad_cam(names["x"], target=[[1, 2]], layer="4").shape == (4, 2, 32, 32)


def test_the_keras_example_explains(names):
    maps = names["keras_ex"].grad_cam(names["images"], layer="conv2")
    assert maps.shape == (4, 32, 32)
    assert {"conv1", "conv2"} < {layer.name for layer in names["keras_ex"].layers}


def test_stock_onnxruntime_gives_the_engine_s_gradient(names):
    exec(STOCK.replace("session.run(", "result = session.run("), names)
    expected = names["ex"].gradient(names["x"], target=7).values
    assert np.abs(names["result"][0] - expected).max() <= 1e-6 * np.abs(expected).max()
