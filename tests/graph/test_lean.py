"""Graphs that say the same with fewer nodes: known sizes, biases, matrix products with a sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxviz.graph.lean import make_lean
from onnxviz.graph.probe import probe
from tests.support import assert_close, model_of, normal


def run(model: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))


def leaned(
    nodes: str, sizes: tuple[int, ...], weights: Mapping[str, np.ndarray], outputs: str = "y", *, batch: bool = True
) -> Counter[str]:
    """Run the pass and compare all outputs at several batch sizes; the operators that are left."""
    dims = ", ".join(map(str, ("N" if batch else 2, *sizes)))
    declared = ", ".join(f"float[] {name}" for name in outputs.split())
    model = ir.from_proto(model_of(nodes, f"float[{dims}] x", declared, weights))
    probe(model, {"x": normal(2, *sizes)})
    feeds = [normal(n, *sizes, seed=n) for n in ((1, 2, 5) if batch else (2,))]
    before = [run(model, x) for x in feeds]
    make_lean(model)
    for x, expected in zip(feeds, before, strict=True):
        got = run(model, x)
        assert list(got) == list(expected)
        for name, value in expected.items():
            assert_close(got[name], value, 1e-6)
    return Counter(node.op_type for node in model.graph)


# ----- targets of Reshape -----

INDEX = {"zero": np.array([0]), "one": np.array([1]), "c": np.array([24]), "ones": np.array([1, 1])}
TARGETS = {
    "batch and constants": "s = Shape(x) n = Slice(s, zero, one) t = Concat<axis = 0>(n, ones, c) y = Reshape(x, t)",
    "by gathering": "s = Shape(x) n = Gather(s, zero) t = Concat<axis = 0>(n, c) y = Reshape(x, t)",
    "with casts": (
        "s = Shape(x) i = Cast<to = 6>(s) n = Slice(i, zero, one) f = Squeeze(n, zero) u = Unsqueeze(f, zero) "
        "l = Cast<to = 7>(u) t = Concat<axis = 0>(l, c) y = Reshape(x, t)"
    ),
    "merged with the batch": (
        "s = Shape(x) n = Slice(s, zero, last) p = ReduceProd(n, zero) l = Slice(s, last, end) "
        "t = Concat<axis = 0>(p, l) y = Reshape(x, t)"
    ),
    "a copied size": "s = Shape(x) n = Slice(s, zero, one) t = Concat<axis = 0>(n, zero, c2) y = Reshape(x, t)",
}


@pytest.mark.parametrize("nodes", TARGETS.values(), ids=TARGETS)
def test_targets_of_the_batch_become_constants(nodes):
    index = {**INDEX, "last": np.array([2]), "end": np.array([3]), "c2": np.array([4])}
    assert leaned(nodes, (6, 4), index) == {"Reshape": 1}


def test_static_targets_become_constants():
    nodes = "s = Shape(x) t = Concat<axis = 0>(s, one) y = Reshape(x, t)"
    assert leaned(nodes, (6, 4), INDEX, batch=False) == {"Reshape": 1}


VALUES = (
    "m = ReduceMax<keepdims = 0>(x) z = Sub(m, m) i = Cast<to = 7>(z) j = Reshape(i, one) t = Concat<axis = 0>(j, c) "
    "y = Reshape(x, t)"
)
TWICE = (
    "s = Shape(x) n = Slice(s, zero, one) f = Reshape(x, flat) g = Transpose(f) m = MatMul(f, g) "
    "t = Concat<axis = 0>(n, n, one) y = Reshape(m, t)"
)
NO_PRODUCT = "s = Shape(x) n = Slice(s, zero, one) h = Div(n, n) t = Concat<axis = 0>(h, minus) y = Reshape(x, t)"
OPEN = {"computed from values": (VALUES, 2), "the batch twice": (TWICE, 2), "not a product of sizes": (NO_PRODUCT, 1)}


@pytest.mark.parametrize("case", OPEN)
def test_other_targets_stay(case):
    nodes, reshapes = OPEN[case]
    weights = {**INDEX, "c": np.array([-1]), "minus": np.array([-1]), "flat": np.array([0, -1])}
    left = leaned(nodes, (6, 4), weights)
    assert left["Reshape"] == reshapes
    assert left["Concat"] == 1


# ----- biases -----

CONV = {"k": normal(5, 3, 1, 1), "v": normal(3, 5, 1, 1), "b": normal(5, seed=1), "d": normal(5, seed=2)}
LAST = "t = Transpose<perm = [0, 2, 3, 1]>(c)"
BIAS = {
    "conv": ("c = Conv(x, k) y = Add(c, a)", (5, 1, 1), ["Conv"]),
    "conv with bias": ("c = Conv(x, k, b) y = Add(c, a)", (1, 5, 1, 1), ["Conv"]),
    "conv and a number": ("c = Conv(x, k, b) y = Add(a, c)", (), ["Conv"]),
    "conv and one number": ("c = Conv(x, k) y = Add(a, c)", (1, 1, 1, 1), ["Conv"]),
    "transposed conv": ("c = ConvTranspose(x, v) y = Add(c, a)", (5, 1, 1), ["ConvTranspose"]),
    "channels last": (f"c = Conv(x, k, b) {LAST} y = Add(t, a)", (5,), ["Conv", "Transpose"]),
    "channels last, all axes": (f"c = ConvTranspose(x, v) {LAST} y = Add(a, t)", (1, 1, 1, 5), [
        "ConvTranspose", "Transpose"]),
    "twice": ("c = Conv(x, k, b) e = Add(c, a) y = Add(e, a)", (5, 1, 1), ["Conv"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BIAS)
def test_sums_per_channel_become_the_bias(case):
    nodes, shape, left = BIAS[case]
    assert leaned(nodes, (3, 4, 5), {**CONV, "a": np.asarray(normal(*shape, seed=3))}) == Counter(left)


NO_BIAS = {
    "differs in space": ("c = Conv(x, k) y = Add(c, a)", (5,), "y"),
    "channels last, as if first": (f"c = Conv(x, k) {LAST} y = Add(t, a)", (5, 1), "y"),
    "more axes": ("c = Conv(x, k) y = Add(c, a)", (1, 1, 5, 1, 1), "y"),
    "an output": ("c = Conv(x, k) y = Add(c, a)", (5, 1, 1), "y c"),
    "read twice": ("c = Conv(x, k) z = Add(c, a) y = Mul(z, c)", (5, 1, 1), "y"),
    "an output behind the transpose": (f"c = Conv(x, k) {LAST} y = Add(t, a)", (5,), "y t"),
    "an output before the transpose": (f"c = Conv(x, k) {LAST} y = Add(t, a)", (5,), "y c"),
    "another permutation": ("c = Conv(x, k) t = Transpose<perm = [0, 3, 2, 1]>(c) y = Add(t, a)", (5,), "y"),
    "computed": ("c = Conv(x, k) g = ReduceMean(x) y = Add(c, g)", (5,), "y"),
    "a computed bias": ("n = ReduceMean<keepdims = 0>(x) e = Expand(n, five) c = Conv(x, k, e) y = Add(c, a)", (
        5, 1, 1), "y"),
    "not a convolution": ("c = MaxPool<kernel_shape = [2, 2]>(x) y = Add(c, a)", (3, 1, 1), "y"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_BIAS)
def test_other_sums_stay(case):
    nodes, shape, outputs = NO_BIAS[case]
    weights = {**CONV, "a": normal(*shape, seed=3), "five": np.array([5])}
    assert leaned(nodes, (3, 4, 5), weights, outputs)["Add"] == 1


# ----- matrix products -----


@pytest.mark.parametrize("row", [(4,), (1, 4), (), (1,), (1, 1)])
def test_a_product_and_a_row_are_one_gemm(row):
    weights = {"w": normal(3, 4), "b": np.asarray(normal(*row, seed=1))}
    assert leaned("m = MatMul(x, w) y = Add(m, b)", (3,), weights) == {"Gemm": 1}
    assert leaned("m = MatMul(x, w) a = Add(b, m) y = Relu(a)", (3,), weights, "y a") == {"Gemm": 1, "Relu": 1}


NO_GEMM = {
    "rank 3": ("m = MatMul(x, w) y = Add(m, b)", (2, 3), "y"),
    "an output": ("m = MatMul(x, w) y = Add(m, b)", (3,), "y m"),
    "read twice": ("m = MatMul(x, w) a = Add(m, b) y = Mul(a, m)", (3,), "y"),
    "no weights": ("t = Transpose(x) p = MatMul(t, x) y = Add(p, b1)", (3,), "y"),
    "a column": ("m = MatMul(r, x) y = Add(m, c)", (4,), "y"),
    "a table": ("m = MatMul(x, w) y = Add(m, b3)", (3,), "y"),
}


@pytest.mark.parametrize("case", NO_GEMM)
def test_other_products_stay(case):
    nodes, sizes, outputs = NO_GEMM[case]
    weights = {"w": normal(3, 4), "b": normal(4), "b1": normal(3), "c": normal(2, 1), "b3": normal(1, 1, 4),
               "r": normal(2, 2)}  # fmt: skip
    left = leaned(nodes, sizes, weights, outputs, batch=case != "a column")
    assert (left["MatMul"], left["Gemm"]) == (1, 0)


def test_integers_are_not_multiplied_by_gemm():
    model = ir.from_proto(
        model_of(
            "i = Cast<to = 7>(x) m = MatMul(i, w) s = Add(m, b) y = Cast<to = 1>(s)",
            "float[N, 3] x",
            "float[] y",
            {"w": np.ones((3, 4), np.int64), "b": np.arange(4)},
        )
    )
    probe(model, {"x": normal(2, 3)})
    make_lean(model)
    assert "Gemm" not in [node.op_type for node in model.graph]


# ----- parametric ReLUs -----

PRELU = "p = Relu(x) n = Neg(x) b = Relu(n) s = Mul({0}) y = Add({1})"


@pytest.mark.parametrize("scaled", ["c, b", "b, c"])
@pytest.mark.parametrize("summed", ["p, s", "s, p"])
@pytest.mark.parametrize("shape", [(4,), (1, 1, 4), (5, 3, 4), ()])
def test_two_rectified_halves_are_one_prelu(scaled, summed, shape):
    weights = {"c": np.asarray(normal(*shape, seed=3))}
    assert leaned(PRELU.format(scaled, summed), (5, 3, 4), weights) == {"PRelu": 1}


NO_PRELU = {
    "a computed slope": "p = Relu(x) n = Neg(x) b = Relu(n) s = Mul(x, b) y = Add(p, s)",
    "another input": "p = Relu(x) e = Exp(x) n = Neg(e) b = Relu(n) s = Mul(c, b) y = Add(p, s)",
    "a half read twice": "p = Relu(x) n = Neg(x) b = Relu(n) s = Mul(c, b) a = Add(p, s) y = Mul(a, b)",
    "no half": "p = Relu(x) n = Neg(x) s = Mul(c, n) y = Add(p, s)",
}


@pytest.mark.parametrize("case", NO_PRELU)
def test_other_halves_stay(case):
    assert leaned(NO_PRELU[case], (5, 3, 4), {"c": normal(4)})["PRelu"] == 0
