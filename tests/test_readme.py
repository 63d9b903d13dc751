"""README's examples run as they stand."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the first block leaves behind, run in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        scope: dict[str, object] = {"onnxruntime": onnxruntime}
        exec(BLOCKS[0], scope)
        yield scope


def test_the_example_writes_its_picture(names):
    assert Path("grad_cam.png").stat().st_size > 1000
    assert names["ex"].grad_cam(names["x"], target=[[1, 2]], layer="4").shape == (4, 2, 32, 32)


def test_stock_onnxruntime_gives_the_engine_s_gradient(names):
    exec(BLOCKS[1].replace("session.run(", "result = session.run("), names)
    expected = names["ex"].gradient(names["x"], target=7).values
    assert np.abs(names["result"][0] - expected).max() <= 1e-6 * np.abs(expected).max()
