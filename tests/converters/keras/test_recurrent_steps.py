"""Recurrent layers that ONNX has no operator for, step by step; stateful ones; the user's model stays as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import onnxviz_keras
from onnxviz.errors import UnsupportedModelError
from tests.converters.keras.sequences import (
    FEATURES,
    STEPS,
    UNITS,
    Cut,
    assert_converts,
    example,
    joined,
    sequences,
    sequential,
)
from tests.converters.keras.support import convert, normal


class Cell(L.Layer):
    """A cell that ONNX has no operator for."""

    state_size = UNITS

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], UNITS), name="kernel")

    def call(self, x, states):
        state = 0.9 * states[0] + keras.ops.sin(x @ self.kernel)
        return state, [state]


class Doubled(L.LSTM):
    """A layer whose loop is its own."""

    def inner_loop(self, *args, **kwargs):
        last, outputs, states = super().inner_loop(*args, **kwargs)
        return 2 * last, 2 * outputs, states


# --------------------------------------------------------------------------------------------------------- step by step


def images(rank, **options):
    """A layer's name, and what it is given: its steps are images of this rank."""
    layer = {1: L.ConvLSTM1D, 2: L.ConvLSTM2D, 3: L.ConvLSTM3D}[rank]
    return sequential(layer(2, 2, recurrent_dropout=0.1, **options), shape=(3, *[4] * rank, 2))


STEP_BY_STEP = {
    "cell": lambda: sequential(L.RNN(Cell(), go_backwards=True, return_sequences=True)),
    "stacked cells": lambda: sequential(L.RNN([L.LSTMCell(UNITS, dropout=0.1), L.GRUCell(2)], return_sequences=True)),
    "masked cell": lambda: sequential(L.Masking(), L.RNN(Cell(), return_sequences=True), L.RNN(Cell())),
    "activation": lambda: sequential(L.LSTM(UNITS, activation="gelu"), L.Dense(2)),
    "own loop": lambda: sequential(Doubled(UNITS)),
    "images 1": lambda: images(1, return_sequences=True),
    "images 2": lambda: images(2, padding="same"),
    "images 3": lambda: images(3),
}


@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_what_onnx_has_no_operator_for_is_written_step_by_step(name, tmp_path):
    model = STEP_BY_STEP[name]()
    found = assert_converts(model, tmp_path, example(model))
    assert not found.keys() & {"LSTM", "GRU", "RNN", "Loop"}


def test_a_cell_that_has_an_operator_has_it_in_any_layer(tmp_path):
    model = sequential(L.RNN(L.LSTMCell(UNITS)))
    assert assert_converts(model, tmp_path, example(model), gradient=False)["LSTM"] == 1


def test_unknown_steps_are_refused_where_each_is_written(tmp_path):
    model = sequential(Cut(), L.LSTM(UNITS, activation="gelu", name="memory"))
    before = replaced(model)
    with pytest.raises(UnsupportedModelError, match=r"^layer 'memory' \(LSTM\) .*steps.* Put a Reshape there"):
        convert(model, tmp_path)
    assert replaced(model) == before


# ------------------------------------------------------------------------------------------------- the model as it was


REPLACED = ("inner_loop", "get_initial_state", "unroll", "use_cudnn", "stateful", "dropout", "recurrent_dropout")


def replaced(model):
    """What conversion replaces for a while."""
    layers = model._flatten_layers()
    return [{name: value for name, value in vars(layer).items() if name in REPLACED} for layer in layers]


def states(model):
    """The numbers that layers keep from one call to the next."""
    kept = [getattr(layer, "states", None) for layer in model._flatten_layers()]
    return [state.numpy() for state in keras.tree.flatten(kept) if state is not None]


STATEFUL = {
    "LSTM": lambda: L.LSTM(UNITS, stateful=True, dropout=0.2),
    "both": lambda: L.Bidirectional(L.GRU(UNITS, stateful=True)),
    "stacked": lambda: L.RNN([L.LSTMCell(UNITS), L.GRUCell(2)], stateful=True),
    "images": lambda: L.ConvLSTM1D(2, 2, stateful=True),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_layer_starts_from_its_present_states(name, tmp_path):
    model = sequential(STATEFUL[name](), shape=(3, 4, 2) if name == "images" else (STEPS, FEATURES), batch_size=2)
    model(normal(*model.inputs[0].shape, seed=3))
    attributes, numbers = replaced(model), states(model)
    assert all(number.any() for number in numbers)
    with convert(model, tmp_path, gradient=False) as explainer:
        found = explainer.predict(normal(*model.inputs[0].shape))
    assert replaced(model) == attributes
    np.testing.assert_array_equal(np.hstack(states(model)), np.hstack(numbers))
    np.testing.assert_allclose(found, model(normal(*model.inputs[0].shape)), atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_the_batch_stays_that_of_the_states(nested):
    model = sequential(L.LSTM(UNITS, stateful=True, name="memory"), batch_size=2)
    (note,) = onnxviz_keras.source(
        joined(x := sequences(), model(x)) if nested else model, example=example(model, 2)
    ).notes
    assert "fixed at 2" in note
    assert "stateful" in note
