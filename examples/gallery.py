"""Convert real networks, explain them where no framework can be imported, and write a page: `make demo`.

Usage: python examples/gallery.py [folder], by default demo/.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import onnxviz as ov
import zoo


def convert_classifier(build: Callable[[], tuple[Any, ov.ImageInput]], path: Path) -> None:
    """An image classifier from PyTorch or Keras."""
    model, image_input = build()
    photo = zoo.photos()["chelsea"]
    ov.convert(model, path, example=image_input.read(photo), input=image_input, classes=zoo.class_names())


def convert_swift_f0(path: Path) -> None:
    """SwiftF0 from the .onnx file that its package ships."""
    ov.convert(zoo.swift_f0_file(), path, example=zoo.melody())


CONVERSIONS: dict[str, Callable[[Path], None]] = {
    "efficientnet-lite0.onnx": partial(convert_classifier, zoo.efficientnet_lite0),
    "squeezenet1.1-keras.onnx": partial(convert_classifier, zoo.squeezenet_keras),
    "squeezenet1.1-pytorch.onnx": partial(convert_classifier, zoo.squeezenet),
    "swift-f0.onnx": convert_swift_f0,
}
"""File → what writes it, in the order that gallery_explain.main takes them."""

WITHOUT_FRAMEWORKS = """
import pathlib, sys
sys.modules.update(dict.fromkeys(("torch", "tensorflow", "keras", "tf2onnx")))  # importing one of them now fails
import gallery_explain
gallery_explain.main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
"""


def main(folder: Path) -> None:
    """Write models, pictures and index.html into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = tqdm(CONVERSIONS.items(), unit="model")
    for name, convert in progress:
        progress.set_description(f"converting {name}")
        convert(folder / name)
    command = [sys.executable, "-c", WITHOUT_FRAMEWORKS, str(folder.resolve()), *CONVERSIONS]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
