"""SqueezeNet from Keras and from PyTorch with the same weights: what of it is shown, how much the files differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxviz as ov
import zoo
from gallery_plates import Subject

PYTORCH_TWIN = Subject("SqueezeNet 1.1", zoo.SQUEEZENET_INPUT, early="relu1", late="fire9.concat")
KERAS_TWIN = replace(PYTORCH_TWIN, image_input=replace(zoo.SQUEEZENET_INPUT, layout="NHWC"), late="fire9_concat")


def differences(first: ov.Explainer, last: ov.Explainer, name: str) -> dict[str, float]:
    """Largest difference between the twins on one photo, for each answer: relative to its largest absolute value.

    Args:
        first: the file from PyTorch, channels first.
        last: the file from Keras, channels last.
        name: of the photo.
    """
    photo = zoo.photos()[name]
    x, y = PYTORCH_TWIN.image_input.read(photo), KERAS_TWIN.image_input.read(photo)
    pairs: dict[str, tuple[npt.ArrayLike, npt.ArrayLike]] = {
        "outputs": (first.predict(x), last.predict(y)),
        "saliency": (first.saliency(x), last.saliency(y)),
        "guided backprop": (first.guided_backprop(x), channels_first(last.guided_backprop(y).values)),
        "Grad-CAM": (first.grad_cam(x, layer=PYTORCH_TWIN.late), last.grad_cam(y, layer=KERAS_TWIN.late)),
    }
    found = {answer: relative(a, b) for answer, (a, b) in pairs.items()}
    return {"outputs": found.pop("outputs"), "layers": max(layers(first, last, x, y).values()), **found}


def layers(first: ov.Explainer, last: ov.Explainer, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, float]:
    """The same of every layer of Keras's, which is PyTorch's of the same name: ``fire2_squeeze``, ``fire2.squeeze``."""
    ours = {layer.name: layer.name.replace("_", ".", 1) for layer in last.layers}
    expected = first.features(x, layers=list(ours.values()))
    return {name: relative(expected[ours[name]], channels_first(value)) for name, value in last.features(y).items()}


def relative(wanted: npt.ArrayLike, given: npt.ArrayLike) -> float:
    """Largest difference of two arrays of one size, relative to the largest absolute value."""
    a, b = np.asarray(wanted), np.asarray(given)
    return float(np.abs(a - b.reshape(a.shape)).max() / np.abs(a).max())


def channels_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, H, W, C) as (N, C, H, W); others have no channels to move."""
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def differences_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The twins' differences as lines of text: photos × answers."""
    answers = list(next(iter(found.values())))
    lines = ["Largest difference between the two files, relative to the largest absolute value:"]
    lines.append(f"{'photo':<10}" + "".join(f"{answer:>17}" for answer in answers))
    lines += [f"{name:<10}" + "".join(f"{row[answer]:>17.1e}" for answer in answers) for name, row in found.items()]
    return "\n".join(lines)
