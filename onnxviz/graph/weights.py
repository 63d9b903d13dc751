"""The large initializers of a model, set aside while the rest is turned into a protobuf message."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from onnxviz.wire import SMALL


def skeleton_and_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model without its large initializers, and these by name; none of them is copied."""
    graph = model.graph
    large = {
        name: value
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > SMALL
    }
    for name in large:
        del graph.initializers[name]
    try:
        skeleton = ir.to_proto(model)
    finally:
        for value in large.values():
            graph.register_initializer(value)
    return skeleton, {name: value.const_value for name, value in large.items() if value.const_value is not None}
