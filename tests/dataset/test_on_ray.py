"""A real Ray cluster on this machine: the same results as one process, with an actor killed mid-way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.dataset.ray import ExplainBatch, settings_of, threads_of
from onnxviz.errors import InputError, OptionError
from tests.dataset.contents import assert_same

SLOW = {"method": "smooth_grad", "n_samples": 60, "batch_size": 2, "progress": False}
LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # no token is left in the home folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what keeps Ray to the loopback interface
}


def session(tmp_path: Path, file: Path, x: Path, photos: Path) -> dict:
    """What :mod:`tests.dataset.ray_session` prints; actors import what this process imports."""
    environment = {**os.environ, **LOCAL, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "tests.dataset.ray_session", *map(str, (file, x, photos, tmp_path))]
    command.append(json.dumps(SLOW))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_actors_of_which_one_is_killed(pictured, photos, tmp_path, held):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 3, 12, 12)).astype(np.float32)
    x[7] = np.nan
    np.save(tmp_path / "x.npy", x)
    seen = session(tmp_path, pictured.path, tmp_path / "x.npy", photos)
    assert seen["address"] == "127.0.0.1"
    assert (seen["actors"], seen["replaced"]) == (2, True)
    assert 3 <= seen["parts"] < 40, "killed mid-way"
    assert (seen["samples"], seen["skipped"]) == (90, [f"{tmp_path}/x.npy[7]"])
    with ov.load(pictured.path, providers="cpu", threads=1) as ex:
        ov.explain_dataset(tmp_path / "x.npy", tmp_path / "here.parquet", ex=ex, **SLOW)
        assert_same(held(tmp_path / "ray.parquet"), held(tmp_path / "here.parquet"))
        assert_rows(dict(np.load(tmp_path / "rows.npz")), ex, sorted(photos.iterdir()))


def assert_rows(rows: dict, ex: ov.Explainer, photos: list[Path]) -> None:
    """What ExplainBatch made of pictures by their paths, four at a time."""
    assert set(rows) == {"label", "map", "target", "score", "top_class", "top_score", "error"}
    good, bad = [0, 2, 3, 5, 7], [1, 4, 6]
    expected = [ex.saliency(np.concatenate([ex.read_image(photos[i]) for i in some])) for some in ([0, 2, 3], [5, 7])]
    np.testing.assert_array_equal(rows["map"][good], np.concatenate([e.values for e in expected]))
    np.testing.assert_array_equal(rows["score"][good], np.concatenate([e.score for e in expected]))
    np.testing.assert_array_equal(rows["top_class"][good, 0], rows["target"][good])
    assert np.isnan(rows["map"][bad]).all()
    assert [bool(error) for error in rows["error"]] == [i in bad for i in range(8)]


@pytest.mark.parametrize("optimize", [True, False, ["pool_winners"]])
def test_actors_open_the_file_as_it_was_opened(pictured, optimize):
    with ov.load(pictured.path, providers="cpu", threads=2, batch_size=3, optimize=optimize) as ex:
        asked = settings_of(ex) | threads_of(ex, {"num_cpus": 4})
        assert (asked["threads"], asked["batch_size"]) == (2, 3)
        with ov.load(pictured.path, **asked) as again:
            assert settings_of(again) | threads_of(again, {}) == asked


def test_batches_without_a_cluster(pictured, photos):
    """The class is one of Python: no Ray is needed to call it."""
    explain = ExplainBatch(pictured.path, "saliency", [[0, 1]], column="image", on_error="skip", load={"threads": 1})
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    found = explain({"image": pixels, "label": np.arange(3)})
    x = pictured.image_input.encode(np.stack([pictured.image_input.fit(one) for one in pixels]))
    np.testing.assert_allclose(found["map"], pictured.saliency(x, [[0, 1]]).values, rtol=1e-5, atol=1e-7)
    assert found["map"].shape == (3, 2, 12, 12)
    assert list(found["label"]) == [0, 1, 2]
    assert "image" not in found
    for path in (photos / "1.png", photos / "gone.png"):  # before any map: the shape is that of zeros
        fresh = ExplainBatch(pictured.path, "gradient", column="path", on_error="skip")
        assert fresh({"path": np.array([str(path)], dtype=object)})["map"].shape == (1, 3, 12, 12)


def test_batches_that_cannot_be(pictured, photos):
    with pytest.raises(OptionError, match="column='image': the batches have path"):
        ExplainBatch(pictured.path)({"path": np.array(["a"], dtype=object)})
    with pytest.raises(InputError, match=r"not a picture.*on_error='skip'"):
        ExplainBatch(pictured.path, column="path")({"path": np.array([str(photos / "1.png")], dtype=object)})
