"""One function per method. Each asks the engine one question and says what the answer means."""

from onnxviz.algorithms.cam import grad_cam
from onnxviz.algorithms.gradients import deconvnet, gradient, guided_backprop, saliency
from onnxviz.algorithms.registry import METHODS, Method, explain_by_name, methods

__all__ = [
    "METHODS", "Method", "deconvnet", "explain_by_name", "grad_cam", "gradient", "guided_backprop", "methods",
    "saliency",
]  # fmt: skip
