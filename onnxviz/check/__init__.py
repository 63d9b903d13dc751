"""The check that ends every conversion."""

from onnxviz.check.against_source import Check, logits_cotangent
from onnxviz.check.difference import Difference, largest_difference
from onnxviz.check.digests import Verification, verify
from onnxviz.check.draws import drawn, recipe

__all__ = [
    "Check", "Difference", "Verification", "drawn", "largest_difference", "logits_cotangent", "recipe", "verify",
]  # fmt: skip
