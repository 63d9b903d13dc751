"""bfloat16 graphs widened to float32: ONNX Runtime's CPU has next to no kernels for bfloat16, and numpy no such type.

The weights keep their bfloat16 values; what is computed from them is not rounded to 8 bits after every operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx

_NARROW, _WIDE = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type", "softmax_precision")
"""Attributes that say an element type."""


def widen(proto: onnx.ModelProto) -> bool:
    """Turn every bfloat16 of a model, which holds its numbers itself, into float32, in place.

    Returns:
        Whether there was any.
    """
    nodes = [*_nodes(proto.graph.node), *(node for function in proto.functions for node in _nodes(function.node))]
    graphs = [proto.graph, *(graph for node in nodes for graph in _subgraphs(node))]
    found = False
    for graph in graphs:
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == _NARROW:
                value.type.tensor_type.elem_type = _WIDE
                found = True
    attributes = [attribute for node in nodes for attribute in node.attribute]
    for attribute in attributes:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i == _NARROW:
            attribute.i = _WIDE
            found = True
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    tensors += [attribute.t for attribute in attributes if attribute.type == onnx.AttributeProto.TENSOR]
    for tensor in tensors:
        if tensor.data_type == _NARROW:
            _widen_tensor(tensor)
            found = True
    return found


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their sub-graphs."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
