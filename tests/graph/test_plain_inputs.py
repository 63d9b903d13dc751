"""Inputs of plain ``.onnx`` files: what batch and sizes they have, and the examples of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxviz.errors import ConversionError, InputError
from onnxviz.graph.plain import source
from tests.graph.plain_models import check, cnn
from tests.graph.texts import proto
from tests.support import normal


def test_a_batch_that_only_seems_open_is_fixed():
    model = proto(
        "g (float[N, 6] x) => (float[1, 2] y) "
        "{ s = Constant<value_ints = [1, 6]>() r = Reshape(x, s) a = Relu(r) y = MatMul(a, w) }",
        w=np.ones((6, 2), np.float32),
    )
    plain = source(model)
    assert plain.example["x"].shape == (1, 6)
    assert list(plain.model.graph.inputs[0].shape) == [1, 6]
    assert any("does not run at 2; the file keeps 1" in note for note in plain.notes)
    check(plain)
    with pytest.raises(ConversionError, match=r"(?s)x \(3, 6\).*example="):
        source(model, example=np.ones((3, 6), np.float32))


def test_several_inputs():
    model = proto("g (float[rows, 3] a, float[others, 3] b) => (float[N, 3] y) { y = Sub(a, b) }")
    plain = source(model, layers="y")
    assert not np.array_equal(plain.example["a"], plain.example["b"])
    assert {value.name: [str(d) for d in value.shape] for value in plain.model.graph.inputs} == {
        "a": ["N", "3"],
        "b": ["N", "3"],
    }
    check(plain, 1, 4)


def test_declared_shapes_inside_are_not_believed():
    model = proto("g (float[N, 4] x) => (float[1, 4] y) { a = Relu(x) y = Neg(a) }")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, [1, 4]))
    check(source(model), 1, 3)


EXAMPLE = np.ones((2, 3, 8, 8), np.float32)
ACCEPTED = {"array": EXAMPLE, "tuple": (EXAMPLE,), "mapping": {"image": EXAMPLE}, "one sample": EXAMPLE[:1]}


@pytest.mark.parametrize("example", ACCEPTED.values(), ids=ACCEPTED)
def test_examples(example):
    plain = source(cnn(), example=example)
    assert np.all(plain.example["image"] == 1)
    assert str(plain.model.graph.inputs[0].shape[0]) == "N"


BAD_EXAMPLES = {
    "dtype": (EXAMPLE.astype(np.float64), r"'image'.*float64.*expected float32.*astype"),
    "rank": (EXAMPLE[0], r"'image'.*\(3, 8, 8\); expected float32 \(batch, 3, 8, 8\)"),
    "size": (EXAMPLE[:, :, :4], r"'image'.*\(2, 3, 4, 8\)"),
    "not finite": (EXAMPLE * np.nan, "'image'.*not finite"),
    "empty": (EXAMPLE[:0], "'image'.*empty"),
    "name": ({"img": EXAMPLE}, r"\['img'\]; the inputs are \['image'\]"),
    "number": ((EXAMPLE, EXAMPLE), r"2 array.*1 input.*'image'"),
}


@pytest.mark.parametrize(("example", "message"), BAD_EXAMPLES.values(), ids=BAD_EXAMPLES)
def test_bad_examples(example, message):
    with pytest.raises(InputError, match=message):
        source(cnn(), example=example)


def test_inputs_of_different_batch_are_refused():
    model = proto("g (float[N, 3] a, float[M, 3] b) => (float[N, 3] y) { y = Add(a, b) }")
    with pytest.raises(InputError, match=r"differ in batch size.*'a': 2.*'b': 1"):
        source(model, example=(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)))


NEED_EXAMPLE = {
    "integers": ("g (int64[N, 3] ids) => (float[N, 3] y) { y = Cast<to = 1>(ids) }", "'ids' is int64"),
    "size": ("g (float[N, T] x) => (float[N, T] y) { y = Relu(x) }", "'x'.*dimension T .axis 1"),
    "unnamed size": ("g (float[2, ?] x) => (float[2, ?] y) { y = Relu(x) }", "'x'.*dimension . .axis 1"),
}


@pytest.mark.parametrize(("text", "message"), NEED_EXAMPLE.values(), ids=NEED_EXAMPLE)
def test_examples_are_asked_for(text, message):
    with pytest.raises(InputError, match=f"{message}.*example="):
        source(proto(text))


def test_integer_inputs_with_an_example():
    model = proto(
        "g (int64[N, T] ids) => (float[N, T, 4] y) { e = Gather(table, ids) r = Relu(e) y = Add(r, r) }",
        table=normal(10, 4),
    )
    plain = source(model, example=np.array([[1, 2, 3]]))
    assert [str(size) for size in plain.model.graph.inputs[0].shape] == ["N", "T"]
    assert [tap.name for tap in plain.taps] == ["r", "y"]
    check(plain, 2)
