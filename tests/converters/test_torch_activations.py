"""Guided backprop and deconvnet rewrite every activation of PyTorch as the policy says, or the result names it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import onnxviz as ov
from tests.engine.activations import Rewritten
from tests.support import assert_close, kept_slopes, normal

RECTIFIERS = {
    "ReLU": (nn.ReLU(), "ReluGrad"),
    "ReLU6": (nn.ReLU6(), "ClipGrad"),
    "Hardtanh from 0": (nn.Hardtanh(0, 1), "ClipGrad"),
    "clamp": (lambda x: x.clamp(min=0), "ClampGrad"),
    "clamp to 1": (lambda x: x.clamp(0, 1), "ClampGrad"),
    "maximum": (lambda x: torch.maximum(x, torch.zeros(())), "ClampGrad"),
    "limited": (lambda x: torch.relu(x).clamp(max=1), "SlopedReluGrad"),
    "Threshold": (nn.Threshold(0.3, 0.0), "ThresholdedReluGrad"),
    "Threshold with a value": (nn.Threshold(0.1, 20.0), "ThresholdedReluGrad"),
    "LeakyReLU": (nn.LeakyReLU(0.1), "LeakyReluGrad"),
    "LeakyReLU by where": (lambda x: torch.where(x > 0, x, 0.1 * x), "LeakyReluGrad"),
    "LeakyReLU by maximum": (lambda x: torch.maximum(x, 0.1 * x), "LeakyReluGrad"),
    "RReLU": (nn.RReLU(0.1, 0.3).eval(), "LeakyReluGrad"),
    "PReLU": (nn.PReLU(6), "PReluGrad"),
    "ELU": (nn.ELU(0.5), "EluGrad"),
    "SELU": (nn.SELU(), "SeluGrad"),
    "CELU": (nn.CELU(0.5), "CeluGrad"),
    "SiLU": (nn.SiLU(), "QuickGeluGrad"),
    "swish": (lambda x: x * torch.sigmoid(1.5 * x), "QuickGeluGrad"),
    "GELU": (nn.GELU(), "GeluGrad"),
    "GELU (tanh)": (nn.GELU("tanh"), "FastGeluGrad"),
    "Hardswish": (nn.Hardswish(), "HardSwishGrad"),
    "Mish": (nn.Mish(), "MishGrad"),
    "Mish by softplus": (lambda x: x * torch.tanh(F.softplus(x)), "MishGrad"),
    "Softplus": (nn.Softplus(), "SoftplusGrad"),
    "Softplus with a low threshold": (nn.Softplus(2.0, 1.0), "SoftplusGrad"),
}
"""Name → activation, the gradient's operator that is rewritten."""

OTHERS = {
    "Hardtanh": (nn.Hardtanh(), "Clip"),
    "Sigmoid": (nn.Sigmoid(), "Sigmoid"),
    "LogSigmoid": (nn.LogSigmoid(), "LogSigmoid"),
    "Hardsigmoid": (nn.Hardsigmoid(), "HardSigmoid"),
    "Tanh": (nn.Tanh(), "Tanh"),
    "Tanhshrink": (nn.Tanhshrink(), "Tanh"),
    "Softsign": (nn.Softsign(), "Softsign"),
    "Softshrink": (nn.Softshrink(0.2), "Shrink"),
    "Hardshrink": (nn.Hardshrink(0.2), "Shrink"),
    "GLU": (lambda x: torch.cat([F.glu(x)] * 2, 1), "Sigmoid"),
    "Softmax": (nn.Softmax(1), "Softmax"),
    "Softmin": (nn.Softmin(1), "Softmax"),
    "LogSoftmax": (nn.LogSoftmax(1), "LogSoftmax"),
    "erf": (torch.erf, "Erf"),
    "sin": (torch.sin, "Sin"),
    "exp": (torch.exp, "Exp"),
    "abs": (torch.abs, "Abs"),
}
"""Name → activation, the name under which the result says that it keeps its derivative."""


class Net(nn.Module):
    """Linear, ReLU, linear, the activation, linear."""

    def __init__(self, activation) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.activation = F.relu, activation

    def forward(self, x):
        return self.head(self.activation(self.second(self.relu(self.first(x)))))


def by_torch(activation, method: str, x: np.ndarray, *, rectifies: bool) -> np.ndarray:
    """The gradient of score 1 with the policy written as an autograd function."""
    net, given = Net(None), torch.tensor(x, requires_grad=True)
    net.relu = lambda x: Rewritten.apply(x, F.relu, method)
    net.activation = (lambda x: Rewritten.apply(x, activation, method)) if rectifies else activation
    net(given)[:, 1].sum().backward()
    return given.grad.numpy()


@pytest.mark.parametrize("name", [*RECTIFIERS, *OTHERS])
def test_every_activation_is_rewritten_or_named(name, tmp_path):
    activation, says = (RECTIFIERS | OTHERS)[name]
    rectifies, x = name in RECTIFIERS, normal(5, 4, seed=2)
    path = ov.convert(Net(activation).eval(), tmp_path / "net.onnx", example=x, quiet=True)
    with ov.load(path, providers="cpu", threads=1) as ex:
        for method in ("guided_backprop", "deconvnet"):
            found = ex.explain(x, method, 1)
            if rectifies:
                assert found.options["rewritten"] == Counter(["ReluGrad", says])
                assert kept_slopes(found) == ()
            else:
                assert found.options["rewritten"] == {"ReluGrad": 1}
                assert kept_slopes(found) == (f"no rectifiers, so with their plain derivative: {says} ×1",)
            assert_close(found, by_torch(activation, method, x, rectifies=rectifies))
        assert ov.coverage(ex).kept == ({} if rectifies else {says: 1})


def test_log_sigmoid_goes_on_where_the_sigmoid_is_0(tmp_path):
    """torch's own export gives −∞ from −18 on, and 1 % less before."""
    model, x = nn.Sequential(nn.Linear(4, 3), nn.LogSigmoid()), 100 * normal(5, 4)
    expected = model(torch.tensor(x)).detach().numpy()
    assert expected.min() < -50
    path = ov.convert(model.eval(), tmp_path / "net.onnx", example=normal(2, 4), quiet=True)
    with ov.load(path, providers="cpu", threads=1) as ex:
        assert_close(ex.predict(x), expected, 1e-6)
