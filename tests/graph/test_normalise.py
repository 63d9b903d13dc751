"""Normalised graphs compute the same, in canonical form; explicit pads are what auto_pad meant."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnxviz.errors import OpenSizeError, UnsupportedOperatorError
from onnxviz.graph.normalise import explicit_pads, normalise, separate_pads
from tests.support import normal

RNG = np.random.default_rng(0)


def parsed(text: str, **weights: np.ndarray) -> ir.Model:
    """``text`` is the signature and body of a graph in ONNX's text form."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return ir.from_proto(proto)


def run(model: ir.Model, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))


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

POOL_SIZES = [(7,), (8,), (5, 8), (6, 7, 5)]
WINDOWS = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 2), (5, 4)]
DILATED = [(2, 1, 3), (3, 1, 2), (3, 2, 2)]


def attributes(rank: int, **values: int) -> str:
    return ", ".join(f"{name} = {[value] * rank}" for name, value in values.items())


def same_as_before(model: ir.Model, x: np.ndarray, **shapes: tuple[int, ...]) -> None:
    before = run(model, x=x)["y"]
    explicit_pads(model, {"x": x.shape, **shapes})
    [node] = model.graph
    assert "auto_pad" not in node.attributes
    assert "output_shape" not in node.attributes
    after = run(model, x=x)["y"]
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
@pytest.mark.parametrize("sizes", POOL_SIZES)
class TestAutoPad:
    def test_conv(self, mode, kernel, stride, sizes):
        rank = len(sizes)
        how = attributes(rank, strides=stride)
        same_as_before(
            parsed(
                f"g (float[{'?, ' * (rank + 1)}?] x) => (float[{'?, ' * (rank + 1)}?] y) "
                f'{{ y = Conv<auto_pad = "{mode}", {how}>(x, w) }}',
                w=RNG.standard_normal((3, 2, *[kernel] * rank)).astype(np.float32),
            ),
            RNG.standard_normal((2, 2, *sizes)).astype(np.float32),
        )

    @pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "AveragePool with pad", "LpPool"])
    def test_pool(self, mode, kernel, stride, sizes, pool):
        rank = len(sizes)
        how = attributes(rank, strides=stride, kernel_shape=kernel)
        if pool.endswith("with pad"):
            how += ", count_include_pad = 1"
        same_as_before(
            parsed(
                f"g (float[{'?, ' * (rank + 1)}?] x) => (float[{'?, ' * (rank + 1)}?] y) "
                f'{{ y = {pool.split()[0]}<auto_pad = "{mode}", {how}>(x) }}'
            ),
            RNG.standard_normal((2, 2, *sizes)).astype(np.float32),
        )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), DILATED)
def test_dilated_conv_against_the_specification(kernel, stride, dilation, mode):
    """ONNX Runtime refuses it; Keras uses it."""
    how = f'auto_pad = "{mode}", {attributes(2, strides=stride, dilations=dilation)}'
    model = parsed(
        f"g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) {{ y = Conv<{how}>(x, w) }}",
        w=RNG.standard_normal((3, 2, kernel, kernel)).astype(np.float32),
    )
    x = RNG.standard_normal((2, 2, 7, 8)).astype(np.float32)
    [expected] = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    explicit_pads(model, {"x": x.shape})
    np.testing.assert_allclose(run(model, x=x)["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_windows_smaller_than_the_stride_are_never_padded_negatively(mode, size):
    """ONNX Runtime refuses these pools; TensorFlow, where SAME comes from, starts at the first element."""
    model = parsed(
        "g (float[1, 1, ?] x) => (float[1, 1, ?] y) "
        f'{{ y = MaxPool<auto_pad = "{mode}", kernel_shape = [1], strides = [3]>(x) }}'
    )
    x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
    explicit_pads(model, {"x": x.shape})
    np.testing.assert_array_equal(run(model, x=x)["y"], x[:, :, ::3])


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 2, 2), (8, 3, 2), (5, 3, 3), (8, 2, 1)])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_auto_pad_with_ceil_mode(mode, size, kernel, stride, pool):
    how = attributes(2, strides=stride, kernel_shape=kernel)
    same_as_before(
        parsed(
            "g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) "
            f'{{ y = {pool}<auto_pad = "{mode}", ceil_mode = 1, {how}>(x) }}'
        ),
        RNG.standard_normal((1, 2, size, size + 1)).astype(np.float32),
    )


TRANSPOSED = {
    "same upper": 'auto_pad = "SAME_UPPER"',
    "same lower": 'auto_pad = "SAME_LOWER"',
    "valid": 'auto_pad = "VALID"',
    "output shape": "output_shape = [9, 8]",
    "output shape, same upper": 'output_shape = [9, 8], auto_pad = "SAME_UPPER"',
    "output shape, same lower": 'output_shape = [9, 8], auto_pad = "SAME_LOWER"',
    "larger than the windows": "output_shape = [11, 11]",
}


@pytest.mark.parametrize("how", TRANSPOSED.values(), ids=TRANSPOSED)
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_conv_transpose(how, kernel):
    if kernel == 2 and "[11" in how:
        how = how.replace("11, 11", "10, 11")
    same_as_before(
        parsed(
            f"g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) {{ y = ConvTranspose<strides = [2, 2], {how}>(x, w) }}",
            w=RNG.standard_normal((2, 3, kernel, kernel)).astype(np.float32),
        ),
        RNG.standard_normal((2, 2, 5, 5)).astype(np.float32),
    )


