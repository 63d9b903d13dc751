"""The user's model, Keras's global state and the machinery of Keras are as they were."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import onnxviz as ov
import onnxviz_keras
from onnxviz.errors import InputError, OnnxvizError, UnsupportedModelError, UnsupportedOperatorError
from tests.converters.keras.support import convert, fill, global_state, normal
from tests.models.comparison import assert_values


def network():
    x = keras.Input((6,), name="table")
    value = L.BatchNormalization(name="norm")(L.Dense(4, name="hidden")(x))
    value = L.Dropout(0.5, name="drop")(L.Reshape((2, 2), name="pairs")(value))
    return fill(keras.Model(x, L.Dense(3, name="head")(L.GRU(3, name="steps")(value))))


def state(model):
    """What a user can see of a model."""
    layers = list(model._flatten_layers())
    public = {
        id(layer): {key: id(value) for key, value in vars(layer).items() if key != "_called"}  # any call sets that
        for layer in layers
    }
    flags = [(layer.name, layer.trainable, layer.dtype, getattr(layer, "unroll", None)) for layer in layers]
    weights = [(id(v), v.path, v.trainable, np.asarray(v).tobytes()) for v in model.variables]
    return public, flags, weights, id(getattr(model, "optimizer", None)), id(getattr(model, "train_function", None))


@pytest.fixture
def unchanged():
    before = global_state()
    yield
    assert global_state() == before


@pytest.mark.usefixtures("unchanged")
def test_the_model_is_unchanged(tmp_path):
    model = network()
    model.get_layer("hidden").trainable = False
    model.compile("adam", "mse")
    model.fit(normal(8, 6), normal(8, 3), verbose=0)
    expected, before = model.predict(normal(4, 6), verbose=0), state(model)
    convert(model, tmp_path).close()
    assert state(model) == before
    assert np.array_equal(model.predict(normal(4, 6), verbose=0), expected)
    model.fit(normal(8, 6), normal(8, 3), verbose=0)
    assert not np.array_equal(model.predict(normal(4, 6), verbose=0), expected)


def test_the_reference_leaves_it_so():
    model = network()
    source = onnxviz_keras.source(model)
    before = state(model), global_state()
    source.reference.run(source.example)
    list(source.reference.gradients(source.example, [({"head": np.ones((2, 3), np.float32)}, ["table", "norm"])]))
    assert (state(model), global_state()) == before


class Failing(keras.Model):
    """Fails where it is traced."""

    def __init__(self):
        super().__init__()
        self.head = L.Dense(2)

    def call(self, x):
        if tf.inside_function():
            raise ValueError("not in a graph")
        return self.head(x)


def failing():
    model = Failing()
    model(normal(2, 6))
    return model


def untranslatable():
    x = keras.Input((6,))
    return keras.Model(x, keras.ops.slice_update(x, (0, 0), x[:1, :1]))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("make", "example", "error"),
    [
        (network, normal(2, 5), InputError),
        (failing, normal(2, 6), UnsupportedModelError),
        (untranslatable, None, UnsupportedOperatorError),
    ],
    ids=["wrong input", "not traced", "not translated"],
)
def test_the_model_is_unchanged_after_an_error(make, example, error, tmp_path):
    model = make()
    before = state(model)
    with pytest.raises(error):
        ov.convert(model, tmp_path / "net.onnx", example=example)
    assert state(model) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "float16", "float64"])
def test_policies(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model, table = network_of_floats(), normal(4, 6)
        convert(model, tmp_path).close()
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy("float32")
    with convert(model, tmp_path) as explainer:  # a model keeps its policy
        kind = policy.removeprefix("mixed_")
        assert [layer.dtype for layer in explainer.layers] == [kind, kind]
        bar = 2e-2 if kind == "float16" else 1e-6
        assert_values(explainer.predict(table), np.asarray(model(table), np.float32), "output", bar)
        weights = normal(4, 3, seed=1)
        with tf.GradientTape() as tape:
            x = tf.constant(table)
            tape.watch(x)
            score = tf.reduce_sum(tf.cast(model(x), tf.float32) * weights)
        expected = np.asarray(tape.gradient(score, x), np.float32)
        assert_values(explainer.gradient(table, weights).values, expected, "gradient", bar)


def network_of_floats():
    x = keras.Input((6,), name="table")
    return fill(keras.Model(x, L.Dense(3, name="head")(L.Dense(4, activation="tanh", name="hidden")(x))))


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_is_refused(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(UnsupportedModelError, match=r"computes in bfloat16.*float32"):
            ov.convert(network_of_floats(), tmp_path / "net.onnx")
    finally:
        keras.config.set_dtype_policy("float32")


def test_settings_of_the_user_stay(tmp_path):
    """Also those that a conversion must not follow."""
    keras.config.set_floatx("float64")
    keras.config.disable_traceback_filtering()
    tf.config.run_functions_eagerly(True)
    before = global_state()
    try:
        convert(network_of_floats(), tmp_path).close()
        assert global_state() == before
    finally:
        keras.config.set_floatx("float32")
        keras.config.enable_traceback_filtering()
        tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("unchanged")
def test_threads(tmp_path):
    """One converts at a time; a thread that merely uses Keras is not recorded."""
    models, ended, problems = [network_of_floats() for _ in range(3)], threading.Event(), []
    other = network_of_floats()

    def converts(k):
        try:
            ov.convert(models[k], tmp_path / f"{k}.onnx", quiet=True)
        except OnnxvizError as error:
            problems.append(error)

    def uses():
        while not ended.is_set():
            other(normal(2, 6))

    user = threading.Thread(target=uses)
    user.start()
    threads = [threading.Thread(target=converts, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    user.join()
    assert problems == []
    for k in range(3):
        with ov.load(tmp_path / f"{k}.onnx", providers="cpu") as explainer:
            assert [layer.name for layer in explainer.layers] == ["hidden", "head"]
            assert_values(explainer.predict(normal(4, 6)), models[k](normal(4, 6)).numpy(), "output", 1e-5)


def test_one_model_converts_twice_alike(tmp_path):
    model = network_of_floats()
    first = ov.convert(model, tmp_path / "first.onnx", quiet=True).stat().st_size
    assert ov.convert(model, tmp_path / "second.onnx", quiet=True).stat().st_size == pytest.approx(first, rel=0.02)
