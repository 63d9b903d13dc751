"""What must hold in a fresh process: silence, backends, and a file that needs no framework."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import onnxviz as ov
from tests.converters.keras.support import fill, normal


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model's file."""
    x = keras.Input((8, 8, 3), name="image")
    value = L.Dropout(0.5, name="drop")(L.Conv2D(4, 3, activation="relu", name="conv")(x))
    model = fill(keras.Model(x, L.Dense(3, name="head")(L.Flatten(name="flat")(value))))
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras asks numpy for a copy as numpy 1 had it
        model.save(path)
    return path


def run(code, *arguments, **environment):
    """A fresh Python that runs the code, with the environment of a user who set nothing for TensorFlow."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "KERAS_"))}
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=kept | {"PYTHONPATH": path} | environment
    )


CONVERT = """
import onnxviz, sys
model, broken, out = sys.argv[1:]
onnxviz.convert(model, out, quiet=True)
onnxviz.convert(model, out)
try:
    onnxviz.convert(broken, out)
except onnxviz.OnnxvizError as error:
    print(type(error).__name__, error)
"""


def test_nothing_else_is_printed(saved, tmp_path):
    """Quiet, not quiet, and a refusal: two lines, and nothing of TensorFlow's."""
    broken, out = tmp_path / "broken.keras", tmp_path / "net.onnx"
    broken.write_bytes(b"nonsense")
    done = run(CONVERT, saved, broken, out)
    assert (done.returncode, done.stderr) == (0, "")
    told, refused = done.stdout.splitlines()
    assert told.startswith(f"{out}: keras, 4 layers; values within")
    assert refused.startswith("UnsupportedModelError broken.keras is no .keras archive")


REFUSED = """
import onnxviz, sys
try:
    onnxviz.convert(sys.argv[1], sys.argv[2])
except onnxviz.OnnxvizError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_other_backends_are_refused(saved, backend, tmp_path):
    done = run(REFUSED, saved, tmp_path / "net.onnx", KERAS_BACKEND=backend)
    assert done.stdout.startswith("UnsupportedModelError"), done.stdout + done.stderr
    assert all(word in done.stdout for word in (f"'{backend}'", "KERAS_BACKEND=tensorflow")), done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


MODEL = """
import keras, onnxviz, sys
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
try:
    onnxviz.convert(model, sys.argv[1])
except onnxviz.OnnxvizError as error:
    print(type(error).__name__, error)
"""


def test_a_model_of_another_backend_is_refused(tmp_path):
    """With torch as backend it is an ``nn.Module`` as well."""
    done = run(MODEL, tmp_path / "net.onnx", KERAS_BACKEND="torch")
    assert done.stdout.startswith("UnsupportedModelError"), done.stdout + done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stdout


EXPLAIN = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("keras", "tensorflow", "tf2onnx", "onnxviz_keras", "h5py"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np, onnxviz
x = np.load(sys.argv[2])
with onnxviz.load(sys.argv[1], providers="cpu", threads=1) as ex:
    np.savez(sys.argv[3], map=ex.grad_cam(x, 1).values, gradient=ex.guided_backprop(x, 1).values, y=ex.predict(x))
"""


def test_the_file_explains_where_no_framework_can_be_imported(saved, tmp_path):
    path, x = ov.convert(saved, tmp_path / "net.onnx", quiet=True), normal(2, 8, 8, 3)
    np.save(tmp_path / "x.npy", x)
    done = run(EXPLAIN, path, tmp_path / "x.npy", tmp_path / "found.npz")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with np.load(tmp_path / "found.npz") as found, ov.load(path, providers="cpu", threads=1) as explainer:
        assert np.array_equal(found["map"], explainer.grad_cam(x, 1).values)
        assert np.array_equal(found["gradient"], explainer.guided_backprop(x, 1).values)
        assert np.array_equal(found["y"], explainer.predict(x))
