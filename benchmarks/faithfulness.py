"""``python -m benchmarks.faithfulness``: how faithful each method's maps of real photos are.

Metrics are means over the photos, of each photo's own class, beside maps that know nothing; ``onnxviz.trust.metrics``
defines them. The last column is the mean rank correlation of a method's maps with the original ones while the upper
half of the network's weights becomes random (Adebayo 2018): above 0.8 the method hardly looks at them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import onnxviz as ov
import zoo
from benchmarks.localisation import SUBJECTS
from onnxviz.trust.weights import weighted_layers

PHOTOS = ("chelsea", "coffee")
LAYERS = {"efficientnet_lite0": "_swish#1", "squeezenet": "fire9.concat"}
"""Of the class activation maps: the last rectified channels."""
FEWER: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"n_steps": 20}, "smooth_grad": {"n_samples": 20}, "rise": {"n_masks": 300},
}  # fmt: skip
SLOW = frozenset({"score_cam", "occlusion", "rise"})
"""Hundreds of forward passes for each map: not made again for other inputs and other weights."""
METRICS: dict[str, dict[str, Any]] = {
    "deletion": {"n_steps": 10}, "insertion": {"n_steps": 10}, "average_drop": {}, "average_increase": {}, "road": {},
    "infidelity": {}, "max_sensitivity": {"n_samples": 5},
}  # fmt: skip
STAGES = 4
"""Layers of the upper half at which maps of random networks are made."""


@dataclass(frozen=True)
class Found:
    """What was measured of one network."""

    evaluation: ov.Evaluation
    insensitivity: dict[str, float]


def options_of(method: str, layer: str) -> dict[str, Any]:
    """Those that make the methods comparable, and done in time."""
    known = {one.name: one.options for one in ov.methods()}[method]
    return {**FEWER.get(method, {}), **({"layer": layer} if known.get("layer") == "auto" else {})}


def measure(explainer: ov.Explainer, layer: str, x: npt.NDArray[Any], classes: npt.NDArray[np.int64]) -> Found:
    """All methods on these pictures."""
    maps: dict[str, Any] = {}
    options = {method.name: options_of(method.name, layer) for method in ov.methods()}
    for method, chosen in tqdm(options.items(), leave=False, disable=None):
        again = partial(explainer.explain, method=method, target=classes, **chosen)
        maps[f"`{method}`"] = again(x) if method in SLOW else again
    evaluation = ov.evaluate(explainer, maps, x, classes, metrics=METRICS)
    fast = {method: chosen for method, chosen in options.items() if method not in SLOW}
    learned = [group.layer for group in weighted_layers(explainer.engine)[::-1]]
    upper = [learned[i] for i in np.linspace(0, len(learned) // 2 - 1, STAGES).round().astype(int)]
    sanity = ov.sanity_check(explainer, x, classes, methods=fast, layers=upper, orders=["cascading"])
    return Found(evaluation, {f"`{method}`": sanity.insensitivity(method) for method in fast})


def table(found: Found) -> str:
    """In Markdown: a row for each method, the random map last."""
    lines = found.evaluation.table(markdown=True).splitlines()
    last = {label: f"{value:.2f}" for label, value in found.insensitivity.items()}
    ends = ["weights ↓", "---", *(last.get(label, "–") for label in found.evaluation.values), "–"]
    return "\n".join(f"{line} {end} |" for line, end in zip(lines, ends, strict=True))


def main(arguments: Sequence[str]) -> None:
    """Convert the networks, explain the photos, print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness", description=__doc__)
    parser.add_argument("--model", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--photo", nargs="+", choices=zoo.CLASSES, default=PHOTOS)
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args(arguments)
    photos, classes = zoo.photos(), np.array([zoo.CLASSES[name] for name in wanted.photo])
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.model:
            subject, path, start = SUBJECTS[name], Path(folder, f"{name}.onnx"), time.perf_counter()
            model, image_input = subject.build()
            x = np.concatenate([image_input.read(photos[photo]) for photo in wanted.photo])
            ov.convert(model, path, example=x[:2], input=image_input)
            with ov.load(path, providers="cpu", threads=wanted.threads) as explainer:
                found = measure(explainer, LAYERS[name], x, classes)
            took = time.perf_counter() - start
            print(f"{subject.title} (`{LAYERS[name]}`), {len(x)} photos, {took:.0f} s\n\n{table(found)}\n")
    print(f"{datetime.now(UTC).date()}, onnxviz {ov.__version__}")


if __name__ == "__main__":
    main(sys.argv[1:])
