"""``python -m benchmarks.localisation``: two photos side by side, and how much of a class's map lies on its own half.

Every ordered pair of five photos, both classes of each: 40 maps for each network and method. A map's energy is the sum
of what is positive in it (the energy-based pointing game of Wang 2020, arXiv:1910.01279, 4.3, with halves as boxes).

EfficientNet is looked at before and after its last ReLU6. Before it most values are negative, and methods that are made
for rectified channels are at a loss: what Score-CAM and Eigen-CAM add up is negative, and they cut it off; XGrad-CAM
divides by a channel's sum, whose sign turns its weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import onnxviz as ov
import zoo

Shares = npt.NDArray[np.float64]

PHOTOS = ("chelsea", "coffee", "persian", "siamese", "camera")
METHODS = (
    "grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "xgrad_cam", "score_cam", "guided_grad_cam", "occlusion",
    "eigen_cam",
)  # fmt: skip
CLASS_BLIND = {"eigen_cam"}
"""What knows no class puts on one half what it does not put on the other: its mean is 0.5, if no map is empty."""


@dataclass(frozen=True)
class Subject:
    """A network: what builds it, and the layers whose channels the maps are made of, one after the other."""

    title: str
    build: Callable[[], tuple[Any, ov.ImageInput]]
    layers: tuple[str, ...]


SUBJECTS = {
    "efficientnet_lite0": Subject("EfficientNet-Lite0", zoo.efficientnet_lite0, ("_bn1", "_swish#1")),
    "squeezenet": Subject("SqueezeNet 1.1", zoo.squeezenet, ("fire9.concat",)),
}


def pictures(image_input: ov.ImageInput, names: Sequence[str] = PHOTOS) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """All ordered pairs of photos side by side, as the network takes them; and the classes left and right, (P, 2)."""
    photos, pairs = zoo.photos(), list(permutations(names, 2))
    beside = [zoo.side_by_side(photos[left], photos[right], image_input) for left, right in pairs]
    classes = [[zoo.CLASSES[left], zoo.CLASSES[right]] for left, right in pairs]
    return np.concatenate([image_input.encode(pixels) for pixels in beside]), np.array(classes)


def own_shares(explanation: ov.Explanation) -> Shares:
    """Which share of each map's energy lies on its class's half, (P, 2); NaN of an empty map, which has no energy.

    Args:
        explanation: of the classes left and right, two targets; or one map for both, of a method that knows no class.
    """
    energy, axes = np.maximum(explanation.values, 0, dtype=np.float64), explanation.axes
    width = explanation.spatial_axes[-1]
    columns = energy.sum(tuple(i for i, role in enumerate(axes) if role not in {"batch", "target"} and i != width))
    if "target" not in axes:
        columns = np.stack([columns, columns], axis=1)
    middle = columns.shape[-1] // 2
    own = np.stack([columns[:, 0, :middle].sum(-1), columns[:, 1, middle:].sum(-1)], axis=1)
    total = columns.sum(-1)
    return np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)


def measure(
    explainer: ov.Explainer, layer: str, methods: Sequence[str] = METHODS, names: Sequence[str] = PHOTOS
) -> dict[str, Shares]:
    """Method → :func:`own_shares` of all pairs. One picture at a time: Score-CAM holds a map for each channel."""
    x, classes = pictures(explainer.image_input, names)
    known = {method.name: method.options for method in ov.methods()}
    found = {}
    for method in tqdm(methods, leave=False, delay=2, disable=None):
        options = {"layer": layer} if "layer" in known[method] else {}
        maps = [explainer.explain(x[i : i + 1], method, classes[i : i + 1], **options) for i in range(len(x))]
        found[method] = np.concatenate([own_shares(each) for each in maps])
    return found


def table(found: Mapping[str, Mapping[str, Shares]]) -> str:
    """Networks → methods → shares, in Markdown: a row for each method, two columns for each network.

    An empty map counts as one that is not on the class's half, and its share as 0.
    """
    heads = ["method"]
    for title in found:
        heads += [f"{title}: mean share", "larger part on the own half"]
    lines = [heads, ["---"] * len(heads)]
    for method in next(iter(found.values())):
        cells = [f"`{method}`" + (" (class-blind)" if method in CLASS_BLIND else "")]
        for shares in (methods[method] for methods in found.values()):
            empty = int(np.isnan(shares).sum())
            cells.append(f"{np.nan_to_num(shares).mean():.2f}")
            cells.append(f"{(shares > 0.5).sum()} of {shares.size}" + (f", {empty} empty" if empty else ""))
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main(arguments: Sequence[str]) -> None:
    """Convert the networks, explain all pairs, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.localisation", description=__doc__)
    parser.add_argument("--model", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--photo", nargs="+", choices=zoo.CLASSES, default=PHOTOS, help="two or more")
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args(arguments)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.model:
            subject, path = SUBJECTS[name], Path(folder, f"{name}.onnx")
            model, image_input = subject.build()
            ov.convert(model, path, example=pictures(image_input, PHOTOS[:2])[0], input=image_input)
            with ov.load(path, providers="cpu", threads=wanted.threads) as explainer:
                for layer in subject.layers:
                    title = f"{subject.title} (`{layer}`)"
                    found[title] = measure(explainer, layer, wanted.method, wanted.photo)
    print(f"{table(found)}\n\n{datetime.now(UTC).date()}, onnxviz {ov.__version__}")


if __name__ == "__main__":
    main(sys.argv[1:])
