"""Layers and gradients of Keras Applications against Keras; ``pytest -m long`` takes all of them and prints a table."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.bundle import grad_name, read
from onnxviz.engine.core import Engine
from tests.models import keras_networks
from tests.models.comparison import COSINE, EVERYWHERE, agree, assert_values, difference

# isort: split
import tensorflow as tf

SMALL = ("MobileNetV2", "MobileNetV3Small", "ResNet50V2")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_an_application(name, tmp_path):
    assert_application(name, tmp_path / "net.onnx", trials=4)


@pytest.mark.long
@pytest.mark.parametrize("name", keras_networks.APPLICATIONS)
def test_every_application(name, tmp_path, capsys):
    started = time.perf_counter()
    layers, worst, found = assert_application(name, tmp_path / "net.onnx", trials=8)
    columns = zip(*found, strict=True)
    largest, median, cosine = (pick(column) for pick, column in zip((min, max, min), columns, strict=True))
    with capsys.disabled():
        print(  # noqa: T201 - the table
            f"\n{name:18} {layers:4} layers, values within {worst:.1e}; gradient: best {largest:.1e}, median "
            f"{median:.1e}, cosine {cosine:.6f}; {time.perf_counter() - started:.0f} s"
        )


def assert_application(name, path, *, trials):
    """Every layer's value, the gradient of the input, and of a layer in the middle."""
    model = keras_networks.build(name)
    ov.convert(model, path, quiet=True)
    with ov.load(path, providers="cpu") as explainer:
        x = keras_networks.inputs(model, 3, seed=1)
        expected, worst = keras_networks.values(model, x), 0.0
        values = explainer.features(x)
        assert set(expected) <= set(values)
        for layer, value in expected.items():
            assert_values(values[layer], value, layer)
            worst = max(worst, float(np.abs(values[layer] - value).max() / np.abs(value).max()))
        pattern = keras_networks.APPLICATIONS[name].blocks
        blocks = [layer.name for layer in explainer.layers if re.fullmatch(pattern, layer.name)]
        found = assert_gradients(model, explainer, path, blocks, trials)
        return len(explainer.layers), worst, found


def assert_gradients(model, explainer, path, blocks, trials):
    """Everywhere for one sample at least; where a late kink hides whether the others are right, the blocks tell."""
    assert len(blocks) > 2
    x, middle = keras_networks.inputs(model, trials, seed=2), blocks[len(blocks) // 2]
    classes = explainer.outputs[0].logits_shape[-1]
    weights = np.random.default_rng(4).standard_normal((trials, classes)).astype(np.float32)
    of_input, of_middle = keras_networks.gradients(model, x, weights, [middle])
    found = [difference(*pair) for pair in zip(explainer.gradient(x, weights).values, of_input, strict=True)]
    inner = explainer.gradient(x, weights, layer=middle).values
    assert min(difference(*pair)[0] for pair in zip(inner, of_middle, strict=True)) <= EVERYWHERE
    assert min(cosine for _, _, cosine in found) >= COSINE, found
    if not agree(found):
        assert_blocks(model, path, x[:3], blocks)
    return found


def assert_blocks(model, path, x, blocks):
    """The derivative of each block with respect to the one before it, at Keras's values of that, is Keras's."""
    with tf.GradientTape(persistent=True) as tape:
        given = tf.constant(x)
        tape.watch(given)
        kept = keras_networks.part(model, blocks)(given, training=False)
    bundle = read(path)
    engine, names = Engine(bundle, providers="cpu"), {layer.name: layer.value for layer in bundle.manifest.layers}
    for before, block in pairwise(blocks):
        cotangent = np.random.default_rng(4).standard_normal(kept[block].shape).astype(np.float32)
        expected = tape.gradient(kept[block], kept[before], output_gradients=tf.constant(cotangent))
        feeds = {bundle.manifest.inputs[0].name: x, names[before]: kept[before].numpy()}
        (got,) = engine.linear(feeds, {grad_name(names[block]): cotangent}, [names[before]]).values()
        found = [difference(*pair)[0] for pair in zip(got, expected.numpy(), strict=True)]
        assert min(found) <= EVERYWHERE, (block, found)
    engine.close()
