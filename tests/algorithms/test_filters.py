from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import LayerError
from tests.support import model_of, nhwc, normal


def converted(model, x, path):
    return ov.load(ov.convert(model.eval(), path, example=torch.tensor(x), quiet=True), providers="cpu")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3), (1, 4, 9)),
        (nn.Conv2d(4, 6, (3, 2), groups=2), (1, 4, 9, 8)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), (1, 4, 9, 8)),
        (nn.Conv3d(2, 5, (3, 1, 2)), (1, 2, 5, 6, 7)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2), (1, 4, 9)),
        (nn.ConvTranspose2d(4, 6, 3), (1, 4, 9, 8)),
        (nn.Linear(4, 6), (1, 4)),
        (nn.Linear(4, 6, bias=False), (1, 4)),
        (nn.Linear(4, 6), (1, 3, 4)),
    ],
    ids=str,
)
def test_kernels_are_pytorch_s_weights(tmp_path, layer, shape):
    with converted(nn.Sequential(layer, nn.ReLU()), normal(*shape), tmp_path / "net.onnx") as ex:
        kernels = ex.filters("0")
        assert kernels.dtype == np.float32
        np.testing.assert_array_equal(kernels, layer.weight.detach().numpy())


def test_a_layer_after_a_convolution_has_no_kernels(cnn):
    with pytest.raises(LayerError, match=r"'features.1' \(ReLU, computed by Relu\).*features.0, features.2, .*head"):
        cnn.explainer.filters("features.1")


@pytest.mark.parametrize("name", ["features.0", "features.2"])
def test_each_layer_has_its_own(cnn, name):
    np.testing.assert_array_equal(cnn.explainer.filters(name), cnn.model.get_submodule(name).weight.detach().numpy())


def test_batch_norm_pooling_and_products_of_two_values_have_none(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2))
    with converted(model, normal(2, 3, 9, 9), tmp_path / "net.onnx") as ex:
        for layer in ("1", "2"):
            with pytest.raises(LayerError, match="those that are: 0"):
                ex.filters(layer)
    product = model_of("t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul(x, t)", "float[N, 3, 4] x", "float[N, 3, 3] y")
    path = ov.convert(product, tmp_path / "product.onnx", example=normal(2, 3, 4), quiet=True)
    with ov.load(path, providers="cpu") as ex, pytest.raises(LayerError, match="those that are: none"):
        ex.filters(0)


def test_channels_last_files_store_the_same_kernels(tmp_path):
    model, weights = nhwc()
    path = ov.convert(model, tmp_path / "nhwc.onnx", example=np.zeros((1, 9, 11, 3), np.float32), quiet=True)
    with ov.load(path, providers="cpu") as ex:
        (conv,) = [t.name for t in ex.layers if t.operator == "Conv"]
        np.testing.assert_array_equal(ex.filters(conv), weights["w"])


def test_weights_that_are_computed_of_weights(tmp_path):
    weights = {"w": normal(4, 3, 3, 3), "two": np.array(2, np.float32)}
    model = model_of("v = Mul(w, two)  y = Conv(x, v)", "float[N, 3, 8, 8] x", "float[N, 4, 6, 6] y", weights)
    with ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex:
        np.testing.assert_array_equal(ex.filters(0), 2 * weights["w"])


def test_keras_layers_with_bias_and_activation(tmp_path):
    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    # isort: split
    from keras import Input, Sequential, layers, utils

    utils.set_random_seed(0)
    model = Sequential([
        Input((12, 2)),
        layers.Conv1D(4, 3, activation="tanh", name="first"),
        layers.SeparableConv1D(5, 3, name="separable"),
        layers.GlobalAveragePooling1D(name="pool"),
        layers.Dense(6, activation="gelu", name="dense"),
        layers.Dense(3, activation="softmax", name="head"),
    ])  # fmt: skip
    with ov.load(ov.convert(model, tmp_path / "keras.onnx", quiet=True), providers="cpu") as ex:
        first = model.get_layer("first").get_weights()[0]
        np.testing.assert_array_equal(ex.filters("first"), first.transpose(2, 1, 0))
        pointwise = model.get_layer("separable").get_weights()[1]
        np.testing.assert_array_equal(ex.filters("separable"), pointwise.transpose(2, 1, 0))
        for name in ("dense", "head"):
            np.testing.assert_array_equal(ex.filters(name), model.get_layer(name).get_weights()[0].T)
        with pytest.raises(LayerError, match="those that are: first, separable, dense, head"):
            ex.filters("pool")
