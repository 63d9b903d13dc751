"""Normalised graphs compute the same, in canonical form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from onnxviz.errors import UnsupportedOperatorError
from onnxviz.graph.normalise import normalise
from tests.graph.texts import parsed, run

RNG = np.random.default_rng(0)


def normalised(model: ir.Model) -> ir.Model:
    normalise(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 6)

SAME_RESULT = {
    "constant node": ("{ c = Constant<value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]>() y = Add(x, c) }", ["Add"]),
    "constant expression": (
        "{ c = Constant<value_float=2.0>() d = Sqrt(c) e = Exp(d) y = Mul(x, e) }",
        ["Mul"],
    ),
    "dropout": ("{ a = Relu(x) b = Dropout(a) y = Exp(b) }", ["Relu", "Exp"]),
    "dropout with ratio and unused mask": (
        "{ r = Constant<value_float=0.5>() t = Constant<value=bool {0}>() b, m = Dropout(x, r, t) y = Exp(b) }",
        ["Exp"],
    ),
    "dropout as output": ("{ a = Relu(x) y = Dropout(a) }", ["Relu"]),
    "if of a constant": (
        """{ c = Constant<value=bool {1}>() y = If(c)<then_branch = a () => (float[N, 6] p) { q = Relu(x) p = Neg(q) },
        else_branch = b () => (float[N, 6] p) { p = Exp(x) }> }""",
        ["Relu", "Neg"],
    ),
    "nothing reads it": ("{ a = Exp(x) b = Log(a) y = Neg(x) }", ["Neg"]),
    "batch stays open": (
        """{ s = Shape(x) i = Constant<value_ints=[0]>() n = Gather(s, i) m = Constant<value_ints=[2, 3]>()
        t = Concat<axis=0>(n, m) r = Reshape(x, t) y = Flatten(r) }""",
        ["Shape", "Gather", "Concat", "Reshape", "Flatten"],
    ),
    "pads from ConstantOfShape": (
        "{ n = Constant<value_ints=[4]>() p = ConstantOfShape<value=int64[1] {1}>(n) y = Pad(x, p) }",
        ["Pad"],
    ),
}


@pytest.mark.parametrize(("body", "left"), SAME_RESULT.values(), ids=SAME_RESULT)
def test_same_result_in_canonical_form(body, left):
    model = parsed(f"g (float[N, 6] x) => (float[?, ?] y) {body}")
    before = run(model, x=X)["y"]
    model = normalised(model)
    np.testing.assert_array_equal(run(model, x=X)["y"], before)
    assert operators(model) == left
    assert run(model, x=X[:1])["y"].shape[0] in (1, before.shape[0] - 1)


def test_conditions_computed_from_the_input_stay():
    model = parsed(
        "g (float[N, 6] x) => (float[N, 6] y) { s = ReduceSum<keepdims=0>(x) z = Constant<value_float=0.0>() "
        "c = Greater(s, z) y = If(c)<then_branch = a () => (float[N, 6] p) { p = Relu(x) }, "
        "else_branch = b () => (float[N, 6] p) { p = Neg(x) }> }"
    )
    before = [run(model, x=X + shift)["y"] for shift in (-1, 1)]
    model = normalised(model)
    assert "If" in operators(model)
    for shift, expected in zip((-1, 1), before, strict=True):
        np.testing.assert_array_equal(run(model, x=X + shift)["y"], expected)


def test_functions_are_inlined():
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18, "mine": 1]> g (float[N, 6] x) => (float[N, 6] y) '
        '{ a = mine.Twice(x) y = mine.Twice(a) } <domain: "mine", opset_import: ["": 18]> '
        "Twice (a) => (b) { b = Add(a, a) }"
    )
    model = normalised(ir.from_proto(proto))
    assert operators(model) == ["Add", "Add"]
    assert not model.functions
    assert set(model.opset_imports) == {""}
    np.testing.assert_array_equal(run(model, x=X)["y"], 4 * X)


TRAINING = {
    "dropout": ("t = Constant<value=bool {1}>() r = Constant<value_float=0.5>() y = Dropout(x, r, t)", "Dropout"),
    "mask": ("y, m = Dropout(x) z = Cast<to=1>(m)", "mask"),
    "batch normalisation": ("y, a, b = BatchNormalization<training_mode=1>(x, c, c, c, c)", "BatchNormalization"),
}


@pytest.mark.parametrize(("body", "named"), TRAINING.values(), ids=TRAINING)
def test_training_mode_is_refused(body, named):
    outputs = "float[N, 6] y, float[N, 6] z" if "z =" in body else "float[N, 6] y"
    model = parsed(f"g (float[N, 6] x) => ({outputs}) {{ {body} }}", c=np.ones(6, np.float32))
    with pytest.raises(UnsupportedOperatorError, match=f"{named}.*'y'|{named}.*Dropout"):
        normalise(model)


def test_outputs_keep_their_names_and_get_their_own_nodes():
    model = parsed(
        "g (float[N, 6] x) => (float[6] w, float[1] c, float[N, 6] y) "
        "{ c = Constant<value_floats=[3.0]>() y = Add(x, w) }",
        w=np.arange(6, dtype=np.float32),
    )
    model.graph.outputs.append(model.graph.outputs[2])  # listed twice
    model = normalised(model)
    got = run(model, x=X)
    assert set(got) == {"w", "c", "y"}
    np.testing.assert_array_equal(got["w"], np.arange(6))
    np.testing.assert_array_equal(got["c"], [3])
    np.testing.assert_array_equal(got["y"], X + np.arange(6, dtype=np.float32))
    assert all(value.producer() is not None for value in model.graph.outputs)


def test_an_input_that_is_an_output_is_renamed():
    model = parsed("g (float[N, 6] x) => (float[N, 6] x, float[N, 6] y) { y = Relu(x) }")
    assert normalise(model) == {"x": "x#out"}
    assert [value.name for value in model.graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(model, x=X)["x#out"], X)


def test_names_are_unique_and_not_empty():
    model = parsed("g (float[N, 6] x) => (float[N, 6] y) { a = Relu(x) b = Relu(a) y = Relu(b) }")
    for node in model.graph:
        node.name = "same"
    model.graph[1].name = ""
    model = normalised(model)
    names = [node.name for node in model.graph]
    assert len(set(names)) == 3
    assert all(names)


def test_a_large_weight_is_stored_once():
    weight = RNG.standard_normal((300, 300)).astype(np.float32)
    both = parsed(
        "g (float[N, 300] x) => (float[N, 300] y) { t = Transpose(w) a = MatMul(x, t) y = MatMul(a, w) }", w=weight
    )
    only = parsed("g (float[N, 300] x) => (float[N, 300] y) { t = Transpose(w) y = MatMul(x, t) }", w=weight)
    for model, left in ((both, ["Transpose", "MatMul", "MatMul"]), (only, ["MatMul"])):
        graph = normalised(model).graph
        assert [node.op_type for node in graph] == left
        assert sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None) == 90_000


CHAINS = {
    "views": ("a = Transpose<perm = [1, 0]>(w) b = Unsqueeze(a, zero) c = Squeeze(b, zero) t = Reshape(c, size)", True),
    "arithmetic": ("a = Mul(w, two) b = Sub(a, half) t = Transpose(b)", True),
    "a narrower type and views": ("a = Cast<to = 10>(w) b = Transpose(a) t = Cast<to = 1>(b)", False),
    "read elsewhere": ("t = Transpose(w) z = ReduceSum<keepdims = 0>(w)", False),
    "twice the same": (
        "a = Transpose(w) b = Reshape(a, size) c = Transpose(w) d = Reshape(c, size) t = Max(b, d)",
        False,
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_what_replaces_a_weight_is_folded_at_any_size(case):
    expressions, whole = CHAINS[case]
    weights = {
        "w": RNG.standard_normal((300, 300)).astype(np.float32),
        "two": np.float32(2), "half": np.float32(0.5), "zero": np.array([0]), "size": np.array([300, 300]),
    }  # fmt: skip
    declared = "float[N, 300] y, float z" if "z =" in expressions else "float[N, 300] y"
    model = parsed(f"g (float[N, 300] x) => ({declared}) {{ {expressions} y = MatMul(x, t) }}", **weights)
    x = RNG.standard_normal((2, 300)).astype(np.float32)
    before = run(model, x=x)
    model = normalised(model)
    for name, expected in before.items():
        np.testing.assert_allclose(run(model, x=x)[name], expected, rtol=1e-6, atol=1e-4)
    large = [v.const_value for v in model.graph.initializers.values() if v.const_value.size > 300]
    assert len(large) == 1
    assert (operators(model) == ["MatMul"]) == whole


def test_a_weight_that_two_layers_read_in_the_same_way_is_stored_once():
    model = normalised(
        parsed(
            "g (float[N, 300] x) => (float[N, 300] y) { t = Transpose<perm = [1, 0]>(w) a = MatMul(x, t) "
            "r = Transpose<perm = [1, 0]>(w) y = MatMul(a, r) }",
            w=RNG.standard_normal((300, 300)).astype(np.float32),
        )
    )
    assert operators(model) == ["MatMul", "MatMul"]
    assert len(model.graph.initializers) == 1


def test_expressions_of_different_attributes_are_not_the_same():
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    model = parsed(
        "g (float[N] x) => (float[?, ?, ?] y, float[?, ?, ?] z) { a = Transpose<perm = [1, 0, 2]>(w) "
        "b = Transpose<perm = [0, 2, 1]>(w) s = ReduceSum<keepdims = 0>(x) y = Add(a, s) z = Add(b, s) }",
        w=weight,
    )
    got = run(normalised(model), x=np.zeros(2, np.float32))
    np.testing.assert_array_equal(got["y"], weight.transpose(1, 0, 2))
    np.testing.assert_array_equal(got["z"], weight.transpose(0, 2, 1))


def test_a_weight_filled_in_the_graph_stays_an_expression():
    model = normalised(
        parsed(
            "g (float[N, 300] x) => (float[N, 300] y) "
            "{ s = Constant<value_ints=[300, 300]>() w = ConstantOfShape<value=float[1] {0.5}>(s) y = MatMul(x, w) }"
        )
    )
    assert operators(model) == ["ConstantOfShape", "MatMul"]


def test_folding_leaves_no_trace():
    model = normalised(parsed("g (float[N, 6] x) => (float[N, 6] y) { c = Exp(w) y = Mul(x, c) }", w=X[0]))
    assert not any(value.metadata_props for value in model.graph.initializers.values())


# ---------------------------------------------------------------------------------------------------- explicit pads
