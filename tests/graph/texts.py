"""Models from the signature and body of a graph in ONNX's text form, and what onnxruntime computes with them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import parser


def proto(
    text: str, *, opset: int = 18, ir_version: int = 8, imports: str = "", **weights: np.ndarray
) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}{imports}]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def of_x(
    nodes: str, shape: tuple[int, ...], weights: Mapping[str, np.ndarray], *, opset: int, imports: str = ""
) -> onnx.ModelProto:
    """Nodes from ``x`` to ``y``, whose shape is left open, with those of the weights that they read."""
    sizes = ", ".join(map(str, shape))
    model = proto(f"g (float[{sizes}] x) => (float[?] y) {{ {nodes} }}", opset=opset, imports=imports)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(weights[n], n) for n in sorted(read & set(weights)))
    return model


def parsed(text: str, **weights: np.ndarray) -> ir.Model:
    return ir.from_proto(proto(text, ir_version=10, **weights))


def run(model: ir.Model, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))
