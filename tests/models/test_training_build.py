"""The same file in ONNX Runtime's last training build: its native gradient kernels give the same numbers.

The build shares the import name ``onnxruntime`` with the stock one, so it gets an environment of its own, which is made
at the first run and kept in pytest's cache.
"""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from filelock import FileLock

from tests.models.comparison import assert_values

HERE = Path(__file__).parent
TRAINING = "onnxruntime-training-cpu==1.19.2"

pytestmark = pytest.mark.training


@pytest.fixture(scope="session")
def training_python(request):
    """The interpreter of an environment with the training build and numpy."""
    folder = request.config.cache.mkdir("onnxruntime-training")
    python = folder / "bin" / "python"
    with FileLock(folder / "lock"):
        if not (folder / "installed").exists():
            venv.create(folder, with_pip=True)
            constraints = HERE.parent / "constraints.txt"
            install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--constraint", constraints]
            subprocess.run([*install, TRAINING, "numpy"], check=True)
            (folder / "installed").touch()
    return python


NATIVE = {
    "varied": {"ReluGrad": 4, "ConvGrad": 4},
    "resnet18": {"ReluGrad": 17, "ConvGrad": 20},
    "activations": {
        "SigmoidGrad": 1, "TanhGrad": 1, "LeakyReluGrad": 1, "GeluGrad": 1, "FastGeluGrad": 1, "SoftmaxGrad_13": 1,
        "LogSoftmaxGrad_13": 1, "QuickGeluGrad": 1, "ReluGrad": 1, "ConvGrad": 10,
    },
}  # fmt: skip
LAYERS = {"varied": "grouped", "resnet18": "resnet.encoder.stages.1.layers.0", "activations": "8"}


@pytest.mark.parametrize("name", NATIVE)
def test_native_kernels_compute_the_same(converted, training_python, tmp_path, name):
    network = converted(name)
    (source,), (output,) = network.explainer.inputs, network.explainer.outputs
    seed = np.random.default_rng(7).standard_normal((3, output.logits_shape[-1])).astype(np.float32)
    feeds = {source.name: network.inputs(3, seed=7), f"seed/{output.name}": seed}
    outputs = [output.value, f"grad/{source.name}", f"grad/{LAYERS[name]}"]
    files = {kind: tmp_path / kind for kind in ("feeds.npz", "outputs.npz", "optimised.onnx")}
    np.savez(files["feeds.npz"], **feeds, outputs=outputs)
    command = [training_python, HERE / "native_kernels.py", network.path, *files.values()]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin"})
    stock = onnxruntime.InferenceSession(network.path, providers=["CPUExecutionProvider"]).run(outputs, feeds)
    with np.load(files["outputs.npz"]) as native:
        assert str(native["version"]) == TRAINING.partition("==")[2] != onnxruntime.__version__
        for wanted, value in zip(outputs, stock, strict=True):
            assert_values(native[wanted], value, wanted, bar=1e-5)
    nodes = [node.op_type for node in onnx.load(files["optimised.onnx"]).graph.node if node.domain == "com.microsoft"]
    assert {kind: nodes.count(kind) for kind in NATIVE[name]} == NATIVE[name]
