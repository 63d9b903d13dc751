"""The second half of the gallery: what happens where the files are used, and no framework is installed."""

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
from gallery_page import Plate, Section, page
from onnxviz.image import Pixels


@dataclass(frozen=True)
class Subject:
    """A network of the gallery: what of it is shown."""

    title: str
    text: str
    image_input: ov.ImageInput
    early: str
    late: str


EFFICIENTNET = Subject(
    "EfficientNet-Lite0",
    "4.7 million parameters, ImageNet, converted from PyTorch. Its activations are ReLU6.",
    zoo.LITE0_INPUT,
    early="_swish",
    late="_bn1",
)
SQUEEZENET = Subject(
    "SqueezeNet 1.1",
    "1.2 million parameters, ImageNet, converted from PyTorch.",
    zoo.SQUEEZENET_INPUT,
    early="relu1",
    late="fire9.concat",
)
READING = """Saliency: the pixels that would change the score most, dark is strong. Photo × saliency: the photo where
the saliency is above its 10th percentile, in full above its 90th. Guided backprop: the colours that speak for the
class, grey is zero. Grad-CAM: where in the last convolution the evidence lies."""
SINGLES = ("chelsea", "coffee", "china", "siamese")
PAIRS = (("chelsea", "coffee"), ("camera", "persian"))
CLASSES = {"chelsea": 285, "coffee": 967, "camera": 872, **zoo.CATS}


