"""Makes a page that explains pictures in the browser: ``python examples/browser/make.py FOLDER [MODEL PHOTO]``.

MODEL is an explainable file that knows how its pictures are prepared (``convert(…, input=onnxviz.ImageInput(…))``);
without one it is SqueezeNet 1.1 with its ImageNet weights. The folder then has the page, the network, the photo and the
names of the classes. To look at it::

    cd FOLDER && npm install && python -m http.server --bind 127.0.0.1
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import onnxviz as ov

HERE = Path(__file__).parent
PAGE = ("index.html", "page.js", "explain.js", "package.json")


def make(folder: Path, model: Path, photo: Path) -> Path:
    """Fill the folder, which is made if there is none; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    with ov.load(model, providers="cpu") as ex:
        print(ex.export(folder / "model.onnx", "grad_cam", "input", pixels=True, normalize=True))
        (folder / "classes.json").write_text(json.dumps(ex.classes or []), encoding="utf-8")
    shutil.copy(photo, folder / "photo")
    for name in PAGE:
        shutil.copy(HERE / name, folder / name)
    return folder


def squeezenet(folder: Path) -> tuple[Path, Path]:
    """SqueezeNet, converted, and a photo."""
    sys.path.append(str(HERE.parent))
    import zoo

    network, image = zoo.squeezenet()
    photo = zoo.data("skimage", "data", "chelsea.png")
    model = folder / "squeezenet.onnx"
    ov.convert(network, model, example=image.read(photo), input=image, classes=zoo.class_names())
    return model, photo


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    given = [Path(argument) for argument in sys.argv[2:4]] or squeezenet(target)
    make(target, *given)
