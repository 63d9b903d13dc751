"""Activations in ONNX and in PyTorch, and the policy of guided backprop and deconvnet as an autograd function."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from tests.support import normal


@dataclass(frozen=True)
class Act:
    """An activation: its nodes from ``{x}`` to ``{y}`` in ONNX, what PyTorch computes, its gradient's operator."""

    nodes: str
    torch: object
    gradient: str
    constants: dict[str, np.ndarray] = field(default_factory=dict)


ZERO = np.float32(0)
SLOPE = np.abs(normal(6, 1, 1, seed=7)) * 0.3
HALF, ONE, ROOT = np.float32(0.5), np.float32(1), np.float32(2**0.5)
ERF = (
    "{y}_s = Div({x}, root)  {y}_e = Erf({y}_s)  {y}_f = Add({y}_e, one)  "
    "{y}_g = Mul({x}, {y}_f)  {y} = Mul({y}_g, half)"
)
TANH = (
    "{y}_c = Pow({x}, three)  {y}_d = Mul({y}_c, k)  {y}_e = Add({x}, {y}_d)  {y}_f = Mul({y}_e, width)  "
    "{y}_t = Tanh({y}_f)  {y}_u = Add({y}_t, one)  {y}_h = Mul({x}, half)  {y} = Mul({y}_h, {y}_u)"
)
TANH_CONSTANTS = {
    "three": np.float32(3), "k": np.float32(0.044715), "width": np.float32((2 / np.pi) ** 0.5), "one": ONE, "half": HALF
}  # fmt: skip

RECTIFIERS = {
    "Relu": Act("{y} = Relu({x})", F.relu, "ReluGrad"),
    "ReLU6": Act("{y} = Clip({x}, low, high)", F.relu6, "ClipGrad", {"low": ZERO, "high": np.float32(6)}),
    "Clip from 0": Act("{y} = Clip({x}, low)", F.relu, "ClipGrad", {"low": ZERO}),
    "Clip from 0 to 0.4": Act(
        "{y} = Clip({x}, low, high)",
        lambda x: F.hardtanh(x, 0, 0.4),
        "ClipGrad",
        {"low": ZERO, "high": np.float32(0.4)},
    ),
    "LeakyRelu": Act("{y} = LeakyRelu<alpha = 0.1>({x})", lambda x: F.leaky_relu(x, 0.1), "LeakyReluGrad"),
    "falling LeakyRelu": Act("{y} = LeakyRelu<alpha = -0.2>({x})", lambda x: F.leaky_relu(x, -0.2), "PReluGrad"),
    "PRelu": Act(
        "{y} = PRelu({x}, slope)", lambda x: F.prelu(x, torch.tensor(SLOPE).flatten()), "PReluGrad", {"slope": SLOPE}
    ),
    "Clip from 0 to 0.4 in two nodes": Act(
        "{y}_a = Min({x}, high)  {y} = Max({y}_a, low)",
        lambda x: x.clamp(0, 0.4),
        "ClampGrad",
        {"low": ZERO, "high": np.float32(0.4)},
    ),
    "ThresholdedRelu": Act(
        "{y} = ThresholdedRelu<alpha = 0.3>({x})", lambda x: F.threshold(x, 0.3, 0.0), "ThresholdedReluGrad"
    ),
    "sloped Relu": Act(
        "{y}_a = Relu({x})  {y}_b = Neg({x})  {y}_c = Relu({y}_b)  {y}_d = Mul({y}_c, tenth)  {y} = Sub({y}_a, {y}_d)",
        lambda x: F.leaky_relu(x, 0.1),
        "SlopedReluGrad",
        {"tenth": np.float32(0.1)},
    ),
    "Elu in four nodes": Act(
        "{y}_e = Elu({x})  {y}_g = Greater({x}, zero)  {y}_t = Mul({y}_e, half)  {y} = Where({y}_g, {y}_e, {y}_t)",
        lambda x: F.elu(x, 0.5),
        "EluGrad",
        {"zero": ZERO, "half": HALF},
    ),
    "Elu": Act("{y} = Elu<alpha = 0.7>({x})", lambda x: F.elu(x, 0.7), "EluGrad"),
    "Selu": Act("{y} = Selu({x})", F.selu, "SeluGrad"),
    "Celu": Act("{y} = Celu<alpha = 0.6>({x})", lambda x: F.celu(x, 0.6), "CeluGrad"),
    "SiLU": Act("{y}_s = Sigmoid({x})  {y} = Mul({x}, {y}_s)", F.silu, "QuickGeluGrad"),
    "QuickGelu": Act(
        "{y}_q = Mul({x}, slope)  {y}_s = Sigmoid({y}_q)  {y} = Mul({x}, {y}_s)",
        lambda x: x * torch.sigmoid(1.702 * x),
        "QuickGeluGrad",
        {"slope": np.float32(1.702)},
    ),
    "Gelu": Act(ERF, F.gelu, "GeluGrad", {"root": ROOT, "one": ONE, "half": HALF}),
    "Gelu (tanh)": Act(TANH, lambda x: F.gelu(x, approximate="tanh"), "FastGeluGrad", TANH_CONSTANTS),
    "HardSwish": Act("{y} = HardSwish({x})", F.hardswish, "HardSwishGrad"),
    "Mish": Act("{y} = Mish({x})", F.mish, "MishGrad"),
    "Softplus": Act("{y} = Softplus({x})", F.softplus, "SoftplusGrad"),
    "Softplus with threshold": Act(
        "{y}_s = Mul({x}, beta)  {y}_g = Greater({y}_s, root)  {y}_p = Softplus({y}_s)  {y}_q = Div({y}_p, beta)  "
        "{y} = Where({y}_g, {x}, {y}_q)",
        lambda x: F.softplus(x, 2.0, float(ROOT)),
        "SoftplusGrad",
        {"beta": np.float32(2), "root": ROOT},
    ),
    "Squareplus": Act(
        "{y}_s = Mul({x}, {x})  {y}_a = Add({y}_s, four)  {y}_r = Sqrt({y}_a)  {y}_t = Add({x}, {y}_r)  "
        "{y} = Div({y}_t, two)",
        lambda x: (x + torch.sqrt(x * x + 4)) / 2,
        "SquareplusGrad",
        {"four": np.float32(4), "two": np.float32(2)},
    ),
}

