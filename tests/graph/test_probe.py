"""Shapes by measurement: how each size depends on the batch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxviz.errors import ConversionError
from onnxviz.graph.probe import probe, with_batch
from tests.support import model_of, normal


def probed(nodes: str, *, inputs: str = "float[N, 3, 4] x", feeds=None, **weights):
    """The values of a graph after the probe, and what it returned."""
    model = ir.serde.deserialize_model(model_of(nodes, inputs, "float[] y", weights))
    measured = probe(model, feeds or {"x": normal(2, 3, 4)})
    values = {v.name: v for v in [*model.graph.inputs, *(y for n in model.graph for y in n.outputs)]}
    return values, measured


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
    "one more than the batch": ("y = Concat<axis = 0>(x, w)", {"w": normal(1, 3, 4)}, ("size_0", 3, 4), (3, 3, 4)),
    "twice the batch": ("y = Concat<axis = 0>(x, x)", {}, ("2*N", 3, 4), (4, 3, 4)),
    "a scalar": ("y = ReduceSum<keepdims = 0>(x)", {}, (), ()),
    "a shape": ("s = Shape(x)  y = Cast<to = 1>(s)", {}, (3,), (3,)),
    "data-dependent": ("n = NonZero(x)  y = Cast<to = 1>(n)", {}, (3, "12*N"), (3, 24)),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_sizes(case):
    nodes, weights, symbolic, static = SHAPES[case]
    assert sizes(probed(nodes, **weights)[0]["y"]) == symbolic
    assert sizes(probed(nodes, inputs="float[2, 3, 4] x", **weights)[0]["y"]) == static


def test_inputs_get_their_batch():
    feeds = {"x": normal(2, 3, 4), "z": normal(3, 4)}
    for batch, x, y in (("N", ("N", 3, 4), ("N", 3, 4)), (2, (2, 3, 4), (2, 3, 4))):
        values, _ = probed("y = Add(x, z)", inputs=f"float[{batch}, 3, 4] x, float[3, 4] z", feeds=feeds)
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
    assert probed("d = Cast<to = 11>(x)  h = Cast<to = 10>(d)  y = Cast<to = 1>(h)")[1].activation_bytes == 12 * (
        8 + 2 + 4
    )


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
    assert sizes(probed(nodes, inputs="float[2, 3, 4] x", **weights)[0]["y"])[0] == 2


def test_large_weights_are_where_they_were():
    model = ir.serde.deserialize_model(
        model_of("y = MatMul(x, w)", "float[N, 4] x", "float[] y", {"w": normal(4, 300)})
    )
    before = model.graph.initializers["w"].const_value
    probe(model, {"x": normal(2, 4)})
    assert model.graph.initializers["w"].const_value is before
    assert sizes(model.graph.outputs[0]) == ("N", 300)


@pytest.mark.parametrize(("batch", "rows"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 0, 1, 0])])
def test_with_batch(batch, rows):
    x = normal(2, 3)
    found = with_batch({"x": x, "z": x}, batch, ["x"])
    assert np.array_equal(found["x"], x[rows])
    assert found["z"] is x


# ----- open sizes -----

IMAGE = "float[N, 2, height, width] x"
KERNEL = {"k": normal(3, 2, 3, 3)}

# nodes, weights → sizes of y behind the batch
OPEN = {
    "elementwise": ("y = Relu(x)", {}, (2, "height", "width")),
    "windows in the image": ("y = Conv(x, k)", KERNEL, (3, "height-2", "width-2")),
    "steps, rounded up": (
        "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, k)", KERNEL, (3, "ceil(height/2)", "ceil(width/2)"),
    ),
    "steps, rounded down": (
        "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", {}, (2, "floor(height/2)", "floor(width/2)"),
    ),
    "upsampled": (
        "y = Resize(x, , s)", {"s": np.array([1, 1, 2, 3], np.float32)}, (2, "2*height", "3*width"),
    ),
    "moved": ("y = Transpose<perm = [0, 3, 2, 1]>(x)", {}, ("width", "height", 2)),
    "flattened": ("y = Flatten<axis = 1>(x)", {}, ("size_0",)),
    "pooled": ("y = GlobalAveragePool(x)", {}, (2, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_open_sizes(case):
    nodes, weights, expected = OPEN[case]
    values, measured = probed(nodes, inputs=IMAGE, feeds={"x": normal(1, 2, 12, 12)}, **weights)
    assert sizes(values["x"]) == ("N", 2, "height", "width")
    assert sizes(values["y"]) == ("N", *expected)
    assert measured.symbols.sizes == {"height": 12, "width": 12}
    assert not measured.fixed
    assert measured.resized["x"].shape[0] == 1
    assert min(measured.resized["x"].shape[2:]) > 2 * 12


def test_sizes_that_must_be_even():
    """A network that halves an image and doubles it again takes sizes that are multiples alone."""
    nodes = "h = MaxPool<kernel_shape=[4,4], strides=[4,4]>(x)  u = Resize(h, , s)  y = Add(x, u)"
    values, measured = probed(
        nodes, inputs=IMAGE, feeds={"x": normal(1, 2, 16, 16)}, s=np.array([1, 1, 4, 4], np.float32)
    )
    assert sizes(values["y"]) == ("N", 2, "height", "width")
    assert sizes(values["h"]) == ("N", 2, "height/4", "width/4")
    assert [size % 4 for size in measured.resized["x"].shape[2:]] == [0, 0]


def test_sizes_up_to_a_longest():
    """Positions are learned for so many steps, and the example has as many."""
    nodes = "l = Shape<start = 1, end = 2>(x)  p = Slice(w, zero, l)  y = Add(x, p)"
    weights = {"w": normal(24, 4), "zero": np.array([0])}
    values, measured = probed(nodes, inputs="float[N, steps, 4] x", feeds={"x": normal(1, 24, 4)}, **weights)
    assert sizes(values["y"]) == ("N", "steps", 4)
    assert measured.resized["x"].shape == (1, 12, 4)


def test_a_graph_that_runs_at_one_size_alone_keeps_it():
    values, measured = probed("y = Add(x, w)", inputs="float[N, a, 4] x", feeds={"x": normal(1, 3, 4)}, w=normal(3, 4))
    assert sizes(values["x"]) == sizes(values["y"]) == ("N", 3, 4)
    assert measured.fixed == {"x": (1,)}
    assert not measured.resized


def test_axes_of_several_inputs_share_sizes():
    feeds = {"x": normal(2, 5), "z": normal(2, 5), "v": normal(2, 7)}
    values, measured = probed(
        "s = Add(x, z)  y = Concat<axis = 1>(s, v)", inputs="float[N, l] x, float[N, l] z, float[N, t] v", feeds=feeds
    )
    assert measured.symbols.sizes == {"l": 5, "t": 7}
    assert sizes(values["s"]) == ("N", "l")
