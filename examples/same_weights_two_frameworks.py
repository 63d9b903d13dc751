"""The same weights in two frameworks, one explanation: `python examples/same_weights_two_frameworks.py`.

Usage: python examples/same_weights_two_frameworks.py [folder], by default demo/.

SqueezeNet 1.1 is built from one set of arrays in Keras (channels last) and in PyTorch (channels first), and both are
converted. By how much do the two files differ in outputs, layers, saliency, guided backprop and Grad-CAM? The picture
shows a photo's explanations, those of Keras's file above those of PyTorch's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import onnxviz as ov
import zoo
from gallery import CONVERSIONS
from gallery_plates import grid, row
from twins import KERAS_TWIN, PYTORCH_TWIN, differences, differences_table

KERAS_FILE, PYTORCH_FILE = "squeezenet1.1-keras.onnx", "squeezenet1.1-pytorch.onnx"
PHOTOS = tuple(zoo.CLASSES)
SHOWN = "chelsea"


def main(folder: Path, *, photos: Sequence[str] = PHOTOS) -> None:
    """Convert what is not there, print the differences and write the picture into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (KERAS_FILE, PYTORCH_FILE):
        if not (folder / name).exists():
            CONVERSIONS[name](folder / name)
    with ov.load(folder / KERAS_FILE) as last, ov.load(folder / PYTORCH_FILE) as first:
        print(differences_table({name: differences(first, last, name) for name in photos}))
        figure = grid({"from Keras": row(last, KERAS_TWIN, SHOWN), "from PyTorch": row(first, PYTORCH_TWIN, SHOWN)})
    path = folder / "twins.png"
    figure.savefig(path, dpi=80)
    print(f"written: {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
