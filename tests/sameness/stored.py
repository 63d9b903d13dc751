"""A file of each format version, and its maps: what an earlier release wrote must go on to mean the same.

``python -m tests.sameness.stored`` writes them for the version of today; done once, when a version is new.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onnxviz as ov
from onnxviz.manifest import FORMAT_VERSION
from onnxviz.source import Array
from tests.hostile import specimens

FOLDER = Path(__file__).parent
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
ANSWERS: dict[str, Callable[[ov.Explainer], Array]] = {
    "predict": lambda ex: ex.predict(X),
    "features": lambda ex: ex.features(X, "r")["r"],
    "gradient": lambda ex: ex.gradient(X, 1).values,
    "gradient_of_a_layer": lambda ex: ex.gradient(X, 1, layer="p").values,
    "of_the_probability": lambda ex: ex.gradient(X, 1, of="probability").values,
    "saliency": lambda ex: ex.saliency(X).values,
    "two_targets": lambda ex: ex.saliency(X, [[0, 3]]).values,
    "guided_backprop": lambda ex: ex.guided_backprop(X, 2).values,
    "grad_cam": lambda ex: ex.grad_cam(X, 2).values,
    "integrated_gradients": lambda ex: ex.integrated_gradients(X, 0, n_steps=5).values,
    "maximize": lambda ex: ex.maximize(0, steps=2, seed=1).images,
}


def answers(path: Path) -> dict[str, Array]:
    """What the file of one version answers."""
    with ov.load(path, providers="cpu", threads=1) as ex:
        return {name: ask(ex) for name, ask in ANSWERS.items()}


def path_of(version: int) -> Path:
    """The file of one version; its maps lie beside it as ``.npz``."""
    return FOLDER / f"format_{version}.onnx"


def main() -> None:
    """Write the file and its maps, unless they are there."""
    path = path_of(FORMAT_VERSION)
    if path.exists():
        sys.exit(f"{path} is there already: it stays as the first release with this version wrote it")
    with tempfile.TemporaryDirectory() as folder:
        path.write_bytes(specimens.healthy(Path(folder))["explainable"].read_bytes())
    np.savez_compressed(path.with_suffix(".npz"), **answers(path))


if __name__ == "__main__":
    main()
