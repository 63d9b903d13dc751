"""How good are the maps? Quantus' metrics of a real network's: `python examples/quantus_metrics.py`.

Usage: python examples/quantus_metrics.py [folder], by default demo/. It needs `pip install quantus`.

Two photos side by side, and the class of each half. Six methods are judged by how far the logit falls while the regions
that matter most in a map are covered (faithfulness, higher is better), by how much maps change when the picture hardly
does (robustness, lower), by how much of what is largest in a map lies on the right half (localisation, higher) and by
how alike the map of another class is (randomisation, lower). No framework takes part: Quantus asks the file.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import quantus

import onnxviz as ov
import zoo
from onnxviz.compat.quantus import explain_func

PHOTOS = ("chelsea", "coffee")
LAYER = "fire9.concat"
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "input_x_gradient": {},
    "guided_backprop": {},
    "smooth_grad": {"n_samples": 10},
    "grad_cam": {"layer": LAYER},
    "layer_cam": {"layer": LAYER},
}
"""Method → its options."""

Pairs = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def file(folder: Path) -> Path:
    """The explainable file of SqueezeNet 1.1, converted if it is not there."""
    path = folder / "squeezenet1.1-pytorch.onnx"
    if not path.exists():
        model, image_input = zoo.squeezenet()
        photo = image_input.read(zoo.photos()[PHOTOS[0]])
        ov.convert(model, path, example=photo, input=image_input, classes=zoo.class_names())
    return path


def pairs(ex: ov.Explainer) -> Pairs:
    """Both orders of the photos side by side, each asked for both classes; and which half shows the class."""
    photos, x, y, masks = zoo.photos(), [], [], []
    for left, right in (PHOTOS, PHOTOS[::-1]):
        picture = zoo.side_by_side(photos[left], photos[right], ex.image_input)
        for side, name in enumerate((left, right)):
            mask = np.zeros((1, *picture.shape[:2]), bool)
            mask[..., slice(None, mask.shape[2] // 2) if side == 0 else slice(mask.shape[2] // 2, None)] = True
            x.append(ex.image_input.encode(picture)[0])
            y.append(zoo.CLASSES[name])
            masks.append(mask)
    return np.stack(x), np.array(y), np.stack(masks)


def metrics(runs: int) -> dict[str, Any]:
    """Name → metric, with as many draws and covered regions as asked for; maps count by their absolute values."""
    ordinary = {"disable_warnings": True}
    return {
        "region perturbation": quantus.RegionPerturbation(
            patch_size=28, regions_evaluation=4 * runs, perturb_baseline="mean", **ordinary
        ),
        "max sensitivity": quantus.MaxSensitivity(nr_samples=runs, **ordinary),
        "rank accuracy": quantus.RelevanceRankAccuracy(**ordinary),
        "random logit": quantus.RandomLogit(num_classes=1000, seed=0, **ordinary),
    }


def judged(ex: ov.Explainer, method: str, runs: int) -> list[float]:
    """The mean of each metric over the pairs."""
    x, y, masks = pairs(ex)
    asked = {"method": method, "sum_channels": True, **METHODS[method]}
    found = []
    for metric in metrics(runs).values():
        np.random.seed(0)  # noqa: NPY002 - what Quantus draws from
        scores = metric(
            ex, x, y, s_batch=masks, channel_first=True, softmax=False, explain_func=explain_func,
            explain_func_kwargs=asked,
        )  # fmt: skip
        found.append(float(np.nanmean(scores)))
    return found


def main(folder: Path, *, runs: int = 5) -> None:
    """Convert, judge and print a table."""
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # Quantus tells what its metrics' parameters mean, each time
    with ov.load(file(folder)) as ex:
        print(f"{'':<18}{''.join(f'{name:>21}' for name in metrics(runs))}")
        for method in METHODS:
            print(f"{method:<18}{''.join(f'{value:>21.3f}' for value in judged(ex, method, runs))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