class Gallery:
    """Pictures written into a folder, with their captions collected into sections."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sections: list[Section] = []
        self.steps = tqdm(total=2 * (1 + len(SINGLES) + len(PAIRS)) + 1, desc="explaining", unit="plate")

    def figure(self, name: str, figure: Figure, caption: str, top: Sequence[tuple[str, float]] = ()) -> Plate:
        """Write a figure and return its plate."""
        figure.savefig(self.folder / f"{name}.png", dpi=110)
        self.steps.update()
        return Plate(f"{name}.png", caption, tuple(top))


def relief(explanation: ov.Explanation, image_input: ov.ImageInput) -> Pixels:
    """A gradient like the input as pixels (N, H, W, 3): grey is zero, the ends are its 99.5th percentile."""
    grey_is_zero = replace(image_input, scale=1 / 127.5, mean=1.0, std=1.0)
    return grey_is_zero.pixels(explanation.normalize(99.5).values)


def top_five(ex: Any, x: Any) -> list[tuple[str, float]]:
    """Names and scores of the five classes that score highest for one sample."""
    return [(name, score) for _, name, score in ex.top(x, k=5)[0]]


def features(gallery: Gallery, ex: Any, subject: Subject) -> Plate:
    """The channels of an early layer."""
    x = subject.image_input.read(zoo.photos()["chelsea"])
    maps = ex.features(x, layers=[subject.early])[subject.early][0]
    figure = ov.plot.feature_maps(maps, most=32, columns=8, shared=False)
    caption = f"Feature maps of {subject.early}, the first 32 of {len(maps)} channels, each on its own scale."
    return gallery.figure(f"{subject.title}-features".replace(" ", "-"), figure, caption)


def single(gallery: Gallery, ex: Any, subject: Subject, name: str) -> Plate:
    """One photo: saliency, guided backprop and Grad-CAM of the class that scores highest."""
    pixels = subject.image_input.fit(zoo.photos()[name])
    x = subject.image_input.encode(pixels)
    guided = relief(ex.guided_backprop(x), subject.image_input)
    saliency = ex.saliency(x)
    figure = columns(
        {
            "input": pixels,
            "saliency": 255 - cv2.cvtColor(heat(saliency), cv2.COLOR_GRAY2RGB),
            "photo × saliency": saliency.overlay(pixels, mode="multiply")[0],
            "guided backprop": guided[0],
            f"Grad-CAM at {subject.late}": ex.grad_cam(x, layer=subject.late).overlay(pixels)[0],
        }
    )
    caption = f"{name}, explained for the class on top."
    return gallery.figure(f"{subject.title}-{name}".replace(" ", "-"), figure, caption, top_five(ex, x))


def heat(explanation: ov.Explanation) -> Pixels:
    """A map (1, H, W) as grey values (H, W): white at its 99th percentile."""
    return np.rint(255 * explanation.normalize(99).values[0]).astype(np.uint8)


def columns(pictures: Mapping[str, Pixels]) -> Figure:
    """Pictures beside each other."""
    figure = Figure(figsize=(2.6 * len(pictures), 2.9), layout="constrained")
    for axes, (title, pixels) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.imshow(pixels)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure


def pair(gallery: Gallery, ex: Any, subject: Subject, left: str, right: str) -> Plate:
    """Two photos side by side, each class explained: its map must lie on its own half."""
    photos = zoo.photos()
    pixels = zoo.side_by_side(photos[left], photos[right], subject.image_input)
    x = subject.image_input.encode(pixels)
    explanation = ex.grad_cam(x, target=[[CLASSES[left], CLASSES[right]]], layer=subject.late)
    caption = (
        f"{left} and {right} side by side, Grad-CAM for the class of each half, from one forward pass. The numbers "
        "over the maps are the classes' logits, those at the colour bars Grad-CAM's own."
    )
    name = f"{subject.title}-{left}-{right}".replace(" ", "-")
    return gallery.figure(name, explanation.plot(pixels), caption, top_five(ex, x))


def explain_classifier(gallery: Gallery, subject: Subject, path: Path) -> dict[str, Any]:
    """All plates of an image classifier. Returns the residuals that its conversion measured."""
    with ov.load(path) as ex:
        plates = [single(gallery, ex, subject, name) for name in SINGLES]
        plates += [pair(gallery, ex, subject, left, right) for left, right in PAIRS]
        plates.append(features(gallery, ex, subject))
        gallery.sections.append(Section(subject.title, f"{subject.text} {READING}", tuple(plates)))
        return dict(ex.residuals)


def explain_audio(gallery: Gallery, path: Path) -> dict[str, Any]:
    """Which part of the sound makes SwiftF0 sure that it hears a tone."""
    melody, masks = zoo.melody(), zoo.tone_masks()
    with ov.load(path) as ex:
        maps = np.concatenate([ex.saliency(melody, mask, output="confidence").values for mask in masks.values()])
        residuals = dict(ex.residuals)
    audio = melody["audio"]
    times = np.arange(audio.shape[1]) / zoo.SAMPLE_RATE
    figure = ov.plot.signal(audio.repeat(len(maps), axis=0), maps, times=times, titles=list(masks))
    caption = (
        "One second of sound with two tones, drawn twice. The colour is |∂ S / ∂ sample|, where S is the network's "
        "confidence that there is a pitch, summed over the time of the first tone (above) and of the second (below): "
        "only what sounds then, or just before and after, can change it."
    )
    plate = gallery.figure("swift-f0", figure, caption)
    text = "A pitch detector with its own Fourier transform inside, from the plain .onnx file that its package ships."
    gallery.sections.append(Section("SwiftF0", text, (plate,)))
    return residuals


def table(residuals: Mapping[str, Mapping[str, Any]]) -> str:
    """What each conversion measured, the worst of each kind, as lines of text."""
    lines = [
        f"{'file':<25}{'layers':>7}{'worst layer':>13}{'worst output':>14}{'gradient: largest':>19}{'median':>9}  by"
    ]
    for name, measured in residuals.items():
        layers, outputs, gradient = measured["layers"], measured["outputs"], measured["gradient"]
        lines.append(
            f"{name:<25}{len(layers):>7}{max(layers.values()):>13.1e}{max(outputs.values()):>14.1e}"
            f"{gradient['max']:>19.1e}{gradient['median']:>9.1e}  {gradient['by']}"
        )
    return "\n".join(lines)


def main(folder: Path, efficientnet: str, squeezenet: str, swift_f0: str) -> None:
    """Explain the three files, write the pictures and the page, print the table."""
    gallery = Gallery(folder)
    residuals = {
        efficientnet: explain_classifier(gallery, EFFICIENTNET, folder / efficientnet),
        squeezenet: explain_classifier(gallery, SQUEEZENET, folder / squeezenet),
        swift_f0: explain_audio(gallery, folder / swift_f0),
    }
    gallery.steps.close()
    text = table(residuals)
    (folder / "index.html").write_text(page(gallery.sections, text), encoding="utf-8")
    print(f"\nLargest differences from the original networks, relative to the largest value:\n{text}\n")
    print(f"The gallery: {folder / 'index.html'}")
