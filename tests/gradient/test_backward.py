import numpy as np
import onnx_ir as ir
import pytest

from onnxviz.errors import OpenSizeError, UnsupportedOperatorError
from onnxviz.gradient import backward as differentiate
from onnxviz.gradient.registry import VJPS, Rule
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import BODIES, MICROSOFT, TrainingOps
from tests.gradient.harness import Case, Differentiated, N, parse, weights


def differentiated(code: str, inputs: dict, constants: dict | None = None) -> Differentiated:
    case = Case(code, inputs, constants=constants or {})
    return Differentiated(case.model(), case.feeds)


@pytest.mark.parametrize(
    ("code", "constants", "words"),
    [
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', {"w": weights(2, 3, 3)}, ["Conv", "explicit pads", "SAME_UPPER"]),
        ('y = MaxPool<kernel_shape=[2], auto_pad="VALID">(x)', {}, ["MaxPool", "VALID"]),
        ('y = Einsum<equation="bij,kk->bij">(x, w)', {"w": weights(2, 2)}, ["Einsum", "bij,kk->bij"]),
        ("h = Shape<start=1, end=2>(x)  a = Sub(h, two)  y = ReduceSum(x, a)", {"two": [2]}, ["ReduceSum", "'a'"]),
        (
            "y, m, v = BatchNormalization<training_mode=1>(x, s, s, s, t)",
            {"s": weights(3), "t": weights(3) ** 2},
            ["BatchNormalization", "training_mode"],
        ),
        ("y = Dropout(x, r, t)", {"r": np.array(0.5, np.float32), "t": np.array(True)}, ["Dropout", "inference"]),
        (
            'y = Resize<keep_aspect_ratio_policy="not_larger", axes=[1, 2]>(x, , , s)',
            {"s": [5, 9]},
            ["Resize", "not_larger", "rounded up"],
        ),
        (
            'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", axes=[1, 2]>(x, r, , s)',
            {"s": [3, 8], "r": np.array([0.1, 0, 0.9, 1], np.float32)},
            ["Resize", "axis 1", "keeps its size"],
        ),
        (
            "y = LSTM<hidden_size=4, clip=2.0>(x, w, r)",
            {"w": weights(1, 16, 4), "r": weights(1, 16, 4)},
            ["LSTM", "clip"],
        ),
        (
            "y = LSTM<hidden_size=4, input_forget=1>(x, w, r)",
            {"w": weights(1, 16, 4), "r": weights(1, 16, 4)},
            ["LSTM", "input_forget=1"],
        ),
        (
            'y = RNN<hidden_size=4, activations=["ScaledTanh"]>(x, w, r)',
            {"w": weights(1, 4, 4), "r": weights(1, 4, 4)},
            ["RNN", "'ScaledTanh'", "Softsign"],
        ),
        (
            'y = RNN<hidden_size=4, activations=["LeakyRelu"], activation_alpha=[-0.5]>(x, w, r)',
            {"w": weights(1, 4, 4), "r": weights(1, 4, 4)},
            ["RNN", "LeakyRelu", "-0.5"],
        ),
        (
            "z = Reshape(x, s)  y = DFT<inverse=1, onesided=1, axis=1>(z, n)",
            {"s": [-1, 6, 2], "n": np.array(7)},
            ["DFT", "onesided", "not 6 for n = 7"],
        ),
        (
            'u = Unsqueeze(x, a)  y = RoiAlign<mode="max", sampling_ratio=2>(u, r, i)',
            {"a": [1], "r": weights(1, 4), "i": [0]},
            ["RoiAlign", "mode='max'"],
        ),
        (
            "u = Unsqueeze(x, a)  y = RoiAlign(u, r, i)",
            {"a": [1], "r": weights(1, 4), "i": [0]},
            ["RoiAlign", "sampling_ratio=0", "each region's size"],
        ),
    ],
)
def test_what_a_rule_cannot_do_is_refused_by_name(code, constants, words):
    with pytest.raises(UnsupportedOperatorError) as refusal:
        differentiated(code, {"x": (N, 3, 4)}, constants)
    assert all(word in str(refusal.value) for word in [*words, "'y'"]), refusal.value


def test_an_attribute_that_a_rule_does_not_name_is_refused(monkeypatch):
    monkeypatch.setitem(VJPS, ("", "Elu"), Rule(lambda op, dy, y, x: dy, frozenset(), broadcast=False, multiple=False))
    with pytest.raises(UnsupportedOperatorError, match=r"Elu .*alpha=0\.5 .*supported: none"):
        differentiated("y = Elu<alpha=0.5>(x)", {"x": (N, 3)})


def test_an_active_input_without_a_gradient_is_refused():
    with pytest.raises(UnsupportedOperatorError, match=r"PRelu .* input 1 \('s'\)"):
        differentiated("y = PRelu(x, s)", {"x": (N, 3), "s": (N, 3)})


def test_gradients_through_a_second_output_are_refused():
    with pytest.raises(UnsupportedOperatorError, match="further outputs"):
        differentiated("a, m = LayerNormalization(x, s)  y = Add(a, m)", {"x": (N, 3)}, {"s": weights(3)})


