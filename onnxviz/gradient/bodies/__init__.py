"""Bodies of the training operators in stock ONNX operators, generic in float type. One output each.

The first input is always dy; what else a gradient reads (x or y) follows ONNX Runtime's schemas in ``com.microsoft``.
"""

from onnxviz.gradient.bodies import activation, convolution, pool, recurrent, sample

__all__ = ["activation", "convolution", "pool", "recurrent", "sample"]
