"""Converts and explains, and prints digests: run in processes of their own, with other seeds of Python's hashes."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np

import onnxviz as ov
from tests.hostile import specimens


def digest(content: bytes) -> str:
    """Of what must be the same."""
    return hashlib.sha256(content).hexdigest()


def main(kind: str) -> None:
    """Print a line for the file and for each map."""
    with tempfile.TemporaryDirectory() as made:
        path, x = Path(made) / "net.onnx", np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
        if kind == "onnx":
            ov.convert(specimens.plain(), path, quiet=True)
        elif kind == "torch":
            from tests.support import convert

            convert("cnn", path)
            x = np.random.default_rng(0).standard_normal((5, 3, 12, 12)).astype(np.float32)
        else:
            import keras

            keras.utils.set_random_seed(0)
            layers = [
                keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization(),
                keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, activation="softmax"),
            ]  # fmt: skip
            ov.convert(keras.Sequential(layers), path, quiet=True)
            x = x.transpose(0, 2, 3, 1)
        print("file", digest(path.read_bytes()))  # noqa: T201 - a script prints
        with ov.load(path, providers="cpu", threads=1) as ex:
            for method in (
                "saliency",
                "guided_backprop",
                "grad_cam",
                "integrated_gradients",
                "smooth_grad",
                "occlusion",
            ):
                print(method, digest(ex.explain(x, method, 1).values.tobytes()))  # noqa: T201
            print("maximize", digest(ex.maximize(0, steps=3, seed=2).images.tobytes()))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
