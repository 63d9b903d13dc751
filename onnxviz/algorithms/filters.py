"""The kernels that a layer has learned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from onnxviz.algorithms.nodes import MOVES, computed_by, constant
from onnxviz.engine.core import Engine
from onnxviz.engine.layers import LayerTable
from onnxviz.errors import LayerError
from onnxviz.manifest import Layer
from onnxviz.source import Array

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("Gemm", "MatMul")
_AFTER = MOVES | {
    "Add", "Sub", "Mul", "Div", "BatchNormalization", "Clip", "Elu", "Celu", "Selu", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "LogSoftmax", "Max", "Min", "Mish", "PRelu", "Relu", "Sigmoid", "Softmax", "Softplus", "Softsign",
    "Tanh", "ThresholdedRelu", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
"""What a framework's layer may do after its product: bias, its activation."""


def filters(engine: Engine, layer: str | int) -> npt.NDArray[np.float32]:
    """See :meth:`onnxviz.Explainer.filters`."""
    table = LayerTable(engine.bundle.manifest.layers)
    chosen = table[layer]
    kernels = _kernels(engine, chosen)
    if kernels is None:
        having = [t.name for t in table if _kernels(engine, t) is not None]
        raise LayerError(
            f"layer {chosen.name!r} ({chosen.type}, computed by {chosen.operator}) is no convolution and no dense "
            f"layer with weights of its own; those that are: {', '.join(having) or 'none'}"
        )
    return np.ascontiguousarray(kernels, np.float32)


def _kernels(engine: Engine, layer: Layer) -> Array | None:
    """The weights of the convolution or matrix product of this layer, not of one before it."""
    others = {t.value for t in engine.bundle.manifest.layers if t.value != layer.value}
    node = computed_by(engine.graph, layer.value, (*CONVOLUTIONS, *PRODUCTS), _AFTER, others)
    kernels = None if node is None else _weights(engine, node)
    if node is None or kernels is None or node.op_type not in CONVOLUTIONS:
        return kernels
    rank = len(layer.axes.spatial)
    while 0 < rank < kernels.ndim - 2 and 1 in kernels.shape[2:]:  # one dimension computed as two
        kernels = kernels.squeeze(2 + kernels.shape[2:].index(1))
    return kernels


def _weights(engine: Engine, node: onnx.NodeProto) -> Array | None:
    if node.op_type in CONVOLUTIONS:
        return constant(engine, node.input[1])
    stored = constant(engine, node.input[1])
    if stored is None or stored.ndim != 2:
        return None
    by_unit = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return stored if by_unit else stored.T
