"""What onnxviz does, once, on small files: run by the Python, and with the packages, of another environment.

Usage: python smoke.py folder

The folder has explainable files ``<name>.onnx`` with their inputs ``<name>.npy``, and ``plain.onnx``, which is
converted first. The numbers found are written to ``found.npz``, the versions printed.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import onnxviz as ov
from onnxviz.cli import app

OPTIONS = {
    "integrated_gradients": {"n_steps": 4},
    "smooth_grad": {"n_samples": 4, "seed": 3},
    "rise": {"n_masks": 12, "cells": 3, "seed": 3},
    "occlusion": {"window": 3, "stride": 2},
}
"""With which a method is quick."""
MAPS = ("cnn", "series", "volume")
"""Networks that every method explains; the others have no space, or no rectifier."""
GRADIENTS = ("gradient", "input_x_gradient", "integrated_gradients", "smooth_grad")


def answers(folder: Path) -> dict[str, np.ndarray]:
    """What onnxviz finds for each file, by what was asked."""
    ov.convert(folder / "plain.onnx", folder / "converted.onnx", example=np.load(folder / "converted.npy"), quiet=True)
    found = {}
    for inputs in sorted(folder.glob("*.npy")):
        with ov.load(inputs.with_suffix(".onnx"), providers="cpu", threads=1) as ex:
            of_file = asked(ex, np.load(inputs), [m.name for m in ov.methods()] if inputs.stem in MAPS else GRADIENTS)
        found |= {f"{inputs.stem}: {what}": value for what, value in of_file.items()}
    return found | of_pictures(folder)


def asked(ex: ov.Explainer, x: np.ndarray, methods: list[str]) -> dict[str, np.ndarray]:
    """Outputs, layers and maps, and what is computed from many inputs."""
    found = {"outputs": ex.predict(x), **{f"layer {name}": value for name, value in ex.features(x).items()}}
    for method in methods:
        found[method] = ex.explain(x, method, 0, **OPTIONS.get(method, {})).values
    layer = next(layer.name for layer in ex.layers if layer.has_gradient)
    found["embed"] = np.abs(ex.embed(x, layer).points)  # a component's sign is arbitrary
    found["unit_stats"] = ex.unit_stats(x, layer, k=2).mean
    found["maximize"] = ex.maximize(f"{layer}:0", steps=3, seed=0).images
    return found


def of_pictures(folder: Path) -> dict[str, np.ndarray]:
    """A picture read, explained, drawn; a file exported, and run by onnxruntime alone; the command line."""
    pixels = np.arange(30 * 40 * 3, dtype=np.uint32).reshape(30, 40, 3) * 7919 % 251
    model, picture = folder / "pictured.onnx", folder / "picture.png"
    Image.fromarray(pixels.astype(np.uint8)).save(picture)
    with ov.load(model, providers="cpu", threads=1) as ex:
        explained = ex.saliency(picture, 1)
        explained.plot().savefig(folder / "plot.png")
        x = ex.read_image(picture)
        ex.export(folder / "exported.onnx", "saliency", "input")
    session = onnxruntime.InferenceSession(folder / "exported.onnx", providers=["CPUExecutionProvider"])
    image, target = (one.name for one in session.get_inputs())
    (exported,) = session.run(["map"], {image: x, target: np.array([1])})
    for command in (["--help"], ["explain", str(model), str(picture), "--out", str(folder)], ["verify", str(model)]):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            app(command, standalone_mode=False)
        assert said.getvalue()
    return {"a picture read": x, "its map": explained.values, "its overlay": explained.overlay(), "exported": exported}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    np.savez(where / "found.npz", **answers(where))
    print(f"Python {sys.version.split()[0]}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")  # noqa: T201
