"""One model's turn, in a process of its own: ``python -m benchmarks.sweep.one FAMILY/NAME RESULT``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import onnxviz as ov
from benchmarks.sweep.entry import Entry, Subject
from benchmarks.sweep.families import ENTRIES
from benchmarks.sweep.middle import compare, drawn, weights_like
from benchmarks.sweep.outcome import Agreement, Outcome, first_sentence
from onnxviz.errors import OnnxvizError


def run(entry: Entry) -> Outcome:
    """Convert the model, which compares all layers and the input gradient, and compare one layer's gradient here."""
    started = time.perf_counter()
    try:
        subject = entry.build()
        with tempfile.TemporaryDirectory() as folder:
            found = examined(subject, Path(folder) / "model.onnx")
    except OnnxvizError as error:
        found = {"status": "failed", "reason": f"{type(error).__name__}: {first_sentence(str(error))}"}
    return Outcome(entry.key, **found, seconds=round(time.perf_counter() - started, 1))


def examined(subject: Subject, path: Path) -> dict[str, Any]:
    """What the file of a model says of the check, and the comparison at the middle layer.

    Raises:
        OnnxvizError: the model was not converted, or the comparison failed.
    """
    ov.convert(subject.model, path, example=subject.example, quiet=True)
    with ov.load(path, providers="cpu") as explainer:
        residuals = explainer.residuals
        return {
            "status": "passed",
            "layers": len(explainer.layers),
            "values": max([*residuals["outputs"].values(), *residuals["layers"].values()]),
            "gradient": _agreement(residuals["gradient"]),
            "middle": compare(subject.model, explainer),
            "optimized": _optimized(explainer, path),
        }


def _optimized(explainer: ov.Explainer, path: Path) -> float:
    """How far the gradient is, with all optimisations, from that without; of the first layer where no input has one."""
    output = next(output.name for output in explainer.outputs if output.has_gradient)
    feeds = drawn(explainer, 0)
    weights = weights_like(explainer, feeds, output, 0)
    able = any(tensor.has_gradient for tensor in explainer.inputs)
    layer = None if able else next(layer.name for layer in explainer.layers if layer.has_gradient)
    with ov.load(path, providers="cpu", optimize=False) as plain:
        found, expected = (ex.gradient(feeds, weights, layer=layer, output=output).values for ex in (explainer, plain))
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def _agreement(gradient: dict[str, Any]) -> Agreement:
    largest = max(gradient.get("stages", {"": gradient["max"]}).values())
    return Agreement(gradient["by"], largest, gradient["median"], gradient.get("cosine", 1.0))


def main(key: str, result: str) -> None:
    """Write the outcome of one model to a file."""
    outcome = run(ENTRIES[key])
    Path(result).write_text(outcome.json() + "\n", encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # what frameworks do at exit may fail, and says nothing of the model


if __name__ == "__main__":
    main(*sys.argv[1:])
