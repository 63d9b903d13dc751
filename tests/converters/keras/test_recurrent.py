"""Recurrent layers that are an ONNX operator: variants, states, masks, both directions, one for every step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.converters.keras.sequences import (
    FEATURES,
    STEPS,
    UNITS,
    Cut,
    assert_converts,
    assert_same,
    example,
    joined,
    sequences,
    sequential,
)
from tests.converters.keras.support import convert, normal

LAYERS = {"LSTM": L.LSTM, "GRU": L.GRU, "RNN": L.SimpleRNN}
EACH = pytest.mark.parametrize("operator", LAYERS)

PADDED = np.array(
    [
        [0, 0, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
)
"""Which steps count: those after or before the padding, some in between, all, none, one."""

IDS = (PADDED * np.random.default_rng(0).integers(1, 9, PADDED.shape)).astype(np.int32)


# ------------------------------------------------------------------------------------------------------------ operators


VARIANTS = {
    "last": {},
    "sequences": {"return_sequences": True},
    "backwards": {"go_backwards": True, "use_bias": False},
    "backwards_sequences": {"go_backwards": True, "return_sequences": True},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.2},
    "unrolled": {"unroll": True},
} | {f"with_{name}": {"activation": name} for name in ("relu", "softplus", "softsign", "elu", "leaky_relu", "linear")}

GATES = {
    "hard_gates": {"recurrent_activation": "hard_sigmoid"},
    "two_slopes": {"recurrent_activation": "elu", "activation": "leaky_relu"},
}
OF_ONE = {
    "LSTM": GATES | {"no_forget_bias": {"unit_forget_bias": False}},
    "GRU": GATES | {"before": {"reset_after": False}, "before_no_bias": {"reset_after": False, "use_bias": False}},
    "RNN": {},
}


@EACH
def test_a_layer_is_one_operator(operator, tmp_path):
    x, variants = sequences(), VARIANTS | OF_ONE[operator]
    model = joined(x, *(LAYERS[operator](UNITS, name=name, **options)(x) for name, options in variants.items()))
    found = assert_converts(model, tmp_path, example(model), gradient=False)
    assert found[operator] == len(variants)
    assert not found.keys() & {"Loop", "Scan", "MatMul", "Sigmoid", "Tanh"}


@EACH
def test_gradients_of_stacked_layers(operator, tmp_path):
    layer = LAYERS[operator]
    both = L.Bidirectional(layer(UNITS, return_sequences=True, name="part"), name="both")
    model = sequential(both, layer(UNITS, go_backwards=True, name="back"), L.Dense(2, name="head"))
    with convert(model, tmp_path) as explainer:
        assert_same(model, explainer, example(model))
        assert [row.name for row in explainer.layers] == [
            "both/forward_part",
            "both/backward_part",
            "both",
            "back",
            "head",
        ]


@EACH
def test_states_go_in_and_out(operator, tmp_path):
    count = 2 if operator == "LSTM" else 1
    x, states = sequences(), [keras.Input((UNITS,), name=f"state_{k}") for k in range(2 * count)]
    first = LAYERS[operator](UNITS, return_sequences=True, return_state=True, name="first")
    both = L.Bidirectional(LAYERS[operator](UNITS, return_state=True, name="part"), name="both")
    outputs, *last = first(x, initial_state=states[:count])
    model = joined([x, *states], last, both(outputs, initial_state=states))
    with convert(model, tmp_path) as explainer:
        assert_same(
            model, explainer, [normal(4, STEPS, FEATURES), *(normal(4, UNITS, seed=k) for k in range(2 * count))]
        )
        names = [layer.name for layer in explainer.layers]
    assert names[: 1 + count] == [f"first:{k}" for k in range(1 + count)]
    assert {"both/forward_part:1", "both/backward_part:1", "both:0", f"both:{2 * count}"} <= set(names)


@pytest.mark.parametrize("mode", ["sum", "mul", "ave", None])
def test_both_directions_are_merged(mode, tmp_path):
    x = sequences()
    backwards = L.GRU(UNITS, return_sequences=True, go_backwards=True, activation="relu")
    layer = L.Bidirectional(L.GRU(UNITS, return_sequences=True), merge_mode=mode, backward_layer=backwards)
    model = joined(x, layer(x))
    assert_converts(model, tmp_path, example(model), gradient=False)


def test_a_layer_that_is_called_twice(tmp_path):
    x, layer = sequences(), L.LSTM(UNITS, return_sequences=True, name="lstm")
    model = joined(x, L.GRU(UNITS)(layer(L.Dense(FEATURES)(layer(x)))))
    with convert(model, tmp_path, gradient=False) as explainer:
        assert {"lstm", "lstm#1"} < {row.name for row in explainer.layers}


def test_the_number_of_steps_may_be_unknown(tmp_path):
    model = sequential(Cut(), L.LSTM(UNITS, return_sequences=True), L.GRU(UNITS))
    assert_converts(model, tmp_path, example(model), gradient=False)


# ---------------------------------------------------------------------------------------------------------------- masks


@EACH
def test_masked_steps_are_left_out(operator, tmp_path):
    count = 2 if operator == "LSTM" else 1
    ids, states = (
        keras.Input((STEPS,), dtype="int32", name="ids"),
        [keras.Input((UNITS,), name=f"state_{k}") for k in range(count)],
    )
    x, layer = L.Embedding(9, FEATURES, mask_zero=True, name="embedding")(ids), LAYERS[operator]
    variants = [
        {}, {"return_sequences": True}, {"go_backwards": True}, {"zero_output_for_mask": True},
        {"return_sequences": True, "zero_output_for_mask": True},
        {"return_sequences": True, "go_backwards": True, "return_state": True},
    ]  # fmt: skip
    plain = [layer(UNITS, **options)(x) for options in variants]
    begun = [layer(UNITS, **options)(x, initial_state=states) for options in variants]
    both = [L.Bidirectional(layer(UNITS, return_sequences=many))(x) for many in (False, True)]
    model = joined([ids, *states], plain, begun, both)
    inputs = [IDS, *(normal(len(IDS), UNITS, seed=k) for k in range(count))]
    given = {x.name: value[:2] for x, value in zip(model.inputs, inputs, strict=True)}
    found = assert_converts(model, tmp_path, inputs, gradient=False, example=given)
    assert found[operator] == 2 * len(variants) + 2 * len(both)


@EACH
def test_gradients_pass_by_masked_steps(operator, tmp_path):
    layer = LAYERS[operator]
    back = layer(UNITS, return_sequences=True, go_backwards=True, name="back")
    model = sequential(L.Masking(name="mask"), back, layer(UNITS), L.Dense(2))
    assert_converts(model, tmp_path, [normal(len(PADDED), STEPS, FEATURES) * PADDED[..., None].astype(np.float32)])


def test_a_mask_for_each_of_two_inputs(tmp_path):
    x, mask = sequences(), keras.Input((STEPS,), dtype="bool", name="mask")
    model = joined([x, mask], L.GRU(UNITS, return_sequences=True)(x, mask=mask))
    given = {"x": normal(2, STEPS, FEATURES), "mask": PADDED[:2] > 0}
    assert_converts(model, tmp_path, [normal(len(PADDED), STEPS, FEATURES), PADDED > 0], gradient=False, example=given)


def test_the_graph_does_not_grow_with_the_steps(tmp_path):
    def size(steps):
        embedding = L.Embedding(9, FEATURES, mask_zero=True)
        model = sequential(embedding, L.Bidirectional(L.LSTM(UNITS)), shape=(steps,), dtype="int32")
        ids = np.random.default_rng(0).integers(0, 9, (3, steps), np.int32)
        return assert_converts(model, tmp_path, [ids], gradient=False, example=ids[:2]).total()

    assert size(20) == size(4) < 60


# ------------------------------------------------------------------------------------------------------ for every step


INNER = {
    "dense": lambda: (L.Dense(3), (4,)),
    "convolution": lambda: (L.Conv2D(2, 3), (5, 5, 2)),
    "model": lambda: (sequential(L.Flatten(), L.Dense(3), shape=(4, 2)), (4, 2)),
    "recurrent": lambda: (L.LSTM(UNITS), (STEPS, FEATURES)),
}


@pytest.mark.parametrize("name", INNER)
def test_a_layer_for_every_step(name, tmp_path):
    layer, shape = INNER[name]()
    model = sequential(L.TimeDistributed(layer, name="each"), L.Reshape((3, -1)), L.GRU(UNITS), shape=(3, *shape))
    found = assert_converts(model, tmp_path, example(model))
    assert found["GRU"] == 1
