"""TensorFlow operators that tf2onnx has no translation for, a wrong one, or one without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from tf2onnx import utils
from tf2onnx.onnx_opset.controlflow import Select
from tf2onnx.onnx_opset.nn import ConvOp, ConvTranspose

from onnxviz_keras import recurrent
from onnxviz_keras.resizing import OPERATORS, resize


def erfc(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """1 minus the error function, in ``keras.activations.gelu``."""
    node.type = "Erf"
    negated = graph.insert_new_node_on_output("Neg", node.output[0])
    graph.insert_new_node_on_output("Add", negated.output[0], inputs=[negated.output[0], _one(graph, node)])


def expm1(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """The exponential minus 1, in ``keras.activations.celu``."""
    node.type = "Exp"
    graph.insert_new_node_on_output("Sub", node.output[0], inputs=[node.output[0], _one(graph, node)])


def log1p(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """The logarithm of 1 + x."""
    node.type = "Log"
    added = graph.make_node("Add", [node.input[0], _one(graph, node)])
    graph.replace_input(node, node.input[0], added.output[0], 0)


def grouped_conv3d(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """A convolution over volumes, of which tf2onnx knows that of one group only."""
    axis = 1 if node.get_attr_str("data_format") == "NCDHW" else -1
    groups = graph.get_shape(node.input[0])[axis] // graph.get_shape(node.input[1])[-2]
    ConvOp.version_13(graph, node)
    node.set_attr("group", groups)


def conv_transpose(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """A transposed convolution; where it is larger than its kernel reaches, tf2onnx pads by a negative number."""
    ConvTranspose.version_1(graph, node)
    pads = node.get_attr_value("pads", [])
    if any(pad < 0 for pad in pads):
        rank = len(pads) // 2
        before, after = np.array(pads[:rank]), np.array(pads[rank:])
        missing = np.minimum(before + after, 0)
        node.set_attr("output_padding", (-missing).tolist())
        node.set_attr("pads", [*np.where(missing < 0, 0, before).tolist(), *np.where(missing < 0, 0, after).tolist()])


def bucketize(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """How many boundaries a number has reached, in ``keras.layers.Discretization``."""
    (output,), shape, dtype = node.output, graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    last = graph.make_const(utils.make_name("last"), np.array([-1]))
    numbers = graph.make_node("Cast", [node.input[0]], {"to": TensorProto.FLOAT})
    column = graph.make_node("Unsqueeze", [numbers.output[0], last.output[0]])
    limits = graph.make_const(utils.make_name("boundaries"), boundaries)
    reached = graph.make_node("GreaterOrEqual", [column.output[0], limits.output[0]])
    counted = graph.make_node("Cast", reached.output, {"to": dtype})
    graph.remove_node(node.name)
    operands = [counted.output[0], last.output[0]]
    graph.make_node(
        "ReduceSum", operands, {"keepdims": 0}, name=node.name, outputs=[output], shapes=[shape], dtypes=[dtype]
    )


def reverse(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """From the last to the first along some axes: one Slice with steps of −1, not a ReverseSequence for each axis."""
    axes = np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).astype(np.int64)
    step = np.full_like(axes, -1)
    node.type = "Slice"
    bounds = (step, step * np.iinfo(np.int64).max, axes, step)
    constants = [graph.make_const(utils.make_name("reversed"), bound).output[0] for bound in bounds]
    graph.replace_inputs(node, [node.input[0], *constants])


def where(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """x where the condition holds, else y; tf2onnx writes a sum of products with 0 and 1, which is NaN where the other
    is infinite.
    """
    if graph.get_dtype(node.output[0]) == TensorProto.BOOL:
        Select.version_7(graph, node)  # onnxruntime has no Where of booleans
    else:
        node.type = "Where"


def _one(graph: Any, node: Any) -> str:
    dtype = utils.map_onnx_to_numpy_type(graph.get_dtype(node.output[0]))
    name: str = graph.make_const(utils.make_name("one"), np.array(1, dtype)).output[0]
    return name


Handler = Callable[[Any, Any, str, Any], None]

HANDLERS: dict[str, tuple[Handler, list[Any]]] = {
    "Bucketize": (bucketize, []),
    "Conv2DBackpropInput": (conv_transpose, []),
    "Conv3D": (grouped_conv3d, []),
    "Conv3DBackpropInputV2": (conv_transpose, []),
    "Erfc": (erfc, []),
    "Expm1": (expm1, []),
    "Log1p": (log1p, []),
    "ReverseV2": (reverse, []),
    "SelectV2": (where, []),
    recurrent.STAND_IN: (recurrent.written, []),
    **dict.fromkeys(OPERATORS, (resize, [])),
}
"""Operator → handler and its arguments, as ``tf2onnx`` takes them."""