def test_sizes_that_must_be_fixed_are_named():
    case = Case("y = ConvTranspose<output_shape=[9]>(x, w)", {"x": (N, 3, 8)}, constants={"w": weights(3, 2, 3)})
    model = case.model()
    model.graph.inputs[0].shape = ir.Shape([N, 3, "W"])
    with pytest.raises(OpenSizeError, match=r"'x' .*fixed sizes there, from axis 2"):
        Differentiated(model, lambda batch: {"x": weights(batch, 3, 8)})


def test_operators_without_a_rule_are_found_only_where_a_gradient_would_pass():
    model = parse(
        "a = Relu(x)  b = Det(a)  c = Shape(x)  d = Cast<to=1>(c)  e = Gamma(d)  y = Mul(a, b)", {"x": (N, 3, 3)}
    )
    nodes = list(model.graph)
    for node in nodes:
        for y in node.outputs:
            y.dtype = ir.DataType.INT64 if y.name == "c" else ir.DataType.FLOAT
    active = differentiate.downstream(model.graph.inputs, nodes)
    assert [node.op_type for node in differentiate.missing_rules(nodes, active)] == ["Det"]


def test_a_branch_that_reads_an_outer_value_depends_on_it():
    body = "then_branch = t () => (float[] p) { p = Relu(x) }, else_branch = e () => (float[] q) { q = Neg(x) }"
    model = parse(f"c = Constant<value_int=1>()  d = Cast<to=9>(c)  y = If(d) <{body}>", {"x": (N, 3)})
    nodes = list(model.graph)
    nodes[-1].outputs[0].dtype = ir.DataType.FLOAT
    active = differentiate.downstream(model.graph.inputs, nodes)
    assert [node.op_type for node in differentiate.missing_rules(nodes, active)] == ["If"]
    assert nodes[-1] in differentiate.upstream(model.graph.outputs, nodes)


def test_equal_bodies_are_stored_once_and_different_ones_as_overloads():
    gradients = differentiated(
        "a = Conv(x, w)  b = Relu(a)  c = Conv(b, w)  d = Relu(c)  y = Conv<strides=[2]>(d, w)",
        {"x": (N, 2, 11)},
        {"w": weights(2, 2, 3)},
    )
    found = sorted((domain, name, overload) for domain, name, overload in gradients.model.functions)
    assert found == [(MICROSOFT, "ConvGrad", ""), (MICROSOFT, "ConvGrad", "1"), (MICROSOFT, "ReluGrad", "")]


def test_a_named_total_is_what_everybody_reads():
    model = parse("r = Relu(x)  a = Mul(r, r)  y = Add(a, r)", {"x": (N, 3)})
    for value in [y for node in model.graph for y in node.outputs]:
        value.shape, value.dtype = ir.Shape([N, 3]), ir.DataType.FLOAT
    graph = model.graph
    x, y, r = graph.inputs[0], graph.outputs[0], graph.node(0).outputs[0]
    nodes, seed = list(graph), ir.Value(name="seed", shape=y.shape, type=y.type)
    graph.inputs.append(seed)
    totals = differentiate.backward(
        Ops(graph, TrainingOps(model)), nodes, {y: seed}, [x, r, y], {x: "grad/x", r: "grad/r", y: "grad/y"}
    )
    assert {value.name for value in totals.values()} == {"grad/x", "grad/r", "grad/y"}
    assert [use.node.op_type for use in totals[r].uses()] == ["ReluGrad"]


def test_the_first_input_of_every_gradient_function_is_dy():
    assert BODIES
    for _, body in BODIES.values():
        assert body.__code__.co_varnames[1] == "dy"


def test_a_layout_that_onnxruntime_does_not_run_is_refused():
    model = parse("y = GRU<hidden_size=4, layout=1>(x, w, r)", {"x": (N, 3, 4)}, {"w": weights(1, 12, 4)})
    x, y = model.graph.inputs[0], model.graph.outputs[0]
    y.dtype = ir.DataType.FLOAT
    with pytest.raises(UnsupportedOperatorError, match=r"GRU .*layout=1"):
        differentiate.backward(Ops(model.graph), list(model.graph), {y: y}, [x], {})


def test_the_graph_of_a_recurrent_layer_does_not_grow_with_time():
    def size(steps: int) -> int:
        case = Case("y = LSTM<hidden_size=4>(x, w, r)", {"x": (steps, N, 3)}, constants=recurrent)
        proto = Differentiated(case.model(), case.feeds).proto
        return len(proto.graph.node) + sum(len(function.node) for function in proto.functions)

    recurrent = {"w": weights(1, 16, 3), "r": weights(1, 16, 4)}
    assert size(2) == size(50)


def test_gradients_pass_through_integers_only_where_these_stand_for_floats():
    model = parse(
        "q = QuantizeLinear(x, s)  i = Cast<to=6>(q)  n = ConvInteger(q, w)  c = Cast<to=6>(x)  f = Cast<to=1>(c)",
        {"x": (N, 3, 4)},
        {"s": np.array(0.1, np.float32), "w": np.ones((1, 3, 1), np.uint8)},
        outputs=("i", "n", "f"),
    )
    nodes = list(model.graph)
    for node, dtype in zip(nodes, ("UINT8", "INT32", "INT32", "INT32", "FLOAT"), strict=True):
        node.outputs[0].dtype = ir.DataType[dtype]
    active = differentiate.downstream(model.graph.inputs, nodes)
    assert {value.name for value in active} == {"x", "q", "i", "n"}
    assert [node.op_type for node in differentiate.missing_rules(nodes, active)] == ["ConvInteger"]
