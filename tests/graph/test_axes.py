"""What the axes of values mean, through transposes and reshapes, in either layout and both directions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from onnxviz.graph.axes import AxisRoles
from onnxviz.graph.probe import probe
from onnxviz.manifest import Axes
from onnxviz.source import BATCH
from tests.support import model_of, normal

WEIGHTS = {
    "w": normal(8, 3, 3, 3), "w1": normal(8, 3, 3), "w3": normal(8, 3, 3, 3, 3), "s": normal(8), "m": normal(8, 5),
    "flat": np.array([0, -1]), "tokens": np.array([0, 8, -1]), "folded": np.array([-1, 6]),
    "heads": np.array([0, 2, 4, -1]), "one": np.array([1]), "two": np.array([2, 3]), "second": np.array([1]),
    "table": normal(20, 8), "up": np.array([1, 1, 2, 2], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "q": normal(144, 5), "cells": np.array([0, 8, 3, 2, 3]), "two_only": np.array([2]), "w13": normal(8, 3, 1, 3),
    "k": np.array(1), "bias": normal(8, 1, 1),
}  # fmt: skip
CONV = "c = Conv(x, w)  "
IMAGE, SERIES, VOLUME = (2, 3, 8, 5), (2, 3, 8), (2, 3, 5, 6, 7)
CNN, SEQ, VOL, LAST = Axes(0, 1, (2, 3)), Axes(0, 1, (2,)), Axes(0, 1, (2, 3, 4)), Axes(0, 3, (1, 2))

# nodes, shape of x → axes of values
CASES = {
    "convolution": (CONV, IMAGE, {"x": CNN, "c": CNN}),
    "convolution of a series": ("c = Conv(x, w1)", SERIES, {"x": SEQ, "c": SEQ}),
    "convolution of a volume": ("c = Conv(x, w3)", VOLUME, {"x": VOL, "c": VOL}),
    "a pool tells as much": ("c = MaxPool<kernel_shape = [2, 2]>(x)", IMAGE, {"x": CNN, "c": CNN}),
    "what comes after and before": (
        "a = Relu(x)  c = Conv(a, w)  b = Tanh(c)  d = Mul(b, b)", IMAGE, dict.fromkeys("xacbd", CNN),
    ),
    "channels last at the input": (
        "a = Transpose<perm = [0, 3, 1, 2]>(x)  c = Conv(a, w)  y = Transpose<perm = [0, 2, 3, 1]>(c)",
        (2, 8, 5, 3), {"x": LAST, "a": CNN, "c": CNN, "y": LAST},
    ),
    "width before height": (
        "a = Transpose<perm = [0, 1, 3, 2]>(x)  c = Conv(a, w)", IMAGE, {"x": Axes(0, 1, (3, 2)), "c": CNN},
    ),
    "a block of ConvNeXt": (
        CONV + "t = Transpose<perm = [0, 2, 3, 1]>(c)  n = LayerNormalization(t, s, s)  l = MatMul(n, m)  e = Erf(l)",
        IMAGE, {"c": CNN, "t": LAST, "n": LAST, "l": LAST, "e": LAST},
    ),
    "flattened space": (
        CONV + "y = Reshape(c, tokens)  t = Transpose<perm = [0, 2, 1]>(y)",
        IMAGE, {"y": Axes(0, 1, ()), "t": Axes(0, 2, ())},
    ),
    "all flattened": (CONV + "y = Flatten(c)", IMAGE, {"c": CNN, "y": Axes(0, None, ())}),
    "flattened into a linear layer": (
        CONV + "f = Flatten(c)  y = MatMul(f, q)", IMAGE, {"c": CNN, "f": Axes(0, 1, ()), "y": Axes(0, 1, ())},
    ),
    "the batch is merged with channels": (CONV + "y = Reshape(c, folded)", (2, 3, 8, 5), {"y": Axes(0, None, ())}),
    "the height is split": (CONV + "y = Reshape(c, cells)", IMAGE, {"y": Axes(0, 1, (4,))}),
    "channels are split": (CONV + "y = Reshape(c, heads)", IMAGE, {"y": Axes(0, None, ())}),
    "one more axis": (CONV + "y = Unsqueeze(c, second)", IMAGE, {"y": Axes(0, 2, (3, 4))}),
    "one axis less": (
        "u = Unsqueeze(x, two_only)  c = Conv(u, w13)  y = Squeeze(c, two_only)",
        (2, 3, 8), {"x": Axes(0, 1, (2,)), "c": CNN, "y": Axes(0, 1, (2,))},
    ),
    "space is averaged": (CONV + "y = ReduceMean<keepdims = 0>(c, two)", IMAGE, {"y": Axes(0, 1, ())}),
    "space is averaged and kept": (CONV + "y = ReduceMean(c, two)", IMAGE, {"y": CNN}),
    "pooled to one place": (CONV + "y = GlobalAveragePool(c)  f = Flatten(y)", IMAGE, {"y": CNN, "f": Axes(0, 1, ())}),
    "channels are averaged": (CONV + "y = ReduceMean<keepdims = 0>(c, one)", IMAGE, {"y": Axes(0, None, (1, 2))}),
    "a channel is taken": (CONV + "y = Gather<axis = 1>(c, k)", IMAGE, {"y": Axes(0, None, (1, 2))}),
    "resized and padded": ("p = Pad(x, pads)  r = Resize(p, , up)  c = Conv(r, w)", IMAGE, dict.fromkeys("xpr", CNN)),
    "concatenated": (CONV + "d = Sigmoid(c)  y = Concat<axis = 1>(c, d)", IMAGE, {"y": CNN}),
    "split": (CONV + "y, z = Split<axis = 1, num_outputs = 2>(c)", IMAGE, {"y": CNN, "z": CNN}),
    "a bias of its own shape": (CONV + "y = Add(c, bias)", IMAGE, {"y": CNN}),
    "a gate over the channels": (
        CONV + "p = GlobalAveragePool(c)  g = Sigmoid(p)  y = Mul(c, g)", IMAGE, {"g": CNN, "y": CNN},
    ),
    "an embedding": ("y = Gather(table, i)", (2, 3), {"y": Axes(0, 2, ())}),
    "a linear layer": ("y = MatMul(x, m)", (2, 8), {"x": Axes(0, 1, ()), "y": Axes(0, 1, ())}),
    "a linear layer on tokens": ("y = MatMul(x, m)", (2, 6, 8), {"x": Axes(0, 2, ()), "y": Axes(0, 2, ())}),
    "no operator that tells": ("y = Tanh(x)", (2, 3, 8, 8), {"x": Axes(0, None, ()), "y": Axes(0, None, ())}),
    "a product of two values": (
        "t = Transpose<perm = [0, 2, 1]>(x)  y = MatMul(x, t)", (2, 6, 8), dict.fromkeys("xy", Axes(0, None, ())),
    ),
    "no batch": (
        "y = Transpose<perm = [1, 0, 2]>(x)  z = ReduceSum<keepdims = 0>(x)", SERIES, {"y": Axes(1), "z": Axes()},
    ),
}  # fmt: skip

WITH_A_NUMBER = {"the batch is merged with channels": {"y": Axes()}}
"""Where the batch is a plain number, only a first axis of that size is taken for it."""


def roles(nodes: str, shape: tuple[int, ...], *, symbolic: bool = True) -> dict[str, Axes]:
    proto = model_of(nodes, f"float[{','.join('abcde'[: len(shape)])}] x", "float[] x", {})
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(WEIGHTS[name], name) for name in sorted(used & WEIGHTS.keys())
    )
    feeds = {"x": normal(*shape)}
    if "i" in used:
        proto.graph.input[0].name = "i"
        proto.graph.input[0].type.tensor_type.elem_type = 7
        feeds = {"i": np.arange(np.prod(shape)).reshape(shape)}
    del proto.graph.output[:]
    model = ir.serde.deserialize_model(proto)
    for value in model.graph.inputs:
        sizes = feeds[value.name].shape
        value.shape = ir.Shape([BATCH, *sizes[1:]] if symbolic else sizes)
    probe(model, feeds)
    found = AxisRoles(model.graph, None if symbolic else shape[0])
    return {v.name: found.of(v) for v in [*model.graph.inputs, *(y for n in model.graph for y in n.outputs)]}


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_axes(case, symbolic):
    nodes, shape, expected = CASES[case]
    expected = expected | (WITH_A_NUMBER.get(case, {}) if not symbolic else {})
    found = roles(nodes, shape, symbolic=symbolic)
    assert {name: found[name] for name in expected} == expected
