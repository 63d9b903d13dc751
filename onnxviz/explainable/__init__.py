"""From a source's forward graph to the explainable graph: layers named, gradient appended, manifest written.

``assembly`` leads; ``heads`` finds where gradients start, ``appending`` appends the backward pass, ``reasons`` says why
something has no gradient, and ``description`` what the manifest says of inputs, outputs and layers.
"""

from onnxviz.explainable.appending import GradientChoice
from onnxviz.explainable.assembly import explain

__all__ = ["GradientChoice", "explain"]
