"""How torch's exporter is to write what it writes inexactly, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op


def log_sigmoid(self: Any) -> Any:
    """−log(1 + exp(−x)); torch's exporter writes log(σ(x)), which is −∞ where σ is rounded to 0 (from x = −18 on)."""
    return op.Neg(op.Softplus(op.Neg(self)))


def rrelu(
    self: Any,
    noise: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    generator: None = None,
) -> Any:
    """RReLU outside of training: a LeakyReLU with the mean slope. The noise, which nobody reads, is passed on."""
    del training, generator
    return op.LeakyRelu(self, alpha=(lower + upper) / 2), op.Identity(noise)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.log_sigmoid.default: log_sigmoid,
    torch.ops.aten.rrelu_with_noise_functional.default: rrelu,
}
"""Operator of torch → function that writes it at opset 18."""
