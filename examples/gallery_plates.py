"""The gallery's pictures of image classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import onnxviz as ov
import zoo
from gallery_page import Plate, Section
from onnxviz.image import Pixels


@dataclass(frozen=True)
class Subject:
    """A network of the gallery: what of it is shown."""

    title: str
    image_input: ov.ImageInput
    early: str
    late: str


class Gallery:
    """Pictures written into a folder, with their captions collected into sections."""

    def __init__(self, folder: Path, plates: int) -> None:
        self.folder = folder
        self.sections: list[Section] = []
        self.steps = tqdm(total=plates, desc="explaining", unit="plate")

    def figure(self, name: str, figure: Figure, caption: str, top: Sequence[tuple[str, float]] = ()) -> Plate:
        """Write a figure and return its plate."""
        file = f"{name}.png".replace(" ", "-")
        figure.savefig(self.folder / file, dpi=110)
        self.steps.update()
        return Plate(file, caption, tuple(top))


def features(gallery: Gallery, ex: Any, subject: Subject) -> Plate:
    """The channels of an early layer."""
    x = subject.image_input.read(zoo.photos()["chelsea"])
    maps = ex.features(x, layers=[subject.early])[subject.early][0]
    channels = ex.layers[subject.early].axes.channel - 1
    figure = ov.plot.feature_maps(maps, channel_axis=channels, most=32, columns=8, shared=False)
    count = maps.shape[channels]
    caption = f"Feature maps of {subject.early}, the first 32 of {count} channels, each on its own scale."
    return gallery.figure(f"{subject.title}-features", figure, caption)


def single(gallery: Gallery, files: Mapping[str, tuple[Any, Subject]], name: str) -> Plate:
    """One photo, explained for the class that scores highest; a row for each file."""
    rows = {label: row(ex, subject, name) for label, (ex, subject) in files.items()}
    ex, subject = next(iter(files.values()))
    top = top_five(ex, subject.image_input.read(zoo.photos()[name]))
    caption = f"{name}, explained for the class on top."
    return gallery.figure(f"{subject.title}-{name}", grid(rows), caption, top)


def row(ex: Any, subject: Subject, name: str) -> dict[str, Pixels]:
    """Saliency, guided backprop and Grad-CAM of a photo, as pictures with titles."""
    pixels = subject.image_input.fit(zoo.photos()[name])
    x = subject.image_input.encode(pixels)
    saliency = ex.saliency(x)
    return {
        "input": pixels,
        "saliency": 255 - cv2.cvtColor(heat(saliency), cv2.COLOR_GRAY2RGB),
        "photo × saliency": saliency.overlay(pixels, mode="multiply")[0],
        "guided backprop": relief(ex.guided_backprop(x), subject.image_input)[0],
        f"Grad-CAM at {subject.late}": ex.grad_cam(x, layer=subject.late).overlay(pixels)[0],
    }


def heat(explanation: ov.Explanation) -> Pixels:
    """A map (1, H, W) as grey values (H, W): white at its 99th percentile."""
    return np.rint(255 * explanation.normalize(99).values[0]).astype(np.uint8)


def relief(explanation: ov.Explanation, image_input: ov.ImageInput) -> Pixels:
    """A gradient like the input as pixels (N, H, W, 3): grey is zero, the ends are its 99.5th percentile."""
    grey_is_zero = replace(image_input, scale=1 / 127.5, mean=1.0, std=1.0)
    return grey_is_zero.pixels(explanation.normalize(99.5).values)


def top_five(ex: Any, x: Any) -> list[tuple[str, float]]:
    """Names and scores of the five classes that score highest for one sample."""
    return [(name, score) for _, name, score in ex.top(x, k=5)[0]]


def grid(rows: Mapping[str, Mapping[str, Pixels]]) -> Figure:
    """Pictures in rows, each with its label at the left."""
    count = max(len(pictures) for pictures in rows.values())
    figure = Figure(figsize=(2.6 * count, 0.3 + 2.6 * len(rows)), layout="constrained")
    cells = figure.subplots(len(rows), count, squeeze=False)
    for line, (label, pictures) in zip(cells, rows.items(), strict=True):
        for axes, (title, pixels) in zip(line, pictures.items(), strict=True):
            axes.imshow(pixels)
            axes.set_title(title, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(label, fontsize=10)
    return figure


def pair(gallery: Gallery, ex: Any, subject: Subject, left: str, right: str) -> Plate:
    """Two photos side by side, each class explained: its map must lie on its own half."""
    photos = zoo.photos()
    pixels = zoo.side_by_side(photos[left], photos[right], subject.image_input)
    x = subject.image_input.encode(pixels)
    explanation = ex.grad_cam(x, target=[[zoo.CLASSES[left], zoo.CLASSES[right]]], layer=subject.late)
    caption = (
        f"{left} and {right} side by side, Grad-CAM for the class of each half, from one forward pass. The numbers "
        "over the maps are the classes' logits, those at the colour bars Grad-CAM's own."
    )
    return gallery.figure(f"{subject.title}-{left}-{right}", explanation.plot(pixels), caption, top_five(ex, x))
