"""What comes back is what was given, and no framework is needed for it."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import torch

from onnxviz.compat.shared import like

ASK = """
import numpy as np, onnxviz
from onnxviz.compat.captum import NoiseTunnel, Saliency
from onnxviz.compat.grad_cam import ClassifierOutputTarget, GradCAM
x = np.ones((2, 3, 12, 12), np.float32)
with onnxviz.load(sys.argv[1], providers="cpu") as ex:
    maps = GradCAM(ex)(x, 2 * [ClassifierOutputTarget(1)])
    print(type(NoiseTunnel(Saliency(ex)).attribute(x, target=1)).__name__, maps.shape)
"""


def test_no_framework_is_needed(cnn):
    path = [p for p in sys.path if p]
    code = f"import sys; sys.path[:] = {path!r}; sys.modules['torch'] = sys.modules['captum'] = None\n{ASK}"
    done = subprocess.run([sys.executable, "-c", code, str(cnn.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ndarray (2, 12, 12)", done.stderr


def test_as_it_was_given(monkeypatch):
    """A tensor of a library that reads DLPack, whichever it is; of others an array."""
    array = np.arange(3, dtype=np.float32)
    assert like(array, array + 1) is array
    assert like(array, [1, 2]) is array
    assert torch.equal(like(array, torch.zeros(2)), torch.arange(3.0))

    class Tensor:
        pass

    Tensor.__module__ = "elsewhere.arrays"
    monkeypatch.setitem(sys.modules, "elsewhere", types.SimpleNamespace(from_dlpack=lambda given: ("theirs", given)))
    kind, values = like(array, Tensor())
    assert (kind, values.tolist()) == ("theirs", [0, 1, 2])
    like(np.broadcast_to(array, (2, 3)), torch.zeros(2)).add_(1)  # of its own memory
