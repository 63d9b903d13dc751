"""Graphs that are moved to channels first compute the same, with the Transposes that they need and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from cProfile import Profile
from pstats import Stats

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxviz.graph.channels_first import moved, permuted, to_first, to_last
from onnxviz.graph.layout import channels_first
from onnxviz.graph.probe import probe
from tests.support import assert_close, model_of, normal

SIZES = {3: (6,), 4: (6, 5), 5: (4, 6, 5)}
"""Rank → the spatial sizes of the input, which has 3 channels; the first convolution makes 4 of them."""


def transpose(result: str, x: str, perm: list[int]) -> str:
    return f"{result} = Transpose<perm = {perm}>({x}) "


def between(body: str, rank: int = 4, weights: Mapping[str, np.ndarray] | None = None, outputs: str = "") -> ir.Model:
    """Channels first ``c`` → channels last ``h`` → body → ``z`` → channels first → ``y``."""
    nodes = (
        f"c = Conv(x, k) {transpose('h', 'c', to_last(rank))} {body} {transpose('f', 'z', to_first(rank))} y = Neg(f)"
    )
    return graph(nodes, rank, {"k": normal(4, 3, *[1] * (rank - 2), seed=1), **(weights or {})}, outputs)


def graph(nodes: str, rank: int, weights: Mapping[str, np.ndarray], outputs: str = "") -> ir.Model:
    declared = ", ".join(f"float[] {name}" for name in ["y", *outputs.split()])
    dims = ", ".join(str(size) for size in (3, *SIZES[rank]))
    model = ir.from_proto(model_of(nodes, f"float[N, {dims}] x", declared, weights))
    probe(model, {"x": normal(2, 3, *SIZES[rank])})
    return model


def run(model: ir.Model, batch: int, *, optimized: bool = True) -> dict[str, np.ndarray]:
    proto, options = ir.to_proto(model), onnxruntime.SessionOptions()
    onnx.checker.check_model(proto)
    if not optimized:  # it moves Transposes itself, at times wrongly
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    x = normal(batch, *[int(size) for size in list(model.graph.inputs[0].shape)[1:]], seed=7)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def passed(model: ir.Model, *keep: str) -> Counter[str]:
    """Run the pass, compare outputs and declared shapes with what is computed, and count the operators left."""
    before = [run(model, batch, optimized=False) for batch in (1, 3)]
    channels_first(model, [v for node in model.graph for v in node.outputs if v.name in keep])
    for expected, batch in zip(before, (1, 3), strict=True):
        got = run(model, batch)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(got[name], value, 1e-6)
    declared = {v.name: list(v.shape) for node in model.graph for v in node.outputs if v.shape is not None}
    probe(model, {"x": normal(2, *[int(d) for d in list(model.graph.inputs[0].shape)[1:]])})
    measured = {v.name: list(v.shape) for node in model.graph for v in node.outputs}
    assert measured.items() >= declared.items()
    return operators(model)


# ----- permutations -----


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_permutations(rank):
    array = np.zeros(range(2, 2 + rank))
    assert array.transpose(to_first(rank)).shape == (2, 1 + rank, *range(3, 1 + rank))
    assert array.transpose(to_first(rank)).transpose(to_last(rank)).shape == array.shape
    assert tuple(permuted(array.shape, to_first(rank))) == array.transpose(to_first(rank)).shape
    assert moved(range(rank), rank) == to_last(rank).copy() or rank == 3
    assert all(array.transpose(to_first(rank)).shape[moved([a], rank)[0]] == array.shape[a] for a in range(-rank, rank))


# ----- what is moved -----

UNARY = (
    "Relu(h)", "Sigmoid(h)", "LeakyRelu<alpha = 0.3>(h)", "Clip(h, low, high)", "Clip(h, , high)", "Neg(h)",
    "HardSigmoid(h)", "Cast<to = 1>(h)", "Erf(h)", "Softplus(h)",
)  # fmt: skip
BINARY = ("Add", "Mul", "Sub", "Div", "Max", "PRelu")
LIMITS = {"low": np.float32(-0.5), "high": np.float32(0.5)}


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("expression", UNARY)
def test_unary_operators(expression, rank):
    left = passed(between(f"z = {expression}", rank, LIMITS))
    assert left == Counter(["Conv", expression.partition("(")[0].partition("<")[0], "Neg"])


@pytest.mark.parametrize("shape", ["", "1", "C", "1C", "WC", "W1", "S1", "SC", "1SC", "11C", "111"])
@pytest.mark.parametrize("operator", BINARY)
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_constants_are_broadcast(rank, operator, shape):
    sizes = {"1": [1], "C": [4], "W": [SIZES[rank][-1]], "S": list(SIZES[rank])}
    constant = 1.5 + np.abs(normal(*[size for letter in shape for size in sizes[letter]], seed=2))
    if np.ndim(constant) > rank:
        constant = constant[0]
    left = passed(between(f"z = {operator}(h, b)", rank, {"b": constant.astype(np.float32)}))
    assert left == {"Conv": 1, operator: 1, "Neg": 1}
    if operator in ("Add", "Mul", "Sub", "Max"):
        assert passed(between(f"z = {operator}(b, h)", rank, {"b": constant.astype(np.float32)})) == left


PADS = {3: [0, 1, 0, 0, 2, 0], 4: [0, 1, 0, 3, 0, 2, 1, 0], 5: [0, 1, 2, 0, 0, 0, 2, 1, 0, 1]}
INT = {"two": np.array([2]), "minus": np.array([-1]), "zero": np.array([0]), "one": np.array([1])}
GATE = (
    "m = ReduceMean<keepdims = 0>(h, a) r = Reshape(m, t) f1 = Transpose<perm = [0, 3, 1, 2]>(r) g = Conv(f1, w) "
    "l = Transpose<perm = [0, 2, 3, 1]>(g) s = Sigmoid(l) z = Mul(h, s)"
)
MOVED = {
    "pad": ("z = Pad(h, p)", {4: {"p": np.array(PADS[4])}, 3: {"p": np.array(PADS[3])}, 5: {"p": np.array(PADS[5])}}),
    "pad of axes": ("z = Pad(h, p, , a)", {4: {"p": np.array([1, 0, 2, 1]), "a": np.array([-1, 1])}}),
    "pad with a value": ("z = Pad(h, p, v)", {4: {"p": np.array(PADS[4]), "v": np.float32(3)}}),
    "pad by reflection": ("z = Pad<mode = 'reflect'>(h, p)".replace("'", '"'), {4: {"p": np.array([0, 1, 2, 0] * 2)}}),
    "concat of channels": ("r = Relu(h) z = Concat<axis = -1>(h, r, h)", {3: {}, 4: {}, 5: {}}),
    "concat in space": ("r = Relu(h) z = Concat<axis = 1>(h, r)", {3: {}, 4: {}, 5: {}}),
    "split of channels": ("a, b = Split<axis = 3, num_outputs = 2>(h) z = Sub(a, b)", {4: {}}),
    "uneven split": ("a, b = Split<axis = -1>(h, s) z = Concat<axis = 3>(b, a)", {4: {"s": np.array([1, 3])}}),
    "split whose parts differ": ("a, b = Split<axis = 3, num_outputs = 2>(h) z = Relu(b)", {4: {}}),
    "slice": ("z = Slice(h, one, minus, axes)", {r: {**INT, "axes": np.array([-1])} for r in (3, 4, 5)}),
    "slice in space with steps": ("z = Slice(h, s, e, a, t)", {4: {
        "s": np.array([1, 0]), "e": np.array([6, 5]), "a": np.array([1, 2]), "t": np.array([2, 1])}}),
    "slice without axes": ("z = Slice(h, s, e)", {4: {"s": np.array([0, 1, 2]), "e": np.array([9, 5, 4])}}),
    "tile": ("z = Tile(h, n)", {4: {"n": np.array([1, 2, 1, 3])}}),
    "softmax over channels": ("z = Softmax<axis = -1>(h)", {3: {}, 4: {}, 5: {}}),
    "softmax in space": ("z = LogSoftmax<axis = 1>(h)", {4: {}}),
    "mean over space, kept": ("m = ReduceMean<keepdims = 1>(h, a) z = Mul(h, m)", {
        4: {"a": np.array([1, 2])}, 3: {"a": np.array([1])}, 5: {"a": np.array([-2, 1, 2])}}),
    "maximum over channels, kept": ("m = ReduceMax(h, minus) z = Sub(h, m)", {3: INT, 4: INT, 5: INT}),
    "mean over one axis": ("r = ReduceMean<keepdims = 0>(h, one) z = Unsqueeze(r, one)", {4: INT, 5: INT}),
    "resize by scales": ("z = Resize<mode = 'nearest'>(h, , s)".replace("'", '"'), {
        4: {"s": np.array([1, 2, 3, 1], np.float32)}}),
    "resize to sizes": ("z = Resize<mode = 'linear', axes = [1, 2]>(h, , , s)".replace("'", '"'), {
        4: {"s": np.array([3, 9])}}),
    "squeeze and unsqueeze": ("s = Slice(h, zero, one, one) q = Squeeze(s, one) r = Relu(q) z = Unsqueeze(r, one)", {
        4: INT, 5: INT}),
    "where": ("g = Greater(h, b) r = Relu(h) z = Where(g, r, b)", {4: {"b": normal(4)}, 3: {"b": normal(4)}}),
    "gate": (GATE, {4: {"a": np.array([1, 2]), "t": np.array([-1, 1, 1, 4]), "w": normal(4, 4, 1, 1)}}),
}  # fmt: skip


@pytest.mark.parametrize(("case", "rank"), [(case, rank) for case, (_, ranks) in MOVED.items() for rank in ranks])
def test_moved(case, rank):
    body, ranks = MOVED[case]
    model = between(body, rank, ranks[rank])
    expected = operators(model)
    del expected["Transpose"]
    assert passed(model) == expected


def test_several_operands_from_convolutions_are_added_channels_first():
    model = between("d = Conv(x, k) e = Transpose<perm = [0, 2, 3, 1]>(d) s = Add(h, e) r = Relu(s) z = Add(r, h)")
    assert passed(model)["Transpose"] == 0


def test_another_operand_is_transposed_once():
    """It comes from elsewhere, and saves more than it costs."""
    nodes = "o = Reshape(x, t) m = MatMul(o, w) a = Add(h, m) b = Relu(a) z = Mul(b, m)"
    model = between(nodes, 4, {"t": np.array([-1, 6, 5, 3]), "w": normal(3, 4)})
    assert passed(model)["Transpose"] == 1


def test_a_known_activation_is_moved():
    model = between("z = Relu(h)")
    for node in model.graph:
        if node.op_type == "Relu":
            node.domain, node.op_type = "onnxviz", "Silu"
    channels_first(model)
    assert operators(model) == {"Conv": 1, "Silu": 1, "Neg": 1}


# ----- where the layout no longer matters -----

SETTLED = {
    "pooled over space": "g = ReduceMean<keepdims = 0>(h, a)",
    "largest channel": "g = ReduceMax<keepdims = 0>(h, l)",
    "summed over all but the batch": "g = ReduceSum<keepdims = 0>(h, b)",
    "flattened without space": "m = ReduceMean(h, a) g = Flatten(m)",
    "squeezed": "m = ReduceMean(h, a) g = Squeeze(m, a)",
    "reshaped without space": "m = ReduceMean(h, a) g = Reshape(m, t)",
}


@pytest.mark.parametrize("body", SETTLED.values(), ids=SETTLED)
def test_nothing_is_transposed_where_space_or_channels_end(body):
    nodes = f"c = Conv(x, k) h = Transpose<perm = [0, 2, 3, 1]>(c) {body} y = Neg(g)"
    weights = {
        "k": normal(4, 3, 1, 1), "a": np.array([1, 2]), "l": np.array([-1]), "b": np.array([1, 2, 3]),
        "t": np.array([-1, 4]),
    }  # fmt: skip
    assert passed(graph(nodes, 4, weights))["Transpose"] == 0


# ----- layers -----


def reaches(model: ir.Model, end: str, without: str) -> bool:
    """Whether ``end`` depends on the input by a way that does not pass ``without``."""
    values = {v.name: v for node in model.graph for v in node.outputs}
    stack, seen = [values[end]], set()
    while stack:
        value = stack.pop()
        if value.name == without or value in seen:
            continue
        seen.add(value)
        if value.is_graph_input():
            return True
        stack.extend(x for x in (value.producer().inputs if value.producer() else ()) if x is not None)
    return False


@pytest.mark.parametrize("layer", ["h", "r", "z"])
def test_a_layer_stays_on_the_path_in_its_layout(layer):
    """It is computed channels first, transposed, and transposed back, once for all who read it."""
    model = between("r = Relu(h) a = Add(r, h) b = Mul(r, a) z = Sub(b, r)", outputs=layer)
    (shape,) = [list(v.shape) for v in model.graph.outputs if v.name == layer]
    left = passed(model)
    assert left["Transpose"] == 2
    assert [list(v.shape) for v in model.graph.outputs if v.name == layer] == [shape]
    if layer != "r":
        assert not reaches(model, "y", without=layer)
    assert model.graph.outputs[1].producer().op_type == "Transpose"


def test_every_value_a_layer():
    model = between("r = Relu(h) a = Add(r, b) i = Identity(a) z = Clip(i, low, high)", 4,
                    {"b": normal(4), **LIMITS}, "h r a i z")  # fmt: skip
    assert passed(model) == {
        "Conv": 1, "Relu": 1, "Add": 1, "Identity": 1, "Clip": 1, "Neg": 1,
        "Transpose": 8,  # one to each of four layers and one back; the copy is no copy of another layout
    }  # fmt: skip
    assert not any(reaches(model, "y", without=name) for name in "hraiz")


def test_a_copy_of_a_layer_is_read_by_who_read_it():
    """An Identity is a layer that passes its input on."""
    model = between("i = Identity(h) z = Relu(i)", outputs="h i")
    assert passed(model)["Transpose"] == 2
    assert not reaches(model, "y", without="h")
    assert not reaches(model, "y", without="i")


def test_a_layer_that_permutes_is_read_by_its_own_readers_alone():
    model = between("p = Transpose<perm = [0, 3, 1, 2]>(h) a = Exp(p) q = Transpose<perm = [0, 3, 1, 2]>(h) "
                    "b = Neg(q) l = Transpose<perm = [0, 2, 3, 1]>(b) z = Mul(l, h)", outputs="p a")  # fmt: skip
    passed(model)
    assert [use.node.op_type for v in model.graph.outputs if v.name == "p" for use in v.uses()] == ["Exp"]


# ----- what stays as it is -----


def unchanged(model: ir.Model, *keep: str) -> bool:
    before = ir.to_proto(model).graph.node
    described = [(n.op_type, list(n.input), list(n.output)) for n in before]
    passed(model, *keep)
    return described == [(n.op_type, list(n.input), list(n.output)) for n in ir.to_proto(model).graph.node]


STAYS = {
    "nobody wants it channels first": "c = Conv(x, k) h = Transpose<perm = [0, 2, 3, 1]>(c) r = Relu(h) y = Neg(r)",
    "a product follows": "c = Conv(x, k) h = Transpose<perm = [0, 2, 3, 1]>(c) r = Relu(h) y = MatMul(r, w)",
    "a reshape follows": "c = Conv(x, k) h = Transpose<perm = [0, 2, 3, 1]>(c) r = Relu(h) y = Reshape(r, t)",
    "it did not come from a convolution": (
        "h = Transpose<perm = [0, 2, 3, 1]>(x) r = Relu(h) f = Transpose<perm = [0, 3, 1, 2]>(r) y = Neg(f)"
    ),
    "attention": (
        "q = Reshape(x, a) k1 = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, k1) p = Softmax(s) o = MatMul(p, q) "
        "u = Transpose<perm = [0, 2, 1]>(o) r = Relu(u) y = Transpose<perm = [0, 2, 1]>(r)"
    ),
}


@pytest.mark.parametrize("nodes", STAYS.values(), ids=STAYS)
def test_stays(nodes):
    weights = {"k": normal(4, 3, 1, 1), "w": normal(4, 2), "t": np.array([0, -1]), "a": np.array([0, 3, 30])}
    assert unchanged(graph(nodes, 4, weights))


BARRIERS = {
    "product": ("z = MatMul(h, w)", {"w": normal(4, 4)}),
    "reshape": ("r = Reshape(h, t) n = Relu(r) z = Reshape(n, u)", {
        "t": np.array([0, 30, 4]), "u": np.array([0, 5, 6, 4])}),
    "operand of lower rank": ("m = ReduceMean<keepdims = 0>(h, a) z = Add(h, m)", {"a": np.array([0, 1])}),
    "computed pads": ("s = Shape(h) n = Sub(s, s) p = Concat<axis = 0>(n, n) z = Pad(h, p)", {}),
    "gather": ("z = Gather<axis = 2>(h, g)", {"g": np.array([4, 0, 1])}),
}  # fmt: skip


@pytest.mark.parametrize("case", BARRIERS)
def test_barriers(case):
    body, weights = BARRIERS[case]
    assert passed(between(body, 4, weights))["Transpose"] == 2


def test_kept_values_are_not_touched():
    """A plain file's layers; an output's logits."""
    everything = ["c", "h", "r", "z", "f"]
    model = between("r = Relu(h) z = Neg(r)", outputs=" ".join(everything))
    assert unchanged(model, "y", *everything)
    model = between("r = Relu(h) z = Neg(r)")
    assert unchanged(model, "h", "r", "z")


def test_a_plain_file_is_moved_between_its_layers():
    model = between("r = Relu(h) a = Neg(r) z = Exp(a)", outputs="r")
    assert passed(model, "r")["Transpose"] == 2


def test_a_large_constant_is_stored_once():
    """It is read elsewhere in its own layout."""
    table = normal(6, 5, 4 * 600, seed=3)
    nodes = (
        "c = Conv(x, k) h = Transpose<perm = [0, 2, 3, 1]>(c) z = Add(h, b) f = Transpose<perm = [0, 3, 1, 2]>(z) "
        "p = Neg(f) y = ReduceSum<keepdims = 0>(p, a) o = Neg(b)"
    )
    model = graph(nodes, 4, {"k": normal(2400, 3, 1, 1), "b": table, "a": np.array([1])}, "o")
    passed(model)
    sizes = [v.const_value.size for v in model.graph.initializers.values()]
    assert sum(size == table.size for size in sizes) == 1


# ----- Transposes among themselves -----

PAIRS = {
    "there and back": ("t = Transpose<perm = [1, 0, 3, 2]>(x) u = Transpose<perm = [1, 0, 3, 2]>(t) y = Relu(u)", 0),
    "nothing moves": ("t = Transpose<perm = [0, 1, 2, 3]>(x) y = Relu(t)", 0),
    "twice the same": (
        "t = Transpose<perm = [0, 2, 3, 1]>(x) u = Transpose<perm = [0, 2, 3, 1]>(x) y = Sub(t, u) y2 = Add(t, u)", 1,
    ),
    "reversed twice": ("t = Transpose(x) u = Transpose(t) y = Relu(u)", 0),
    "not inverse": ("t = Transpose<perm = [0, 2, 3, 1]>(x) u = Transpose<perm = [0, 2, 3, 1]>(t) y = Relu(u)", 2),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_pairs(case):
    nodes, left = PAIRS[case]
    nodes = nodes.replace(" y = Sub(t, u) y2 = Add(t, u)", " d = Exp(u) y = Sub(d, t)")
    assert passed(graph(nodes, 4, {}))["Transpose"] == left


def test_linear_time():
    """Of a chain, each of whose values is a layer, three times the length takes three times the calls."""

    def calls(blocks: int) -> int:
        names = " ".join(f"v{i}" for i in range(blocks))
        body = "v0 = Relu(h) " + " ".join(f"v{i + 1} = Neg(v{i})" for i in range(blocks))
        model = between(f"{body} z = Abs(v{blocks})", outputs=names)
        profile = Profile()
        profile.runcall(channels_first, model)
        assert operators(model)["Transpose"] == 2 * blocks
        return Stats(profile).total_calls

    assert calls(300) < 3.1 * calls(100)
