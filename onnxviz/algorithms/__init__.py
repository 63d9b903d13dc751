"""One function per method. Each asks the engine one question and says what the answer means."""

from onnxviz.algorithms.cam import grad_cam, grad_cam_pp, guided_grad_cam, hires_cam, layer_cam, xgrad_cam
from onnxviz.algorithms.gradients import deconvnet, gradient, guided_backprop, input_x_gradient, saliency
from onnxviz.algorithms.perturbation import eigen_cam, occlusion, rise, score_cam
from onnxviz.algorithms.registry import METHODS, Method, explain_by_name, methods
from onnxviz.algorithms.sampling import integrated_gradients, smooth_grad

__all__ = [
    "METHODS", "Method", "deconvnet", "eigen_cam", "explain_by_name", "grad_cam", "grad_cam_pp", "gradient",
    "guided_backprop", "guided_grad_cam", "hires_cam", "input_x_gradient", "integrated_gradients", "layer_cam",
    "methods", "occlusion", "rise", "saliency", "score_cam", "smooth_grad", "xgrad_cam",
]  # fmt: skip
