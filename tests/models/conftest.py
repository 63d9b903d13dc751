"""Real networks, converted once for all tests and all workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import onnxviz as ov
import zoo
from tests.models.models import NETWORKS, build

REAL = {
    "efficientnet_lite0": zoo.LITE0_INPUT,
    "squeezenet": zoo.SQUEEZENET_INPUT,
    "squeezenet_keras": replace(zoo.SQUEEZENET_INPUT, layout="NHWC"),
}
"""The networks with real weights, and how they want their pictures."""

KERAS: dict[str, Callable[[], Any]] = {"squeezenet_keras": lambda: zoo.squeezenet_keras()[0]}
"""Those that are Keras models."""


@dataclass(frozen=True)
class Converted:
    """A network and its explainable file."""

    model: Any
    path: Path
    explainer: ov.Explainer
    shape: tuple[int, ...]

    def inputs(self, count, seed=0):
        """Seeded inputs (count, …), as the network takes them."""
        return np.random.default_rng(seed).standard_normal((count, *self.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def shared_folder(request, tmp_path_factory):
    """One temporary folder for all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    return own if not hasattr(request.config, "workerinput") else own.parent


@pytest.fixture(scope="session")
def converted(shared_folder):
    """A function from a network's name to its :class:`Converted`; each is converted when it is first asked for."""
    known: dict[str, Converted] = {}

    def find(name: str) -> Converted:
        if name not in known:
            path, model = shared_folder / f"{name}.onnx", KERAS[name]() if name in KERAS else build(name)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    options = _real(name) if name in REAL else {"example": NETWORKS[name].example()}
                    ov.convert(model, path, quiet=True, **options)
            explainer = ov.load(path, providers="cpu")
            known[name] = Converted(model, path, explainer, explainer.inputs[0].shape[1:])
        return known[name]

    yield find
    for network in known.values():
        network.explainer.close()


def _real(name: str) -> dict[str, Any]:
    """What a network with real weights is converted with: two photos, and what the file says about pictures."""
    photos = zoo.photos()
    example = np.concatenate([REAL[name].read(photos["chelsea"]), REAL[name].read(photos["coffee"])])
    return {"example": example, "input": REAL[name], "classes": zoo.class_names()}


@pytest.fixture(scope="session")
def photos():
    return zoo.photos()
