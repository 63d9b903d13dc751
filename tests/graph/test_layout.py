"""Graphs that are moved to channels first compute the same, with the Transposes that they need and no others."""

from __future__ import annotations

from collections import Counter
from cProfile import Profile
from pstats import Stats

import numpy as np
import pytest

from onnxviz.graph.channels_first import moved, permuted, to_first, to_last
from onnxviz.graph.layout import channels_first
from tests.graph.layouts import LIMITS, SIZES, between, graph, operators, passed
from tests.support import normal

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
