"""Operators that opset 18 lacks: ONNX Runtime's fusions, and newer ones that the specification has in words only."""

from onnxviz.graph.decompositions import activation, attention, linear, newer, normalisation, quantised
from onnxviz.graph.decompositions.registry import (
    DECOMPOSITIONS,
    annotate,
    decompose,
    decomposition,
    foreign,
    refuse_layouts,
    set_aside,
)

__all__ = [
    "DECOMPOSITIONS", "activation", "annotate", "attention", "decompose", "decomposition", "foreign", "linear", "newer",
    "normalisation", "quantised", "refuse_layouts", "set_aside",
]  # fmt: skip
