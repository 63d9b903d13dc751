"""Quantised numbers of 16, 8 and 4 bits: as onnxruntime's tool writes them, and node by node against PyTorch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import onnxviz as ov
from onnxviz.errors import CheckFailedError, UnsupportedOperatorError
from onnxviz.gradient import registry
from tests.support import assert_close, normal
from tests.test_precision import IMAGE, by_torch, network

SYMMETRIC = {"ActivationSymmetric": True}
SIXTEEN = {"activation_type": QuantType.QInt16, "weight_type": QuantType.QInt16}
WRITTEN = {
    "uint16": (0.98, {"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt8}),
    "int16": (0.9999, SIXTEEN),
    "int16 per channel": (0.9999, SIXTEEN | {"per_channel": True}),
    "onnxruntime's operators": (0.9999, SIXTEEN | {"extra_options": SYMMETRIC | {"UseQDQContribOps": True}}),
    "weights of 4 bits": (0.9, {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt4}),
    "asymmetric weights": (0.98, {"weight_type": QuantType.QInt8, "extra_options": {"WeightSymmetric": False}}),
}
"""Name → least cosine between the gradient and that of the network before, options of quantize_static."""

FORGETFUL = registry.Rule(lambda op, dy, y, *_, axis=1: dy, frozenset({"axis"}), broadcast=False, multiple=False)
"""A quantiser's gradient that forgets the scale."""


def quantised(path: Path, **options) -> Path:
    """A small network, quantised by onnxruntime's own tool."""

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.pictures = iter([{"x": normal(2, 3, 10, 10, seed=seed)} for seed in range(4)])

        def get_next(self):
            return next(self.pictures, None)

    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "batch"}}}
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network(), (torch.from_numpy(IMAGE),), path, dynamo=False, opset_version=13, **names)
        quantize_static(path, path.with_name("quantised.onnx"), Reader(), **options)
    logging.disable(logging.NOTSET)
    return path.with_name("quantised.onnx")


@pytest.mark.parametrize("per_channel", [False, True])
def test_gradients_pass_straight_through_quantisers(per_channel, tmp_path, capsys):
    path = quantised(tmp_path / "net.onnx", quant_format=QuantFormat.QDQ, per_channel=per_channel)
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)
    ov.convert(path, tmp_path / "explained.onnx", example=IMAGE)
    assert "gradients pass straight through the rounding" in capsys.readouterr().out
    with ov.load(tmp_path / "explained.onnx", providers="cpu") as ex:
        assert "gradients pass straight through the rounding" in " ".join(ex.saliency(IMAGE, 1).notes)
        assert ex.residuals["gradient"]["by"].endswith("rounding left out")
        assert max(ex.residuals["layers"].values()) <= 1e-4
        got = ex.gradient(IMAGE, target=1).values.ravel()
    expected = by_torch(network(), IMAGE).ravel()
    assert got @ expected > 0.95 * np.linalg.norm(got) * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", WRITTEN)
def test_files_of_onnxruntime_s_tool(kind, tmp_path):
    least, options = WRITTEN[kind]
    path = quantised(tmp_path / "net.onnx", quant_format=QuantFormat.QDQ, **options)
    ov.convert(path, tmp_path / "explained.onnx", example=IMAGE, quiet=True)
    with ov.load(tmp_path / "explained.onnx", providers="cpu") as ex:
        assert ex.residuals["gradient"]["by"].endswith("rounding left out")
        assert max(ex.residuals["layers"].values()) <= 1e-4
        got = ex.gradient(IMAGE, target=1).values.ravel()
    expected = by_torch(network(), IMAGE).ravel()
    assert got @ expected > least * np.linalg.norm(got) * np.linalg.norm(expected)


def test_a_wrong_quantisation_rule_would_be_found(tmp_path, monkeypatch):
    """The check of quantised files tells a right rule from one that forgets the scale."""
    path = quantised(tmp_path / "net.onnx", quant_format=QuantFormat.QDQ)
    monkeypatch.setitem(registry.VJPS, ("", "QuantizeLinear"), FORGETFUL)
    with pytest.raises(CheckFailedError):
        ov.convert(path, tmp_path / "explained.onnx", example=IMAGE)


def test_a_wrong_rule_for_16_bits_would_be_found(tmp_path, monkeypatch):
    path = quantised(tmp_path / "net.onnx", quant_format=QuantFormat.QDQ, **SIXTEEN)
    monkeypatch.setitem(registry.VJPS, ("com.microsoft", "QuantizeLinear"), FORGETFUL)
    with pytest.raises(CheckFailedError):
        ov.convert(path, tmp_path / "explained.onnx", example=IMAGE, quiet=True)


def pair(dtype: type, zero, scale, *, domain: str = "com.microsoft", opset: int = 17, **attributes) -> onnx.ModelProto:
    """Quantise and dequantise between two linear layers."""
    constants = {
        "w": normal(4, 3),
        "s": np.array(scale, np.float32),
        "z": np.array(zero, dtype),
        "m": normal(3, 2, seed=1),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["q"], domain=domain, **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], domain=domain, **attributes),
        helper.make_node("MatMul", ["d", "m"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", n]) for name, n in (("x", 4), ("y", 2)))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(a, name) for name, a in constants.items()])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


ZERO = {np.int16: -3000, np.uint16: 41000}


@pytest.mark.parametrize("dtype", ZERO)
@pytest.mark.parametrize(("domain", "opset"), [("com.microsoft", 17), ("", 21)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rounding_passes_and_clipping_does_not(dtype, domain, opset, per_channel, tmp_path):
    """A tenth of the values lie outside of the range."""
    limits = np.iinfo(dtype)
    scale, zero = [[3e-5, 6e-5, 2e-5], [ZERO[dtype], 0, 7]] if per_channel else [4e-5, ZERO[dtype]]
    proto = pair(dtype, zero, scale, domain=domain, opset=opset, **({"axis": 1} if per_channel else {}))
    x = normal(50, 4, seed=3) / 2
    given = torch.tensor(x, requires_grad=True)
    step, offset = torch.tensor(scale), torch.tensor(zero)
    level = (given @ torch.tensor(normal(4, 3))) / step
    level = level + (level.round() - level).detach() + offset
    inside = (level.detach() >= limits.min) & (level.detach() <= limits.max)
    assert 0.02 < 1 - inside.float().mean() < 0.6
    y = (torch.where(inside, level, level.detach().clamp(limits.min, limits.max)) - offset) * step
    (y @ torch.tensor(normal(3, 2, seed=1)))[:, 1].sum().backward()
    path = ov.convert(proto, tmp_path / "net.onnx", example=x[:3] / 50, quiet=True)
    with ov.load(path, providers="cpu") as ex:
        assert_close(ex.gradient(x, target=1), given.grad.numpy())


def test_integer_arithmetic_names_the_way_out(tmp_path):
    path = quantised(tmp_path / "net.onnx", quant_format=QuantFormat.QOperator)
    with pytest.raises(UnsupportedOperatorError, match=r"rule for QLinearConv .*quant_format=QuantFormat\.QDQ"):
        ov.convert(path, tmp_path / "explained.onnx", example=IMAGE)
    ov.convert(path, tmp_path / "explained.onnx", example=IMAGE, gradient=False, quiet=True)
    found = ov.coverage(path, example=IMAGE)
    assert "QLinearConv" in {operator.name for operator in found.missing}
    assert not found.complete
