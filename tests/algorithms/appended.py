"""What functions that append nodes to a graph compute, without the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


def appended(build: Callable, **feeds: np.ndarray) -> list[np.ndarray]:
    """The values that ``build`` names, given how a node is added; the feeds are values by name."""
    nodes, constants = [], []

    def add(op_type, *inputs, **attributes):
        names = []
        for value in inputs:
            if not isinstance(value, str):
                constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(constants)}"))
                value = constants[-1].name  # noqa: PLW2901
            names.append(value)
        nodes.append(helper.make_node(op_type, names, [f"n{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    results = build(add)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), None) for name, x in feeds.items()
    ]
    results = [results] if isinstance(results, str) else results
    kept = [add("Identity", name) for name in results]
    graph = helper.make_graph(nodes, "appended", inputs, [onnx.ValueInfoProto(name=name) for name in kept], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)
