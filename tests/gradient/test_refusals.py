"""What rules refuse: each limit that is listed is met by a node that is refused for it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxviz.gradient.backward import downstream
from onnxviz.gradient.refusals import refusals
from onnxviz.gradient.ruleless import LIMITS
from tests.gradient.harness import N, measure, parse

RECURRENT = {"w": np.ones((1, 20, 3), np.float32), "r": np.ones((1, 20, 5), np.float32)}
GATED = {"w": np.ones((1, 15, 3), np.float32), "r": np.ones((1, 15, 5), np.float32)}
PLAIN = {"w": np.ones((1, 5, 3), np.float32), "r": np.ones((1, 5, 5), np.float32)}
ROWS = {"i": np.array([[1], [0]]), "v": np.ones((2, 4), np.float32)}
MOVED = {"i": np.array([[1], [0]]), "u": np.ones((2, 1), np.float32)}
COMPUTED = "t = Shape(x)  n = Shape(t)  k = Sub(n, one)  "
ONE = {"one": np.array([1])}
SIX = "t = Shape(x)  k = Gather(t, at)  "
FIRST = {"at": np.array(1)}
CROPPED = "m = ReduceMax<keepdims=0>(x)  u = Unsqueeze(m, one)  t = Mul(e, u)  "
ROOM = {"one": np.array([0]), "e": np.array([0, 0, 1, 1], np.float32), "f": np.array([1, 2], np.float32)}
X, SEQUENCE = {"x": (2, 4)}, {"x": (6, N, 3)}
ROI = {"r": np.array([[0, 0, 3, 3]], np.float32), "b": np.array([0])}
PATCH = {"x": (1, 2, 6, 6)}

REFUSED = [
    *[(f"{COMPUTED}y = {name}(x, k)", X, ONE, "needs constant axes") for name in LIMITS if name.startswith("Reduce")],
    *[
        (f"y, h = {name}<hidden_size=5, {attribute}>(x, w, r)", SEQUENCE, weights, attribute.split("=")[0])
        for name, weights in [("LSTM", RECURRENT), ("GRU", GATED), ("RNN", PLAIN)]
        for attribute in ["clip=3.0", *(["input_forget=1"] if name == "LSTM" else [])]
    ],
    ('y = Einsum<equation="ii->i">(x)', {"x": (4, 4)}, {}, "repeated labels"),
    ('y = ScatterElements<axis=1, reduction="mul">(x, i, u)', X, MOVED, "reduction='mul'"),
    ('y = ScatterND<reduction="mul">(x, i, v)', X, ROWS, "reduction='mul'"),
    ('y = RoiAlign<mode="max", output_height=2, output_width=2, sampling_ratio=2>(x, r, b)', PATCH, ROI, "mode='max'"),
    ("y = RoiAlign<output_height=2, output_width=2>(x, r, b)", PATCH, ROI, "sampling_ratio=0"),
    ("y = Dropout(x, half, yes)", X, {"half": np.float32(0.5), "yes": np.array(True)}, "training_mode"),
    (f"{SIX}y = DFT<axis=1>(x, k)", {"x": (1, 6, 1)}, FIRST, "a constant dft_length"),
    (f"{SIX}y = STFT(x, k, , k)", {"x": (1, 6, 1)}, FIRST, "a constant frame_step"),
    (f'{CROPPED}y = Resize<coordinate_transformation_mode="tf_crop_and_resize">(x, t, f)', X, ROOM, "a constant roi"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "inputs", "constants", "why"), REFUSED, ids=[case[0] for case in REFUSED])
def test_the_node_is_refused_and_nothing_is_left_behind(code, inputs, constants, why):
    model = parse(code, inputs, constants)
    measure(
        model, lambda batch: {k: np.ones([batch if d == N else d for d in s], np.float32) for k, s in inputs.items()}
    )
    before = ir.to_proto(model).SerializeToString()
    nodes = list(model.graph)
    uses = {value: len(value.uses()) for node in nodes for value in (*node.inputs, *node.outputs) if value is not None}
    found = refusals(nodes, downstream(model.graph.inputs, nodes))
    (reason,) = found.values()
    assert why in reason
    assert not reason.startswith("the gradient of")
    assert uses == {value: len(value.uses()) for value in uses}
    assert ir.to_proto(model).SerializeToString() == before
    (node,) = found
    assert node.op_type in LIMITS


def test_every_limit_is_met_by_a_node():
    """But two: normalising refuses BatchNormalization in training, and no exporter writes a computed block_shape."""
    met = {node.op_type for code, inputs, constants, _ in REFUSED for node in parse(code, inputs, constants).graph}
    assert LIMITS.keys() - met == {"BatchNormalization", "Col2Im"}


def test_nothing_is_refused_without_reason():
    model = parse("a = Relu(x)  y = Softmax(a)", X)
    measure(model, lambda _: {"x": np.ones((2, 4), np.float32)})
    nodes = list(model.graph)
    assert refusals(nodes, downstream(model.graph.inputs, nodes)) == {}


def test_an_input_without_a_gradient_is_named():
    model = parse("s = Mul(x, x)  y = PRelu(x, s)", X)
    measure(model, lambda _: {"x": np.ones((2, 4), np.float32)})
    nodes = list(model.graph)
    (reason,) = refusals(nodes, downstream(model.graph.inputs, nodes)).values()
    assert reason == "is not known with respect to its input 1 ('s'), which is computed from the model's input"
