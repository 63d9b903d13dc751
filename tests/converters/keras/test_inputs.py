"""Examples in every form, sizes that are not known, and models that declare nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import onnxviz as ov
from onnxviz.errors import InputError, OptionError, UnsupportedModelError
from tests.converters.keras.support import assert_converts, convert, fill, normal
from tests.models.comparison import assert_values


class Two(keras.Model):
    """Two tables to a dict."""

    def __init__(self):
        super().__init__()
        self.left, self.right = L.Dense(3, name="left"), L.Dense(3, name="right")

    def call(self, first, second, training=False):
        one = keras.ops.tanh(self.left(first))
        return {"sum": one + self.right(second), "one": one * (2.0 if training else 1.0)}


class One(keras.Model):
    """One argument, in whatever structure it comes."""

    def __init__(self):
        super().__init__()
        self.head = L.Dense(3, name="head")

    def call(self, inputs):
        tensors = keras.tree.flatten(inputs)
        return self.head(keras.ops.concatenate(tensors, axis=-1) if len(tensors) > 1 else tensors[0])


A, B = normal(2, 6), normal(2, 4, seed=1)

# model, example as the model is called, example as it is converted, inputs
FORMS = {
    "array": (One, (A,), A, ["inputs"]),
    "tensor": (One, (A,), tf.constant(A), ["inputs"]),
    "float64": (One, (A,), A.astype(np.float64), ["inputs"]),
    "list": (One, ([A, B],), [A, B], ["inputs_0", "inputs_1"]),
    "dict": (One, ({"b": A, "a": B},), {"b": A, "a": B}, ["a", "b"]),
    "arguments": (Two, (A, B), (A, B), ["first", "second"]),
    "arguments by name": (Two, (A, B), {"second": B, "first": A}, ["second", "first"]),
}


@pytest.mark.parametrize(("make", "arguments", "example", "names"), FORMS.values(), ids=FORMS)
def test_subclassed_models(make, arguments, example, names, tmp_path):
    model = make()
    expected = model(*arguments)
    with convert(model, tmp_path, example=example) as explainer:
        assert [tensor.name for tensor in explainer.inputs] == names
        sizes = {tensor.name: tensor.shape[1] for tensor in explainer.inputs}
        found = explainer.predict({name: A if size == 6 else B for name, size in sizes.items()})
        if isinstance(expected, dict):
            assert list(found) == ["sum", "one"]
            assert_values(found["one"], expected["one"].numpy(), "one", 1e-5)
            found, expected = found["sum"], expected["sum"]
        assert_values(found, expected.numpy(), "output", 1e-5)
        layers = [layer.name for layer in explainer.layers]
        assert layers == (["head"] if make is One else ["left", "right"])
        weights = normal(2, 3, seed=3)
        first = names[0]
        with tf.GradientTape() as tape:
            x, y = tf.constant(A), tf.constant(B)
            tape.watch([x, y])
            if make is Two:
                score = tf.reduce_sum(model(x, y)["sum"] * weights)
            else:
                given = keras.tree.map_structure(lambda a: x if a is A else y, arguments[0])
                score = tf.reduce_sum(model(given) * weights)
        gradient = explainer.gradient({n: A if s == 6 else B for n, s in sizes.items()}, weights, **_output(make))
        assert_values(gradient.values, tape.gradient(score, x if sizes[first] == 6 else y).numpy(), first, 1e-5)


def _output(make):
    return {"output": "sum"} if make is Two else {}


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    return keras.Model([a, b], L.Dense(2, name="head")(L.Concatenate(name="both")([a, b])))


@pytest.mark.parametrize("example", [[A, B], (A, B), {"b": B, "a": A}, None], ids=["list", "tuple", "dict", "none"])
def test_functional_models(example, tmp_path):
    model = two_inputs()
    with convert(model, tmp_path, example=example) as explainer:
        found = explainer.predict({"a": A, "b": B})
    assert_values(found, model([A, B]).numpy(), "output", 1e-5)


def test_sizes_that_are_not_declared(tmp_path):
    x = keras.Input((None, None, 3), name="image")
    value = L.Conv2DTranspose(3, 3, strides=2, padding="same", name="up")(L.Conv2D(4, 3, name="conv")(x))
    model = fill(keras.Model(x, L.GlobalAveragePooling2D(name="mean")(value)))
    with pytest.raises(InputError, match=r"'image' is declared as \(None, None, None, 3\).*give example"):
        ov.convert(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
    with convert(model, tmp_path, example=normal(2, 9, 7, 3)) as explainer:
        assert explainer.layers["conv"].shape == ("N", "height-2", "width-2", 4)
        for size in ((9, 7), (12, 31)):
            image = normal(3, *size, 3, seed=1)
            assert_values(explainer.predict(image), model(image).numpy(), "output", 1e-5)


def test_a_batch_that_is_declared(tmp_path):
    x = keras.Input(batch_shape=(4, 6), name="table")
    model = fill(keras.Model(x, L.Dense(3, name="head")(L.Dense(5, activation="tanh", name="hidden")(x))))
    assert_converts(model, tmp_path)


class Counting(keras.Model):
    """Takes six samples and makes two of them."""

    def __init__(self):
        super().__init__()
        self.head = L.Dense(3, name="head")

    def call(self, x):
        return self.head(keras.ops.reshape(x, (2, 18)))


def counting():
    x = keras.Input(batch_shape=(6, 6), name="table")
    return keras.Model(x, L.Dense(3, name="head")(keras.ops.reshape(x, (2, 18))))


@pytest.mark.parametrize("make", [lambda: built(Counting(), normal(6, 6)), counting], ids=["subclassed", "functional"])
def test_a_batch_that_the_model_counts_on(make, tmp_path, capsys):
    model, table = make(), normal(6, 6, seed=1)
    with ov.load(ov.convert(model, tmp_path / "net.onnx", example=normal(6, 6)), providers="cpu") as explainer:
        assert "the batch stays fixed at 6" in capsys.readouterr().out
        assert explainer.inputs[0].shape == (6, 6)
        assert_values(explainer.predict(table), model(table).numpy(), "output", 1e-5)


def embedding():
    x = keras.Input((5,), dtype="int32", name="ids")
    return keras.Model(x, L.Dense(2, name="head")(L.Flatten(name="flat")(L.Embedding(9, 3, name="words")(x))))


def built(model, example=A):
    model(example)
    return model


def hidden_variable():
    class Hidden(L.Layer):
        def __init__(self):
            super().__init__()
            self.scale = (tf.Variable(2.0),)

        def call(self, x):
            return x * self.scale[0]

    x = keras.Input((6,))
    return keras.Model(x, L.Dense(2)(Hidden()(x)))


def python_control_flow():
    class Deciding(One):
        def call(self, inputs):
            return self.head(inputs if float(inputs[0, 0]) > 0 else -inputs)

    return built(Deciding())


REFUSALS = {
    "not built": (
        lambda: keras.Sequential([L.Dense(2)], name="new"),
        None,
        UnsupportedModelError,
        "'new' has no weights",
    ),
    "subclassed": (lambda: built(One()), None, InputError, "One is a subclassed model.*give example"),
    "integers": (embedding, None, InputError, r"'ids' is declared as \(None, 5\) int32.*give example"),
    "wrong size": (two_inputs, [A, A], InputError, "cannot be called with the example .a .2, 6. float32, b .2, 6."),
    "too few": (two_inputs, A, InputError, r"inputs are \['a', 'b'\], the example has 1"),
    "wrong names": (two_inputs, {"a": A, "c": B}, InputError, r"inputs are \['a', 'b'\], the example has \['a', 'c'\]"),
    "text": (lambda: built(One()), np.array(["a"]), InputError, "expected a numeric array"),
    "a number": (lambda: built(One()), 3.0, InputError, "expected a numeric array with the batch first"),
    "a layer that reads a variable of its own": (
        hidden_variable,
        None,
        UnsupportedModelError,
        "tf.Variable.*add_weight",
    ),
    "control flow": (python_control_flow, A, UnsupportedModelError, "Keras cannot trace the model.*keras.ops"),
}


@pytest.mark.parametrize(("make", "example", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(make, example, error, message, tmp_path):
    with pytest.raises(error, match=message):
        ov.convert(make(), tmp_path / "net.onnx", example=example)
    assert list(tmp_path.iterdir()) == []


def test_custom_objects_are_for_files(tmp_path):
    with pytest.raises(OptionError, match="loading a file"):
        ov.convert(two_inputs(), tmp_path / "net.onnx", custom_objects={})