AT_ANY_SIZE = [
    'Conv<auto_pad = "{mode}", strides = [{s}, 1]>(x, w)',
    'Conv<auto_pad = "{mode}", strides = [{s}, {s}], dilations = [1, 2]>(x, w)',
    'ConvTranspose<auto_pad = "{mode}", strides = [{s}, {s}]>(x, w)',
    'MaxPool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [{s}, 2]>(x)',
    'LpPool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [{s}, {s}]>(x)',
    'AveragePool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [2, {s}], count_include_pad = 1>(x)',
    'AveragePool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [2, {s}]>(x)',
]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("operator", AT_ANY_SIZE)
def test_same_padding_at_any_size(operator, mode, stride):
    """One graph for all sizes: its padding is that of the graph that was written for each of them."""

    def written() -> ir.Model:
        body = operator.format(mode=mode, s=stride)
        return parsed(f"g (float[N, 2, H, W] x) => (float[N, 2, ?, ?] y) {{ y = {body} }}", w=normal(2, 2, 3, 3))

    model = written()
    explicit_pads(model, {"x": ("N", 2, "H", "W")})
    assert all("auto_pad" not in node.attributes for node in model.graph)
    for height, width in [(4, 7), (5, 6), (6, 9), (7, 8), (9, 4)]:
        x, fixed = -np.abs(normal(2, 2, height, width)), written()
        explicit_pads(fixed, {"x": ("N", 2, height, width)})
        np.testing.assert_allclose(run(model, x=x)["y"], run(fixed, x=x)["y"], rtol=1e-6)


def test_a_wanted_output_needs_the_size():
    model = parsed(
        "g (float[1, 1, H, 4] x) => (float[1, 1, ?, ?] y) "
        "{ y = ConvTranspose<output_shape = [9, 9], strides = [2, 2]>(x, w) }",
        w=normal(1, 1, 3, 3),
    )
    with pytest.raises(OpenSizeError, match=r"ConvTranspose.*output of \[9, 9\] at any size"):
        explicit_pads(model, {"x": (1, 1, "H", 4)})


def test_shapes_must_be_known_for_same_padding():
    model = parsed(
        "g (float[N, 2, H, 8] x) => (float[N, 2, ?, ?] y) "
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2]>(x) }'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"MaxPool.*SAME_UPPER.*'x'.*not known"):
        explicit_pads(model, {})


def test_dilated_pools_with_same_padding_are_refused():
    model = parsed(
        "g (float[1, 1, 8] x) => (float[1, 1, ?] y) "
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [3], dilations = [2]>(x) }'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"MaxPool.*dilations.*SAME_UPPER.*explicit pads"):
        explicit_pads(model, {"x": (1, 1, 8)})


def test_an_unreachable_output_shape_is_refused():
    model = parsed(
        "g (float[1, 1, 4, 4] x) => (float[1, 1, ?, ?] y) "
        "{ y = ConvTranspose<strides = [2, 2], output_shape = [20, 20]>(x, w) }",
        w=np.ones((1, 1, 2, 2), np.float32),
    )
    with pytest.raises(UnsupportedOperatorError, match=r"ConvTranspose.*\[20, 20\]"):
        explicit_pads(model, {"x": (1, 1, 4, 4)})


# ----------------------------------------------------------------------------------------------------- pads of pools

PADDED = {
    "pool": "p = Pad(x, q) y = MaxPool<kernel_shape = [3, 3]>(p)",
    "with a value": "p = Pad(x, q, zero) y = MaxPool<kernel_shape = [3, 3]>(p)",
    "behind a copy": "p = Pad(x, q) i = Identity(p) y = MaxPool<kernel_shape = [3, 3]>(i)",
    "margins as wide as the window": "p = Pad(x, q) y = AveragePool<kernel_shape = [1, 1]>(p)",
    "transposed": (
        "p = Pad(x, q) l = Transpose<perm = [0, 2, 3, 1]>(p) f = Transpose<perm = [0, 3, 1, 2]>(l) "
        "y = MaxPool<kernel_shape = [3, 3]>(f)"
    ),
}


@pytest.mark.parametrize("body", PADDED.values(), ids=PADDED)
def test_zeros_around_a_pool_stay_zeros(body):
    """ONNX Runtime would take them for the pool's own margins, which never win, or refuse them."""
    model = parsed(
        f"g (float[N, 2, 5, 6] x) => (float[N, 2, ?, ?] y) {{ {body} }}",
        q=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        zero=np.float32(0),
    )
    for node in model.graph:
        node.outputs[0].shape = ir.Shape([None] * 4)
    x = -1 - RNG.random((2, 2, 5, 6)).astype(np.float32)
    [expected] = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    separate_pads(model)
    np.testing.assert_allclose(run(model, x=x)["y"], expected, rtol=1e-6)
    assert expected.max() == 0


def test_other_pads_stay_as_they_are():
    model = parsed(
        "g (float[N, 2, 5, 6] x) => (float[N, 2, ?, ?] y) { p = Pad(x, q) c = Conv(p, w) "
        "r = Pad(c, h, , a) y = MaxPool<kernel_shape = [2, 2]>(r) }",
        q=np.array([0, 0, 1, 1, 0, 0, 1, 1]), h=np.array([1, 1]), a=np.array([2]), w=np.ones((2, 2, 3, 3), np.float32),
    )  # fmt: skip
    before = [list(node.inputs) for node in model.graph]
    separate_pads(model)
    assert [list(node.inputs) for node in model.graph] == before
