"""The gradient graph: rules per operator, the backward pass, and the operators that it is written in."""

from onnxviz.gradient import bodies, rules

__all__ = ["bodies", "rules"]
