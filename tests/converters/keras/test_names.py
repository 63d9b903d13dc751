"""Names of inputs, outputs and layers of every structure that a Keras model can have."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers as L

import onnxviz as ov
from onnxviz.errors import LayerError
from tests.converters.keras.support import convert, fill, normal
from tests.models.comparison import assert_values


def block(name="block"):
    """(8, 8, 3) to (4, 4, 5)."""
    x = keras.Input((8, 8, 3))
    value = L.Conv2D(5, 3, padding="same", activation="relu", name="conv")(x)
    return keras.Model(x, L.MaxPooling2D(name="pool")(value), name=name)


def functional():
    x = keras.Input((6,), name="table")
    return keras.Model(x, L.Dense(3, name="head")(L.Dense(4, activation="tanh", name="hidden")(x)))


def sequential():
    return keras.Sequential([keras.Input((6,), name="table"), L.Dense(4, name="hidden"), L.Dense(3, name="head")])


def called():
    model = keras.Sequential([L.Dense(4, name="hidden"), L.Dense(3, name="head")])
    model(normal(2, 6))
    return model


def nested():
    x = keras.Input((8, 8, 3), name="image")
    return keras.Model(x, L.Dense(2, name="head")(L.Flatten(name="flat")(block()(x))))


def nested_twice():
    inner = keras.Sequential([keras.Input((8, 8, 3)), block("inner"), L.ReLU(name="act")], name="outer")
    x = keras.Input((8, 8, 3), name="image")
    return keras.Model(x, L.GlobalAveragePooling2D(name="mean")(inner(x)))


def called_twice():
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    tower = block("tower")
    return keras.Model([a, b], L.Subtract(name="sub")([tower(a), tower(b)]))


def shared():
    x = keras.Input((6,), name="table")
    layer = L.Dense(6, activation="tanh", name="shared")
    return keras.Model(x, layer(layer(layer(x))))


def two_lists():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    both = L.Concatenate(name="both")([a, b])
    return keras.Model([a, b], [L.Dense(2, name="left")(both), L.Dense(3, name="right")(both)])


def two_dicts():
    inputs = {name: keras.Input((size,), name=name) for name, size in (("b", 6), ("a", 4))}
    both = L.Concatenate(name="both")(list(inputs.values()))
    return keras.Model(inputs, {"small": L.Dense(2, name="left")(both), "large": L.Dense(3, name="right")(both)})


def middle():
    x = keras.Input((6,), name="table")
    hidden = L.Dense(4, activation="tanh", name="hidden")(x)
    return keras.Model(x, [hidden, L.Dense(3, name="head")(hidden)])


def alike():
    """Two outputs that Keras gives one name, that of the model both come from."""
    x = keras.Input((6,), name="table")
    inner = keras.Input((6,))
    twins = keras.Model(inner, [L.Dense(2, name="one")(inner), L.Dense(3, name="two")(inner)], name="twins")
    return keras.Model(x, twins(x))


def identity():
    """An output that is the input, and one layer twice."""
    x = keras.Input((6,), name="table")
    value = L.Dense(3, name="head")(x)
    return keras.Model(x, [x, value, value])


@keras.saving.register_keras_serializable("tests")
class Splitting(keras.layers.Layer):
    def call(self, x):
        return {"low": x[:, :2], "high": x[:, 2:]}


def parts():
    x = keras.Input((6,), name="table")
    low, high = L.Lambda(lambda x: (x[:, :3], x[:, 3:]), name="halves")(x)
    pieces = Splitting(name="pieces")(low + high)
    return keras.Model(x, L.Dense(2, name="head")(pieces["high"]))


# model, inputs, outputs, layers
STRUCTURES = {
    "functional": (functional, ["table"], ["head"], ["hidden", "head"]),
    "sequential": (sequential, ["table"], ["head"], ["hidden", "head"]),
    "sequential built by a call": (called, ["input_layer"], ["head"], ["hidden", "head"]),
    "nested": (nested, ["image"], ["head"], ["block/conv", "block/pool", "block", "flat", "head"]),
    "nested twice": (
        nested_twice,
        ["image"],
        ["mean"],
        ["outer/inner/conv", "outer/inner/pool", "outer/inner", "outer/act", "outer", "mean"],
    ),
    "called twice": (
        called_twice,
        ["a", "b"],
        ["sub"],
        ["tower/conv", "tower/pool", "tower", "tower/conv#1", "tower/pool#1", "tower#1", "sub"],
    ),
    "shared": (shared, ["table"], ["shared#2"], ["shared", "shared#1", "shared#2"]),
    "lists": (two_lists, ["a", "b"], ["left", "right"], ["both", "right", "left"]),
    "dicts": (two_dicts, ["a", "b"], ["small", "large"], ["both", "left", "right"]),
    "an output in the middle": (middle, ["table"], ["hidden", "head"], ["hidden", "head"]),
    "outputs alike": (
        alike,
        ["table"],
        ["twins:0", "twins:1"],
        ["twins/two", "twins/one", "twins:0", "twins:1"],
    ),
    "the input as output": (identity, ["table"], ["table", "head", "head#out"], ["head"]),
    "outputs in parts": (
        parts,
        ["table"],
        ["head"],
        ["halves:0", "halves:1", "pieces:low", "pieces:high", "head"],
    ),
}


@pytest.mark.parametrize(("make", "inputs", "outputs", "layers"), STRUCTURES.values(), ids=STRUCTURES)
def test_names_and_values(make, inputs, outputs, layers, tmp_path):
    model = fill(make())
    with convert(model, tmp_path) as explainer:
        assert [tensor.name.rstrip("_0123456789") for tensor in explainer.inputs] == inputs
        assert [output.name for output in explainer.outputs] == outputs
        assert [layer.name for layer in explainer.layers] == layers
        feeds = {tensor.name: normal(5, *tensor.shape[1:], seed=k) for k, tensor in enumerate(explainer.inputs)}
        given = feeds if make is two_dicts else list(feeds.values()) if len(feeds) > 1 else next(iter(feeds.values()))
        expected = model(given, training=False)
        expected = expected.values() if isinstance(expected, dict) else keras.tree.flatten(expected)
        found = explainer.predict(feeds)
        found = list(found.values()) if isinstance(found, dict) else [found]
        for name, value, right in zip(outputs, found, expected, strict=True):
            assert_values(value, right.numpy(), name, 1e-5)


@pytest.mark.parametrize("make", [nested, nested_twice, called_twice, shared], ids=lambda make: make.__name__)
def test_gradients_of_inner_and_shared_layers(make, tmp_path):
    """With respect to one call of a layer, whose value is given: the rest is the model behind it."""
    model = fill(make())
    with convert(model, tmp_path) as explainer:
        feeds = {tensor.name: normal(3, *tensor.shape[1:], seed=k) for k, tensor in enumerate(explainer.inputs)}
        weights = normal(3, *explainer.outputs[0].logits_shape[1:], seed=9)
        for layer, behind in BEHIND[make].items():
            value = tf.constant(explainer.features(feeds, [layer])[layer])
            with tf.GradientTape() as tape:
                tape.watch(value)
                score = tf.reduce_sum(behind(model, value) * weights)
            found = explainer.gradient(feeds, weights, layer=layer).values
            assert_values(found, tf.convert_to_tensor(tape.gradient(score, value)).numpy(), layer, 1e-5)


def _tower(model, value):
    inner = model.get_layer("tower")
    return inner.get_layer("pool")(value)


BEHIND = {
    nested: {
        "block/conv": lambda m, v: m.get_layer("head")(m.get_layer("flat")(m.get_layer("block").get_layer("pool")(v)))
    },
    nested_twice: {
        "outer/inner/conv": lambda m, v: m.get_layer("mean")(
            keras.ops.relu(m.get_layer("outer").get_layer("inner").get_layer("pool")(v))
        ),
        "outer/inner": lambda m, v: m.get_layer("mean")(keras.ops.relu(v)),
    },
    called_twice: {"tower/conv": _tower, "tower/conv#1": lambda m, v: -_tower(m, v)},
    shared: {
        "shared": lambda m, v: m.get_layer("shared")(m.get_layer("shared")(v)),
        "shared#1": lambda m, v: m.get_layer("shared")(v),
    },
}


def test_layers_have_types_and_parameters(tmp_path):
    with convert(nested(), tmp_path) as explainer:
        found = [(layer.name, layer.type, layer.parameters) for layer in explainer.layers]
    assert found == [
        ("block/conv", "Conv2D", 3 * 9 * 5 + 5), ("block/pool", "MaxPooling2D", 0), ("block", "Functional", 0),
        ("flat", "Flatten", 0), ("head", "Dense", 80 * 2 + 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("tower", ["tower", "tower#1"]),
        (["tower/conv#1", "sub"], ["tower/conv#1", "sub"]),
        ("tower/*", ["tower/conv", "tower/pool", "tower/conv#1", "tower/pool#1"]),
        ([], []),
    ],
)
def test_layers_are_chosen(layers, expected, tmp_path):
    with convert(called_twice(), tmp_path, layers=layers) as explainer:
        assert [layer.name for layer in explainer.layers] == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["haed"], "'haed' is unknown; did you mean 'head'"),
        ("x/*", "'x/\\*' is unknown"),
        (["idle"], "'idle' is in the model"),
    ],
)
def test_layers_that_there_are_not(layers, message, tmp_path):
    model = functional()
    model.idle = L.Dense(2, name="idle")
    with pytest.raises(LayerError, match=message):
        ov.convert(model, tmp_path / "net.onnx", layers=layers)
    assert list(tmp_path.iterdir()) == []


def softmax_argument(x):
    return L.Dense(3, activation="softmax", name="head")(x)


def softmax_layer(x):
    return L.Softmax(name="soft")(L.Dense(3, name="head")(x))


def softmax_activation(x):
    return L.Activation("softmax", name="soft")(L.Dense(3, name="head")(x))


def sigmoid_argument(x):
    return L.Dense(1, activation="sigmoid", name="head")(x)


@pytest.mark.parametrize(
    ("head", "activation", "after"),
    [
        (softmax_argument, "Softmax", ["head"]),
        (softmax_layer, "Softmax", ["soft"]),
        (softmax_activation, "Softmax", ["soft"]),
        (sigmoid_argument, "Sigmoid", ["head"]),
    ],
)
def test_the_gradient_starts_at_the_logits(head, activation, after, tmp_path):
    x = keras.Input((6,), name="table")
    model = fill(keras.Model(x, head(L.Dense(4, activation="tanh", name="hidden")(x))))
    with convert(model, tmp_path) as explainer:
        (output,) = explainer.outputs
        assert output.activation == activation
        assert output.name == after[-1]
        assert [layer.name for layer in explainer.layers if not layer.has_gradient] == after
        assert all("logits" in layer.reason for layer in explainer.layers if not layer.has_gradient)
        table = normal(4, 6)
        weights = normal(4, output.logits_shape[-1], seed=9)
        kernel, bias = model.get_layer("head").weights
        with tf.GradientTape() as tape:
            value = tf.constant(table)
            tape.watch(value)
            hidden = model.get_layer("hidden")(value)
            logits = hidden @ kernel + bias
            score = tf.reduce_sum(logits * weights)
        expected = tape.gradient(score, [value, hidden])
        assert_values(explainer.gradient(table, weights).values, expected[0].numpy(), "input", 1e-5)
        found = explainer.gradient(table, weights, layer="hidden").values
        assert_values(found, expected[1].numpy(), "hidden", 1e-5)
        assert_values(explainer.predict(table), model(table).numpy(), "output", 1e-5)
