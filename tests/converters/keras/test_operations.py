"""``keras.ops`` used in Functional models, each on a branch of its own, and what cannot be written in ONNX."""

from __future__ import annotations

import keras
import pytest
from keras import layers as L
from keras import ops

import onnxviz as ov
from onnxviz.errors import CheckFailedError, UnsupportedOperatorError
from tests.converters.keras.support import assert_converts, branches, fill, normal

CASES = {
    "elementwise": lambda: (
        (4, 6),
        {
            "sums": lambda x: 2 * x - ops.sin(x) / (1 + x * x),
            "power": lambda x: ops.power(ops.abs(x) + 1, 1.5),
            "exponentials": lambda x: ops.exp(x) + ops.expm1(x) + ops.log1p(ops.abs(x)) + ops.logaddexp(x, 2 * x),
            "roots": lambda x: ops.sqrt(ops.square(x) + 1) + ops.rsqrt(ops.abs(x) + 1),
            "hyperbolic": lambda x: ops.cosh(x) + ops.arctan(x) + ops.erf(x),
            "choices": lambda x: ops.where(x > 0.1, x, x * x),
            "bounds": lambda x: ops.clip(x, -0.5, 0.5) + ops.maximum(x, 0.1) + ops.minimum(x, 0.2),
            "steps": lambda x: ops.sign(x) * x + ops.floor(3 * x) + ops.mod(x, 0.3),
            "constants": lambda x: x + ops.arange(6, dtype="float32"),
        },
    ),
    "reductions": lambda: (
        (4, 6),
        {
            "mean": lambda x: ops.mean(x, axis=1),
            "spread": lambda x: ops.var(x, axis=1) + ops.std(x, axis=1),
            "extremes": lambda x: ops.max(x, axis=1) + ops.min(x, axis=1),
            "all": lambda x: ops.sum(x, axis=(1, 2), keepdims=True) * ops.prod(x[:, :2], axis=(1, 2), keepdims=True),
            "soft": lambda x: ops.logsumexp(x, axis=1),
            "softmax": lambda x: ops.softmax(x, axis=1),
            "norms": lambda x: ops.norm(x, axis=-1) + ops.norm(x, ord=1, axis=-1),
            "normalize": lambda x: ops.normalize(x, -1),
            "cumulative": lambda x: ops.cumsum(x, axis=1),
            "sorted": lambda x: ops.sort(x, axis=1) + ops.flip(x, axis=2),
            "best": lambda x: ops.top_k(x, 2)[0],
            "middle": lambda x: ops.median(x, axis=1),
        },
    ),
    "shapes": lambda: (
        (4, 6),
        {
            "slices": lambda x: x[:, ::2, 1:-1],
            "reversed": lambda x: x[:, ::-1] + ops.roll(x, 1, axis=1),
            "split": lambda x: ops.split(x, 2, axis=1)[1],
            "stack": lambda x: ops.stack([x, x * x], axis=1),
            "concatenate": lambda x: ops.concatenate([x, x * x], axis=1),
            "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=2.0),
            "reflect": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"),
            "symmetric": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="symmetric"),
            "tile": lambda x: ops.tile(x, (1, 2, 1)),
            "repeat": lambda x: ops.repeat(x, 2, axis=1),
            "take": lambda x: ops.take(x, [0, 2, 0], axis=1),
            "axes": lambda x: ops.moveaxis(ops.expand_dims(ops.swapaxes(x, 1, 2), 1), 2, 3),
            "triangle": ops.tril,
            "reshape": lambda x: ops.reshape(x, (-1, 8, 3)),
        },
    ),
    "products": lambda: (
        (4, 6),
        {
            "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
            "einsum": lambda x: ops.einsum("bij,bkj->bik", x, x * x),
            "tensordot": lambda x: ops.tensordot(x, normal(6, 3), 1),
            "outer": lambda x: ops.expand_dims(x, -1) * ops.expand_dims(x, -2),
        },
    ),
    "images": lambda: (
        (6, 6, 3),
        {
            "conv": lambda x: ops.conv(x, normal(3, 3, 3, 4), strides=2, padding="same"),
            "pools": lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2, padding="same"),
            "gray": ops.image.rgb_to_grayscale,
            "patches": lambda x: ops.image.extract_patches(x, 2),
            "resize": lambda x: ops.image.resize(x, (7, 5)),
            "nearest": lambda x: ops.image.resize(x, (7, 5), interpolation="nearest"),
            "cubic": lambda x: ops.image.resize(x, (13, 4), interpolation="bicubic"),
            "lanczos": lambda x: ops.image.resize(x, (3, 9), interpolation="lanczos5", antialias=True),
            "cut": lambda x: ops.image.crop_images(x, 1, 1, 1, 1),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_kerass(case, tmp_path):
    assert_converts(branches(*case()), tmp_path)


def network(function):
    x = keras.Input((4, 6), name="x")
    value = L.Dense(6, name="before")(x)
    return fill(keras.Model(x, L.Dense(2, name="end")(L.Flatten(name="flat")(function(value)))))


REFUSALS = {
    "no translation": (lambda x: ops.slice_update(x, (0, 0, 0), x[:1, :1, :1]), ["XlaDynamicUpdateSlice"]),
    "not this way": (lambda x: ops.rfft(x)[0], ["RFFT", "Real"]),
    "in a layer": (
        L.Lambda(lambda x: ops.one_hot(ops.argmax(x, axis=1), 4), name="choice", output_shape=(6, 4)),
        ["Bitcast", "choice"],
    ),
}


@pytest.mark.parametrize(("function", "words"), REFUSALS.values(), ids=REFUSALS)
def test_operators_that_onnx_has_not(function, words, tmp_path):
    with pytest.raises(UnsupportedOperatorError) as refusal:
        ov.convert(network(function), tmp_path / "net.onnx")
    assert all(word in str(refusal.value) for word in [*words, "get_layer"]), refusal.value
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_gradient_is_found(tmp_path):
    model = network(lambda x: x + ops.stop_gradient(x * x))
    with pytest.raises(CheckFailedError, match=r"layer 'flat'.*'before'.*gradient=False"):
        ov.convert(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
    ov.convert(model, tmp_path / "net.onnx", gradient=False, quiet=True)