OTHERS = {
    "Sigmoid": Act("{y} = Sigmoid({x})", torch.sigmoid, "SigmoidGrad"),
    "HardSigmoid": Act("{y} = HardSigmoid<alpha = 0.25>({x})", lambda x: (x / 4 + 0.5).clamp(0, 1), "HardSigmoidGrad"),
    "Tanh": Act("{y} = Tanh({x})", torch.tanh, "TanhGrad"),
    "Softsign": Act("{y} = Softsign({x})", F.softsign, "SoftsignGrad"),
    "LogSigmoid": Act("{y}_s = Sigmoid({x})  {y} = Log({y}_s)", F.logsigmoid, "LogSigmoidGrad"),
    "Softmax": Act("{y} = Softmax<axis = 1>({x})", lambda x: F.softmax(x, 1), "SoftmaxGrad_13"),
    "LogSoftmax": Act("{y} = LogSoftmax<axis = 1>({x})", lambda x: F.log_softmax(x, 1), "LogSoftmaxGrad_13"),
    "Shrink": Act("{y} = Shrink<lambd = 0.3, bias = 0.3>({x})", lambda x: F.softshrink(x, 0.3), "ShrinkGrad"),
    "Clip": Act("{y} = Clip({x}, low, high)", F.hardtanh, "ClipGrad", {"low": np.float32(-1), "high": ONE}),
}
BENDS = {
    "Abs": ("{y} = Abs({x})", torch.abs, {}),
    "Atan": ("{y} = Atan({x})", torch.atan, {}),
    "Erf": ("{y} = Erf({x})", torch.erf, {}),
    "Exp": ("{y} = Exp({x})", torch.exp, {}),
    "Sin": ("{y} = Sin({x})", torch.sin, {}),
    "Max": ("{y}_n = Neg({x})  {y} = Max({x}, {y}_n)", torch.abs, {}),
    "Where": (
        "{y}_g = Greater({x}, low)  {y}_s = Mul({x}, {x})  {y} = Where({y}_g, {x}, {y}_s)",
        lambda x: torch.where(x > 0, x, x * x),
        {"low": ZERO},
    ),
}
"""Activations whose gradient is no node of its own: name of the operator that bends → nodes, PyTorch's, constants."""


class Rewritten(torch.autograd.Function):
    """An activation with the backward pass of a method: the policy, written independently."""

    @staticmethod
    def forward(ctx, x, function, method):
        ctx.save_for_backward(x)
        ctx.function, ctx.method = function, method
        return function(x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        positive = torch.where(dy > 0, dy, 0)
        if ctx.method == "deconvnet":
            return positive, None, None
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.function(leaf).sum(), leaf)
        return positive * slope, None, None
