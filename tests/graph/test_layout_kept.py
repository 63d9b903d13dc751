"""Layers, and what gains nothing, keep their layout when a graph is moved to channels first."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.graph.layouts import LIMITS, between, graph, passed
from tests.support import normal

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
