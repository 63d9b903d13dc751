"""The healthy files that are damaged: a small network, plain and explainable, weights inside and beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import onnxviz as ov

TEXT = """<ir_version: 10, opset_import: ["": 18, "local": 1], producer_name: "hand">
g (float[N, 3, 8, 8] x) => (float[N, 4] y) {
    c = Conv<pads: ints = [1, 1, 1, 1]>(x, w, b)
    r = local.Rectify(c)
    p = MaxPool<kernel_shape: ints = [2, 2], strides: ints = [2, 2]>(r)
    m = GlobalAveragePool(p)
    f = Flatten(m)
    s = Gemm(f, v, a)
    y = Softmax(s)
}
<domain: "local", opset_import: ["": 18]>
Rectify (x) => (y) { y = Relu(x) }"""


def plain() -> onnx.ModelProto:
    """Conv, a function of its own around Relu, MaxPool, mean over space, Gemm, Softmax; x (N, 3, 8, 8) → y (N, 4)."""
    rng = np.random.default_rng(1)
    weights = {"w": (12, 3, 3, 3), "b": (12,), "v": (12, 4), "a": (4,)}
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.extend(
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items()
    )
    return model


def healthy(folder: Path) -> dict[str, Path]:
    """The files by name: ``plain``, ``plain beside``, ``explainable``, ``explainable beside``."""
    made = {name: folder / name.replace(" ", "_") / "net.onnx" for name in NAMES}
    for path in made.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(plain(), made["plain"])
    onnx.save(plain(), made["plain beside"], save_as_external_data=True, location="net.weights", size_threshold=256)
    image = ov.ImageInput(8, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    for name, beside in (("explainable", False), ("explainable beside", True)):
        ov.convert(plain(), made[name], input=image, classes=["a", "b", "c", "d"], external_data=beside, quiet=True)
    return made


NAMES = ("plain", "plain beside", "explainable", "explainable beside")
