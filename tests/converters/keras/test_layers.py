"""Norms, activations, reshaping, noise, preprocessing and merging layers: each variant on a branch of its own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.converters.keras.support import assert_converts, branches, convert, fill, normal
from tests.models.comparison import assert_values


def norms(*axes):
    """Every norm over the last axis, with and without what it learns."""
    plain = {"center": False, "scale": False}
    return {
        "layer": L.LayerNormalization(),
        "layer_plain": L.LayerNormalization(**plain),
        "rms": L.RMSNormalization(),
        "group": L.GroupNormalization(4),
        "group_all": L.GroupNormalization(1),
        "group_each": L.GroupNormalization(-1),
        "group_plain": L.GroupNormalization(2, **plain),
        "batch": L.BatchNormalization(),
        "batch_plain": L.BatchNormalization(**plain),
        "batch_scaled": L.BatchNormalization(center=False),
        "batch_centered": L.BatchNormalization(scale=False),
        "unit": L.UnitNormalization(),
    } | {
        f"{layer.__name__}_{'_'.join(map(str, axis))}": layer(axis=axis)
        for layer in (L.LayerNormalization, L.UnitNormalization)
        for axis in axes
    }


def adapted(layer, data):
    layer.adapt(data)
    return layer


ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "tanh", "tanh_shrink",
)  # fmt: skip

RANDOM = {
    "RandomFlip": (), "RandomRotation": (0.2,), "RandomZoom": (0.2,), "RandomTranslation": (0.1, 0.1),
    "RandomContrast": (0.2,), "RandomBrightness": (0.2,), "RandomCrop": (4, 4), "RandomColorJitter": (),
    "RandomSharpness": (0.5,), "RandomShear": (0.1, 0.1), "RandomGrayscale": (), "RandomHue": (0.2,),
    "RandomSaturation": (0.2,), "RandomErasing": (), "RandomGaussianBlur": (), "RandomInvert": (),
    "RandomPerspective": (), "RandomElasticTransform": (), "RandAugment": (), "AugMix": (), "CutMix": (), "MixUp": (),
}  # fmt: skip

CASES = {
    "norms of vectors": lambda: ((8,), norms()),
    "norms of series": lambda: ((6, 8), norms((1,), (1, 2))),
    "norms of images": lambda: (
        (6, 5, 8),
        norms((1, 2), (2, 3))
        | {
            "batch_rows": L.BatchNormalization(axis=1),
            "group_rows": L.GroupNormalization(5, axis=2),
            "spectral": L.SpectralNormalization(L.Conv2D(4, 3)),
            "spectral_dense": L.SpectralNormalization(L.Dense(4), power_iterations=2),
        },
    ),
    "norms of volumes": lambda: ((3, 2, 4, 8), norms((1, 2, 3))),
    "activations": lambda: (
        (4, 6),
        {name: L.Activation(name) for name in ACTIVATIONS}
        | {"gelu_tanh": lambda x: keras.activations.gelu(2 * x, approximate=True)},
    ),
    "activation layers": lambda: (
        (4, 6),
        {
            "prelu": L.PReLU(alpha_initializer="random_normal"),
            "prelu_shared": L.PReLU(alpha_initializer="random_normal", shared_axes=[1]),
            "leaky": L.LeakyReLU(negative_slope=0.4),
            "elu": L.ELU(alpha=0.3),
            "relu": L.ReLU(),
            "relu_max": L.ReLU(max_value=0.5),
            "relu_slope": L.ReLU(negative_slope=0.1),
            "relu_threshold": L.ReLU(threshold=0.3),
            "relu_all": L.ReLU(max_value=0.6, negative_slope=0.1, threshold=0.2),
            "softmax": L.Softmax(),
            "softmax_1": L.Softmax(axis=1),
            "softmax_1_2": L.Softmax(axis=(1, 2)),
        },
    ),
    "dense": lambda: (
        (4, 6),
        {
            "dense": L.Dense(5, activation="relu"),
            "linear": L.Dense(5, use_bias=False),
            "lora": L.Dense(5, lora_rank=2),
            "einsum": L.EinsumDense("abc,cd->abd", output_shape=(None, 7), bias_axes="d"),
            "einsum_all": L.EinsumDense("abc,bcd->ad", output_shape=7),
            "steps": L.TimeDistributed(L.Dense(3)),
        },
    ),
    "vectors in other shapes": lambda: ((6,), {"repeat": L.RepeatVector(3), "reshape": L.Reshape((2, 3))}),
    "series in other shapes": lambda: (
        (4, 6),
        {
            "reshape": L.Reshape((3, 2, -1)),
            "flatten": L.Flatten(),
            "permute": L.Permute((2, 1)),
            "dropout": L.Dropout(0.5),
            "spatial": L.SpatialDropout1D(0.5),
            "noise": L.GaussianNoise(0.5),
            "gaussian": L.GaussianDropout(0.5),
            "alpha": L.AlphaDropout(0.5),
            "identity": L.Identity(),
            "penalty": L.ActivityRegularization(0.1),
            "lambda": L.Lambda(lambda x: x * 2 + keras.ops.sin(x)),
        },
    ),
    "images in other shapes": lambda: (
        (4, 6, 3),
        {
            "reshape": L.Reshape((3, 8, -1)),
            "permute": L.Permute((3, 1, 2)),
            "flatten": L.Flatten(),
            "flatten_first": L.Flatten(data_format="channels_first"),
            "dropout": L.SpatialDropout2D(0.5),
            "dense": L.Dense(5),
        },
    ),
    "preprocessing": lambda: (
        (6, 7, 3),
        {
            "rescaling": L.Rescaling(1 / 127.5, offset=-1),
            "rescaling_each": L.Rescaling([1.0, 2.0, 3.0]),
            "normalization": L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 2.0]),
            "adapted": adapted(L.Normalization(), normal(5, 6, 7, 3)),
            "adapted_pixels": adapted(L.Normalization(axis=(1, 2, 3)), normal(5, 6, 7, 3)),
        },
    ),
    "augmentation": lambda: ((6, 7, 3), {name: getattr(L, name)(*args) for name, args in RANDOM.items()}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_kerass(case, tmp_path):
    assert_converts(branches(*case()), tmp_path)


def categories(x):
    return L.CategoryEncoding(4, name="code")(keras.ops.cast(keras.ops.abs(3 * x), "int32") % 4)


ENCODINGS = {
    "buckets": L.Discretization([-0.5, 0.0, 0.5], name="code", output_mode="multi_hot"),
    "categories": categories,
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_encoded_features(encode, tmp_path):
    """They end the way to the input, and have a gradient of their own."""
    x = keras.Input((6,), name="x")
    both = L.Concatenate(name="both")([encode(x), L.Dense(3, name="dense")(x)])
    model = fill(keras.Model(x, L.Dense(2, name="head")(both)))
    table, weights = normal(4, 6), normal(4, 2, seed=1)
    behind, dense = weights @ np.asarray(model.get_layer("head").kernel).T, np.asarray(model.get_layer("dense").kernel)
    with convert(model, tmp_path) as explainer:
        assert_values(explainer.predict(table), model(table).numpy(), "output", 1e-5)
        assert_values(explainer.gradient(table, weights, layer="code").values, behind[:, :4], "code", 1e-5)
        assert_values(explainer.gradient(table, weights).values, behind[:, 4:] @ dense.T, "input", 1e-5)


def merged(merge, first=(4, 6), second=(4, 6)):
    a, b = keras.Input(first, name="a"), keras.Input(second, name="b")
    value = merge([L.Activation("tanh", name="to_a")(a), L.Activation("tanh", name="to_b")(b)])
    return fill(keras.Model([a, b], L.Activation("softplus", name="end")(value)))


MERGES = {
    **{
        name: lambda name=name: merged(getattr(L, name)())
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "Add broadcast": lambda: merged(L.Add(), second=(1, 6)),
    "Concatenate 1": lambda: merged(L.Concatenate(axis=1), second=(3, 6)),
    "Dot": lambda: merged(L.Dot(axes=2), second=(5, 6)),
    "Dot 1": lambda: merged(L.Dot(axes=(1, 1)), second=(4, 5)),
    "Dot normalized": lambda: merged(L.Dot(axes=1, normalize=True), (6,), (6,)),
}


@pytest.mark.parametrize("make", MERGES.values(), ids=MERGES)
def test_merging_layers(make, tmp_path):
    assert_converts(make(), tmp_path)
