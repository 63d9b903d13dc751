"""Attention layers, embeddings and a transformer: plain operators, so that values and gradients are Keras's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.converters.keras.sequences import assert_converts, assert_same, joined
from tests.converters.keras.support import convert, normal

QUERIES, KEYS, WIDTH = 4, 5, 6
MASK = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 1, 1, 1]]) > 0


def masks(batch):
    """For each query of each sample the keys that it sees."""
    return np.stack([np.roll(MASK, k, axis=1) for k in range(batch)])


def several_heads(q, k, mask):
    return {
        "plain": L.MultiHeadAttention(2, 3, name="plain")(q, k),
        "wide": L.MultiHeadAttention(2, 3, value_dim=4, output_shape=5, use_bias=False, name="wide")(q, k, k),
        "masked": L.MultiHeadAttention(2, 3, name="masked")(q, k, attention_mask=mask),
        "causal": L.MultiHeadAttention(2, 3, name="causal")(q, q, use_causal_mask=True),
        "scored": L.MultiHeadAttention(2, 3, name="scored")(q, q, return_attention_scores=True),
    }


def one_head(q, k, mask):
    return {
        "dot": L.Attention(use_scale=True, name="dot")([q, k]),
        "sum": L.Attention(score_mode="concat", name="sum")([q, k], return_attention_scores=True),
        "causal": L.Attention(name="causal")([q, q], use_causal_mask=True),
        "masked": L.Attention(name="masked")([q, k], mask=[None, mask[:, 0]]),
        "additive": L.AdditiveAttention(name="additive")([q, k]),
        "additive_masked": L.AdditiveAttention(name="additive_masked")([q, k], mask=[None, mask[:, 1]]),
    }


def grouped_heads(q, k, mask):
    return {
        "grouped": L.GroupQueryAttention(3, 4, 2, name="grouped")(q, k),
        "masked": L.GroupQueryAttention(3, 4, 2, name="masked")(q, k, attention_mask=mask),
        "scored": L.GroupQueryAttention(3, 4, 1, name="scored")(
            q, q, use_causal_mask=True, return_attention_scores=True
        ),
    }


@pytest.mark.parametrize("dtype", ["bool", "int32"])
@pytest.mark.parametrize("layers", [several_heads, one_head, grouped_heads])
def test_attention(layers, dtype, tmp_path):
    q, k = keras.Input((QUERIES, WIDTH), name="q"), keras.Input((KEYS, WIDTH), name="k")
    mask = keras.Input((QUERIES, KEYS), dtype=dtype, name="mask")
    model = joined([q, k, mask], layers(q, k, mask if dtype == "bool" else mask > 0))

    def inputs(batch):
        return [normal(batch, QUERIES, WIDTH), normal(batch, KEYS, WIDTH, seed=1), masks(batch).astype(dtype)]

    given = dict(zip(("q", "k", "mask"), inputs(2), strict=True))
    assert_converts(model, tmp_path, inputs(4), example=given)


def test_the_scores_are_a_layer_s_second_output(tmp_path):
    q = keras.Input((QUERIES, WIDTH), name="q")
    model = joined(q, L.MultiHeadAttention(2, 3, name="heads")(q, q, return_attention_scores=True))
    with convert(model, tmp_path) as explainer:
        found = explainer.features(normal(3, QUERIES, WIDTH), layers=["heads:0", "heads:1"])
    assert found["heads:0"].shape == (3, QUERIES, WIDTH)
    np.testing.assert_allclose(found["heads:1"].sum(-1), np.ones((3, 2, QUERIES)), rtol=1e-6)


def test_attention_over_two_axes(tmp_path):
    x = keras.Input((3, 4, WIDTH), name="x")
    model = joined(x, L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x))
    assert_converts(model, tmp_path, [normal(4, 3, 4, WIDTH)])


TOKENS, WORDS = 7, 11


def transformer(*, causal, padded):
    """Embedded words and places, one block, the mean over the words, three scores."""
    ids = keras.Input((TOKENS,), dtype="int32", name="ids")
    places = L.Embedding(TOKENS, 8, name="places")(keras.ops.arange(TOKENS))
    x = L.Add(name="embedded")([L.Embedding(WORDS, 8, mask_zero=padded, name="words")(ids), places[None]])
    y = L.LayerNormalization(name="norm")(x)
    x = L.Add(name="attended")([x, L.MultiHeadAttention(2, 4, name="heads")(y, y, use_causal_mask=causal)])
    y = L.LayerNormalization(name="norm_2")(x)
    y = L.Dense(8, name="down")(L.Dense(16, activation="gelu", name="up")(y))
    x = L.Add(name="block")([x, L.Dropout(0.1, name="dropout")(y)])
    return joined(ids, L.Dense(3, name="head")(L.GlobalAveragePooling1D(name="mean")(x)))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_transformer(causal, padded, tmp_path):
    model = transformer(causal=causal, padded=padded)
    ids = np.random.default_rng(0).integers(1, WORDS, (5, TOKENS), np.int32)
    ids[0, 4:], ids[1, :3], ids[2, 1:] = 0, 0, 0
    with convert(model, tmp_path, example=ids[:2]) as explainer:
        assert_same(model, explainer, [ids])
        named = {layer.name: layer.has_gradient for layer in explainer.layers}
    assert all(named[name] for name in ("words", "norm", "heads/query", "heads", "block", "mean"))
