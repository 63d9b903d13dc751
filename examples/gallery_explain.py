"""The second half of the gallery: what happens where the files are used, and no framework is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import onnxviz as ov
import zoo
from gallery_page import Section, page
from gallery_plates import Gallery, Subject, features, pair, single
from twins import KERAS_TWIN, PYTORCH_TWIN, differences, differences_table

EFFICIENTNET = Subject("EfficientNet-Lite0", zoo.LITE0_INPUT, early="_swish", late="_bn1")

EFFICIENTNET_TEXT = "4.7 million parameters, ImageNet, converted from PyTorch. Its activations are ReLU6."
READING = """Saliency: the pixels that would change the score most, dark is strong. Photo × saliency: the photo where
the saliency is above its 10th percentile, in full above its 90th. Guided backprop: the colours that speak for the
class, grey is zero. Grad-CAM: where in the last convolution the evidence lies."""
TWINS_TEXT = """1.2 million parameters, ImageNet. The same weights were loaded into a Keras model, which keeps its
channels last, and into a PyTorch module, which keeps them first; both were converted. The upper rows are from Keras's
file, the lower ones from PyTorch's; the pairs and the features are from Keras's."""

SINGLES = ("chelsea", "coffee", "china", "siamese")
PAIRS = (("chelsea", "coffee"), ("camera", "persian"))
PLATES = 2 * (len(SINGLES) + len(PAIRS) + 1) + 1


def explain_efficientnet(gallery: Gallery, path: Path) -> dict[str, Any]:
    """A network from PyTorch. Returns the residuals that its conversion measured, as do the others."""
    with ov.load(path) as ex:
        plates = [single(gallery, {"": (ex, EFFICIENTNET)}, name) for name in SINGLES]
        plates += [pair(gallery, ex, EFFICIENTNET, left, right) for left, right in PAIRS]
        plates.append(features(gallery, ex, EFFICIENTNET))
        gallery.sections.append(Section(EFFICIENTNET.title, f"{EFFICIENTNET_TEXT} {READING}", tuple(plates)))
        return dict(ex.residuals)


def explain_twins(gallery: Gallery, keras_path: Path, pytorch_path: Path) -> list[dict[str, Any]]:
    """The same network from two frameworks, side by side, and by how much they differ."""
    with ov.load(keras_path) as last, ov.load(pytorch_path) as first:
        files = {"from Keras": (last, KERAS_TWIN), "from PyTorch": (first, PYTORCH_TWIN)}
        plates = [single(gallery, files, name) for name in SINGLES]
        plates += [pair(gallery, last, KERAS_TWIN, left, right) for left, right in PAIRS]
        plates.append(features(gallery, last, KERAS_TWIN))
        text = differences_table({name: differences(first, last, name) for name in SINGLES})
        title = "SqueezeNet 1.1, from Keras and from PyTorch"
        gallery.sections.append(Section(title, f"{TWINS_TEXT} {READING}", tuple(plates), text))
        return [dict(last.residuals), dict(first.residuals)]


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


def residuals_table(residuals: Mapping[str, Mapping[str, Any]]) -> str:
    """What each conversion measured, the worst of each kind, as lines of text."""
    lines = [
        f"{'file':<26}{'layers':>6}{'worst layer':>13}{'worst output':>14}{'gradient: largest':>19}{'median':>9}  by"
    ]
    for name, measured in residuals.items():
        layers, outputs, gradient = measured["layers"], measured["outputs"], measured["gradient"]
        lines.append(
            f"{name:<26}{len(layers):>6}{max(layers.values()):>13.1e}{max(outputs.values()):>14.1e}"
            f"{gradient['max']:>19.1e}{gradient['median']:>9.1e}  {gradient['by']}"
        )
    return "\n".join(lines)


def main(folder: Path, efficientnet: str, keras_twin: str, pytorch_twin: str, swift_f0: str) -> None:
    """Explain the files, write the pictures and the page, print the tables."""
    gallery = Gallery(folder, PLATES)
    residuals = {efficientnet: explain_efficientnet(gallery, folder / efficientnet)}
    twins = explain_twins(gallery, folder / keras_twin, folder / pytorch_twin)
    residuals |= zip((keras_twin, pytorch_twin), twins, strict=True)
    residuals[swift_f0] = explain_audio(gallery, folder / swift_f0)
    gallery.steps.close()
    text = residuals_table(residuals)
    (folder / "index.html").write_text(page(gallery.sections, text), encoding="utf-8")
    for section in gallery.sections:
        if section.figures:
            print(f"\n{section.title}. {section.figures}")
    print(f"\nLargest differences from the original networks, relative to the largest value:\n{text}\n")
    print(f"The gallery: {folder / 'index.html'}")
