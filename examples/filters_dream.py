"""What filters and classes of a real ImageNet network want to see, and Deep Dream: `python examples/filters_dream.py`.

Usage: python examples/filters_dream.py [folder], by default demo/.

Four sheets of activation maximisation of SqueezeNet 1.1: filters of a layer each row; classes; one class without and
with each regulariser; linear scores against probabilities. Then what a layer sees in a photo, as a picture and as an
animation.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import onnxviz as ov
import zoo

LAYERS = ("fire2", "fire3", "fire5", "fire8")
FILTERS = 5
"""How many of each layer, evenly spaced."""

CLASSES = ("flamingo", "strawberry", "jellyfish", "volcano", "goldfish", "tarantula")
CLASS = "flamingo"
ROBUST: dict[str, Any] = {"scale": (0.9, 1.1), "rotation": 5}
"""Moving the image about makes wholes of parts."""

REGULARIZED: dict[str, dict[str, Any]] = {
    "pixels, nothing held back": {"jitter": 0},
    "jitter": {},
    "jitter, TotalVariation(0.3)": {"regularizers": [ov.TotalVariation(0.3)]},
    "jitter, LpNorm(6, 1e-8)": {"regularizers": [ov.LpNorm(6, 1e-8)]},
    "jitter, L2(1e-7)": {"regularizers": [ov.L2(1e-7)]},
    "jitter, Blur(0.6, every 4)": {"regularizers": [ov.Blur(0.6, 4)]},
    "Fourier": {"parameterization": "fourier", "learning_rate": 0.5},
    "Fourier, scale, rotation": {"parameterization": "fourier", "learning_rate": 0.5, **ROBUST},
}

PHOTO, DREAM_LAYER = "china", "fire7"


def file(folder: Path) -> Path:
    """The explainable file, converted if it is not there; it takes pictures of any size."""
    path = folder / "squeezenet1.1-open.onnx"
    if not path.exists():
        model, image_input = zoo.squeezenet()
        example = image_input.read(zoo.photos()["chelsea"])
        ov.convert(model, path, example=example, input=image_input, classes=zoo.class_names(), open_sizes=True)
    return path


def filters(ex: ov.Explainer, steps: int) -> ov.Maximization:
    """Filters of early and late layers, a layer in each row."""
    channels = {layer: ex.layers[layer].shape[1] for layer in LAYERS}
    names = [f"{layer}:{i * int(str(count)) // FILTERS}" for layer, count in channels.items() for i in range(FILTERS)]
    return ex.maximize(names, steps=steps)


def regularized(ex: ov.Explainer, steps: int) -> ov.Maximization:
    """One class without and with each regulariser."""
    found = {
        title: ex.maximize(CLASS, steps=steps, **{"parameterization": "pixels", "learning_rate": 2.0, **options})
        for title, options in REGULARIZED.items()
    }
    return side_by_side(found)


def scores(ex: ov.Explainer, steps: int) -> ov.Maximization:
    """The same classes by their linear score, and by their probability, which has no slope once it is 1."""
    names = list(CLASSES[:3])
    linear, probability = (ex.maximize(names, steps=steps, of=of) for of in ("logits", "probability"))
    return side_by_side({"logit": linear, "probability": probability})


def side_by_side(found: Mapping[str, ov.Maximization]) -> ov.Maximization:
    """Several results as one, for one sheet."""
    first = next(iter(found.values()))
    return replace(
        first,
        images=np.concatenate([one.images for one in found.values()]),
        score=np.concatenate([one.score for one in found.values()]),
        targets=tuple(f"{name} · {title}" for title, one in found.items() for name in one.targets),
    )


def main(folder: Path, *, steps: int = 80, width: int = 480) -> None:
    """Write the pictures into ``folder``: so many steps for each image, and a dream of this width."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = zoo.photos()[PHOTO]
    height = round(width * photo.shape[0] / photo.shape[1])
    with ov.load(file(folder)) as ex:
        sheets = {
            "filters": filters(ex, steps // 2).plot(columns=FILTERS),
            "classes": ex.maximize(list(CLASSES), steps=steps, **ROBUST).plot(columns=3),
            "regularizers": regularized(ex, steps).plot(columns=4),
            "logits-or-probabilities": scores(ex, steps // 2).plot(columns=3),
        }
        for name, figure in sheets.items():
            figure.savefig(folder / f"maximize-{name}.png", dpi=110)
        picture = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        dream = ex.deep_dream(picture, DREAM_LAYER, steps=max(1, steps // 4), snapshots=12)
    cv2.imwrite(str(folder / "deep-dream.png"), dream.pixels()[0][..., ::-1])
    dream.gif(folder / "deep-dream.gif")
    print(f"{', '.join(sheets)} and a dream of {DREAM_LAYER} in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
