"""Activations as exporters write them, with several nodes."""

from onnxviz.graph.spellings import piecewise, smooth
from onnxviz.graph.spellings.registry import NEGATED, SPELLINGS, Spelling

__all__ = ["NEGATED", "SPELLINGS", "Spelling", "piecewise", "smooth"]
