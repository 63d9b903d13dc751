"""Activations that ONNX Runtime writes as one node, spelled as exporters do, so that they are recognised again."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxviz.gradient.tape import Ops
from onnxviz.graph.decompositions.registry import NotDecomposed, decomposition
from onnxviz.graph.spellings import smooth

_FORMED = {
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"), ()),
    **dict.fromkeys(("Elu", "LeakyRelu", "ThresholdedRelu"), ("alpha",)),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}
"""Activations that fusions apply → the names of the numbers that form them, in the order of ``activation_params``."""


def activated(op: Ops, y: ir.Value, activation: str, numbers: Sequence[float | None]) -> ir.Value:
    """What a fused activation makes of y; a number that is None has the operator's default."""
    if not activation:
        return y
    if activation == "Clip":
        bounds = [op.number(float(bound), y) for bound in numbers if bound is not None]
        return op.Clip(y, *bounds)
    if activation not in _FORMED:
        raise NotDecomposed(f"applies the activation {activation!r}, which is not known")
    return op.emit(activation, [y], dict(zip(_FORMED[activation], numbers, strict=False)))[0]


def shaping(activation: str, **numbers: float | None) -> list[float | None]:
    """The numbers that form an activation, out of those given by name."""
    return [numbers[name] for name in _FORMED.get(activation, ())]


@decomposition("Gelu")
def gelu(op: Ops, x: ir.Value) -> ir.Value:
    """By erf."""
    return smooth.gelu_half_first(op, x)


@decomposition("BiasGelu")
def bias_gelu(op: Ops, x: ir.Value, bias: ir.Value) -> ir.Value:
    """Gelu(x + bias)."""
    return smooth.gelu_half_first(op, op.Add(x, bias))


@decomposition("FastGelu")
def fast_gelu(op: Ops, x: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """By tanh, of x or x + bias."""
    return smooth.fast_gelu_half_first(op, x if bias is None else op.Add(x, bias))


@decomposition("QuickGelu")
def quick_gelu(op: Ops, x: ir.Value, *, alpha: float = 1.702) -> ir.Value:
    """x·σ(alpha·x), which is SiLU for alpha = 1."""
    return smooth.silu(op, x) if alpha == 1 else smooth.quick_gelu(op, x, alpha=alpha)
