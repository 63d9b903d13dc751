"""Plain models in ONNX's text form, and the check that their lifted graphs compute what the models do."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from onnxviz.graph.normalise import normalise
from onnxviz.source import Source
from tests.graph.texts import proto
from tests.support import normal

CNN = """
g (float[batch, 3, 8, 8] image) => (float[batch, 5] scores) {
  conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(image, w, b)
  norm = BatchNormalization(conv, s, s, s, v)
  act = Relu(norm)
  pool = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(act)
  both = Concat<axis = 1>(pool, pool)
  flat = Flatten(both)
  scores = Gemm<transB = 1>(flat, m, c)
}
"""
WEIGHTS = {
    "w": normal(4, 3, 3, 3),
    "b": normal(4, seed=1),
    "s": np.linspace(0.5, 1.5, 4, dtype=np.float32),
    "v": np.linspace(1, 2, 4, dtype=np.float32),
    "m": normal(5, 128, seed=2),
    "c": normal(5, seed=3),
}


def cnn(**options: int) -> onnx.ModelProto:
    return proto(CNN, **options, **WEIGHTS)


def check(plain: Source, *batches: int) -> None:
    """The normalised graph is valid and gives, for every output and layer, what the original gives."""
    normalise(plain.model)
    model = ir.to_proto(plain.model)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_outputs()]
    assert set(names) == {*plain.outputs.values(), *(tap.value for tap in plain.taps)}
    for batch in batches or (None,):
        feeds = {k: np.resize(v, (batch, *v.shape[1:])) if batch else v for k, v in plain.example.items()}
        got = dict(zip(names, session.run(names, feeds), strict=True))
        expected = plain.reference.run(feeds)
        assert set(expected) == {*plain.outputs, *(tap.name for tap in plain.taps)}
        for public, value in {**{t.name: t.value for t in plain.taps}, **plain.outputs}.items():
            scale = np.abs(expected[public]).max()
            assert np.abs(got[value] - expected[public]).max() <= 1e-4 * scale, public
