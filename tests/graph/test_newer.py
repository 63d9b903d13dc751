"""Operators of opsets 19 and later give at opset 18 the numbers that ONNX's own node tests ask for."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from ml_dtypes import int4

import onnxviz as ov
from onnxviz.errors import UnsupportedOperatorError
from tests.graph.texts import of_x
from tests.specification import NodeTest, arrays, lowered, node_tests, operator, with_constants
from tests.support import assert_close

OPERATORS = (
    *("AffineGrid", "Attention", "AveragePool", "DFT", "DeformConv", "DequantizeLinear", "Gelu", "GridSample"),
    *("GroupNormalization", "Pad", "QuantizeLinear", "RMSNormalization", "Resize", "RotaryEmbedding", "Swish"),
    *("LpPool", "MaxPool", "Reshape", "TensorScatter", "TopK"),
)
REFUSED = {
    "AveragePool": ("dilations",),
    "DequantizeLinear": ("e4m3fn", "e5m2", "int4", "int2", "float4", "blocked"),
    "QuantizeLinear": ("e4m3fn", "e5m2", "int4", "int2", "float4", "blocked"),
}
"""Parts of the names of cases that are refused: types and attributes that opset 18 has no words for."""
BETWEEN_RUNTIMES = ("bf16", "uint64", "downsample_scales_linear_align_corners", "downsample_scales_cubic_align_corners")
"""Cases for which onnxruntime has no kernel, or where its own operator differs from the specification."""


def is_newer(test: NodeTest) -> bool:
    [opset] = [each.version for each in test.model.opset_import]
    return onnx.defs.get_schema(operator(test), opset, "").since_version > 18


def is_refused(test: NodeTest) -> bool:
    return any(part in test.name for part in REFUSED.get(operator(test), ()))


CASES = [
    test
    for test in node_tests()
    if operator(test) in OPERATORS and is_newer(test) and not any(part in test.name for part in BETWEEN_RUNTIMES)
]


@pytest.mark.parametrize("case", [case for case in CASES if not is_refused(case)], ids=lambda case: case.name)
def test_numbers_of_the_specification(case):
    proto, feeds = with_constants(case)
    _, expected = arrays(case)
    model = ir.to_proto(lowered(proto, feeds))
    assert {each.domain: each.version for each in model.opset_import}[""] == 18
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for got, wanted in zip(session.run(None, feeds), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-3 if wanted.dtype != np.float16 else 1e-2, atol=1e-3)


@pytest.mark.parametrize("case", [case for case in CASES if is_refused(case)], ids=lambda case: case.name)
def test_refused_by_operator(case):
    proto, feeds = with_constants(case)
    with pytest.raises(UnsupportedOperatorError, match=f"^{proto.graph.node[0].op_type} "):
        lowered(proto, feeds)


def test_there_are_cases_of_each():
    assert {operator(case) for case in CASES} == set(OPERATORS)
    assert {operator(case) for case in CASES if is_refused(case)} == set(REFUSED)
    assert len(CASES) > 200


# ----- through the whole conversion, which holds gradients against finite differences -----

RNG = np.random.default_rng(0)
WEIGHTS = {
    "k": RNG.standard_normal((2, 2, 7, 4)).astype(np.float32),
    "past": RNG.standard_normal((2, 2, 3, 4)).astype(np.float32),
    "w": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "shifts": RNG.uniform(-1, 1, (2, 2 * 9 * 2, 5, 4)).astype(np.float32),
    "weights": RNG.uniform(0.2, 1, (2, 2 * 9, 5, 4)).astype(np.float32),
    "c": RNG.uniform(0.5, 1.5, 4).astype(np.float32),
    "cos": np.cos(RNG.uniform(0, 6, (2, 5, 2))).astype(np.float32),
    "sin": np.sin(RNG.uniform(0, 6, (2, 5, 2))).astype(np.float32),
    "sizes": np.array([2, 1, 3, 5]),
    "picture": RNG.standard_normal((2, 1, 6, 6)).astype(np.float32),
    "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1]),
    "axis": np.array(2),
    "places": np.array([1, 0]),
    "scale": np.array([[0.5, 0.25], [0.125, 1], [0.5, 0.5], [1, 2]], np.float32),
    "levels": RNG.integers(-7, 8, (4, 4)).astype(int4),
}
DIFFERENTIATED = {
    "attention": (23, (2, 2, 5, 4), "y = Attention<is_causal=1, softcap=5.0>(x, k, k)"),
    "attention with a past": (24, (2, 2, 5, 4), "y, p, q = Attention(x, k, k, , past, past)"),
    "attention to itself": (23, (2, 5, 8), "y = Attention<q_num_heads=4, kv_num_heads=4>(x, x, x)"),
    "affine grid": (20, (2, 2, 3), "g = AffineGrid(x, sizes) y = GridSample(picture, g)"),
    "deformable convolution": (
        22, (2, 4, 7, 6), "y = DeformConv<offset_group=2>(x, w, shifts, c, weights)",
    ),
    "deformable convolution, grouped": (
        19, (2, 8, 9, 9), "y = DeformConv<group=2, offset_group=2, strides=[2, 2], pads=[1, 0, 1, 0]>(x, w, shifts)",
    ),
    "gelu": (20, (2, 4), "y = Gelu(x)"),
    "groups": (21, (2, 4, 3, 3), "y = GroupNormalization<num_groups=2>(x, c, c)"),
    "root mean square": (23, (2, 3, 4), "y = RMSNormalization(x, c)"),
    "rotary": (23, (2, 5, 3, 4), "t = Transpose<perm=[0, 2, 1, 3]>(x) y = RotaryEmbedding(t, cos, sin)"),
    "swish": (24, (2, 4), "y = Swish<alpha=1.5>(x)"),
    "scatter": (24, (2, 2, 2, 4), "t = TensorScatter(past, x, places) y = Tanh(t)"),
    "wrapped": (19, (2, 2, 4, 5), 'y = Pad<mode="wrap">(x, pads)'),
    "spectrum": (20, (2, 3, 8, 1), "y = DFT(x, , axis)"),
    "weights of 4 bits": (
        21, (2, 4), "m = DequantizeLinear<block_size=2, axis=1>(levels, scale) y = MatMul(x, m)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients(name, tmp_path):
    opset, shape, body = DIFFERENTIATED[name]
    proto = of_x(body, shape, WEIGHTS, opset=opset)
    x = RNG.standard_normal(shape).astype(np.float32)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    path = ov.convert(proto, tmp_path / "net.onnx", example=x, quiet=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    got, gradient = onnxruntime.InferenceSession(path).run(["y", "grad/x"], {"x": x, "seed/y": np.ones_like(expected)})
    assert_close(got, expected)
    assert gradient.any()
