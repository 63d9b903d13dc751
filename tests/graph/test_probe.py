"""Shapes by measurement: how each size depends on the batch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxviz.errors import ConversionError
from onnxviz.graph.probe import probe, with_batch
from tests.support import model_of, normal


def probed(nodes: str, *, inputs: str = "float[a, b, c] x", feeds=None, batched=None, **weights):
    """The values of a graph after the probe, and what it returned."""
    model = ir.serde.deserialize_model(model_of(nodes, inputs, "float[] y", weights))
    feeds = feeds or {"x": normal(2, 3, 4)}
    size = probe(model, feeds, list(feeds) if batched is None else batched)
    values = {v.name: v for v in [*model.graph.inputs, *(y for n in model.graph for y in n.outputs)]}
    return values, size


def sizes(value: ir.Value) -> tuple:
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


# nodes, weights → sizes of y with a symbolic batch, and with a batch of 2
SHAPES = {
    "elementwise": ("y = Relu(x)", {}, ("N", 3, 4), (2, 3, 4)),
    "the batch is merged": ("y = Reshape(x, s)", {"s": np.array([-1, 4])}, ("3*N", 4), (6, 4)),
    "the batch is moved": ("y = Transpose<perm = [1, 0, 2]>(x)", {}, (3, "N", 4), (3, 2, 4)),
    "the batch twice": (
        "f = Reshape(x, s)  t = Transpose(f)  y = MatMul(f, t)", {"s": np.array([0, -1])}, ("N", "N"), (2, 2),
    ),
    "the batch is summed": ("y = ReduceSum<keepdims = 0>(x, a)", {"a": np.array([0])}, (3, 4), (3, 4)),
    "no batch": ("y = Identity(w)  z = Relu(x)", {"w": normal(5, 3)}, (5, 3), (5, 3)),
    "one more than the batch": ("y = Concat<axis = 0>(x, w)", {"w": normal(1, 3, 4)}, (None, 3, 4), (3, 3, 4)),
    "twice the batch": ("y = Concat<axis = 0>(x, x)", {}, ("2*N", 3, 4), (4, 3, 4)),
    "a scalar": ("y = ReduceSum<keepdims = 0>(x)", {}, (), ()),
    "a shape": ("s = Shape(x)  y = Cast<to = 1>(s)", {}, (3,), (3,)),
    "data-dependent": ("n = NonZero(x)  y = Cast<to = 1>(n)", {}, (3, "12*N"), (3, 24)),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_sizes(case):
    nodes, weights, symbolic, static = SHAPES[case]
    assert sizes(probed(nodes, **weights)[0]["y"]) == symbolic
    assert sizes(probed(nodes, batched=[], **weights)[0]["y"]) == static


def test_inputs_get_their_batch():
    feeds = {"x": normal(2, 3, 4), "z": normal(3, 4)}
    for batched, x, y in ((["x"], ("N", 3, 4), ("N", 3, 4)), ([], (2, 3, 4), (2, 3, 4))):
        values, _ = probed("y = Add(x, z)", inputs="float[a, b, c] x, float[e, f] z", feeds=feeds, batched=batched)
        assert sizes(values["x"]) == x
        assert sizes(values["z"]) == (3, 4)
        assert sizes(values["y"]) == y


@pytest.mark.parametrize(
    ("to", "dtype"),
    [(1, "FLOAT"), (10, "FLOAT16"), (11, "DOUBLE"), (7, "INT64"), (6, "INT32"), (9, "BOOL"), (2, "UINT8")],
)
def test_element_types(to, dtype):
    values, _ = probed(f"c = Cast<to = {to}>(x)  y = Cast<to = 1>(c)")
    assert values["c"].dtype == ir.DataType[dtype]
    assert sizes(values["c"]) == ("N", 3, 4)


def test_bytes_of_one_sample():
    """All values that nodes compute: 12 floats, 12 doubles, 12 halves."""
    assert probed("d = Cast<to = 11>(x)  h = Cast<to = 10>(d)  y = Cast<to = 1>(h)")[1] == 12 * (8 + 2 + 4)


def test_values_that_are_no_tensors_are_left_out():
    values, _ = probed("s = SequenceConstruct(x, x)  y = ConcatFromSequence<axis = 1>(s)")
    assert sizes(values["y"]) == ("N", 6, 4)
    assert values["s"].shape is None


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [("y = Reshape(x, s)", {"s": np.array([2, 12])}), ("y = Add(x, w)", {"w": normal(2, 3, 4)})],
)
def test_a_graph_that_runs_at_one_batch_size_only_says_at_which_it_fails(nodes, weights):
    with pytest.raises(ConversionError, match=r"does not run on inputs of shape .*'x': \(3, 3, 4\)"):
        probed(nodes, **weights)
    assert sizes(probed(nodes, batched=[], **weights)[0]["y"])[0] == 2


def test_large_weights_are_where_they_were():
    model = ir.serde.deserialize_model(
        model_of("y = MatMul(x, w)", "float[N, 4] x", "float[] y", {"w": normal(4, 300)})
    )
    before = model.graph.initializers["w"].const_value
    probe(model, {"x": normal(2, 4)}, ["x"])
    assert model.graph.initializers["w"].const_value is before
    assert sizes(model.graph.outputs[0]) == ("N", 300)


@pytest.mark.parametrize(("batch", "rows"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 0, 1, 0])])
def test_with_batch(batch, rows):
    x = normal(2, 3)
    found = with_batch({"x": x, "z": x}, batch, ["x"])
    assert np.array_equal(found["x"], x[rows])
    assert found["z"] is x
