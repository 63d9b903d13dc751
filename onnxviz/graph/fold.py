"""Compute when the model is converted what does not depend on its inputs, without storing a weight twice."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import FOLDED_FROM_KEY, fold_constants

INPUT_LIMIT = 65_536
"""Operators on larger constants than this many elements stay in the graph, so that no weight is stored twice;
:data:`REPLACING` of a weight that nothing else reads is folded at any size, since it replaces the weight."""

OUTPUT_LIMIT = 65_536
"""A constant expression whose value has more elements than this, and than what it replaces, stays an expression."""

REPLACING = frozenset({
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt",
    "Reciprocal",
})  # fmt: skip
"""What exporters do to weights on their way to the operator that reads them."""

_ROUNDS = 4


def fold(model: ir.Model) -> None:
    """Fold constant expressions in place, with the shapes that can be inferred node by node."""
    _share(model.graph)
    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            folded = fold_constants(
                model,
                onnx_shape_inference=True,
                input_size_limit=INPUT_LIMIT,
                output_size_limit=OUTPUT_LIMIT,
                should_fold=_should_fold,
            )
            common.RemoveUnusedNodesPass()(model)
            if not folded:
                break
    for value in ir.convenience.create_value_mapping(model.graph).values():
        value.metadata_props.pop(FOLDED_FROM_KEY, None)


def _share(graph: ir.Graph) -> None:
    """Let readers of the same expression of the same weight read one value: a layer that is called twice."""
    constant = set(graph.initializers.values()) - set(graph.inputs)
    known: dict[Hashable, ir.Node] = {}
    for node in list(graph):
        if node.domain != "" or node.op_type not in REPLACING or not constant.issuperset(node.inputs):
            continue
        result = node.outputs[0]
        first = known.setdefault((node.op_type, tuple(node.inputs), _described(node)), node)
        constant.add(result)
        if first is not node and not result.is_graph_output():
            result.replace_all_uses_with(first.outputs[0])
            graph.remove(node, safe=True)


def _described(node: ir.Node) -> Hashable:
    attributes = [ir.to_proto(attribute) for _, attribute in sorted(node.attributes.items())]
    return tuple(attribute.SerializeToString(deterministic=True) for attribute in attributes)


def _should_fold(node: ir.Node) -> bool | None:
    """What differs from the default: a ConstantOfShape that fills bookkeeping (pads) and no weight is folded; an
    Identity, which stands only where a constant is an output, is not; what replaces a weight is, at any size. Of
    several outputs the library folds none, and says so aloud.
    """
    if node.op_type == "Identity" or len(node.outputs) > 1:
        return False
    if node.op_type == "ConstantOfShape" and node.inputs[0] is not None:
        shape = node.inputs[0].const_value
        return None if shape is None or math.prod(shape.numpy().tolist()) > OUTPUT_LIMIT else True
    return True if node.op_type in REPLACING and _replaces(node) else None


def _replaces(node: ir.Node) -> bool:
    """Whether the large constants that the node reads are read by it alone, and its result takes no more memory."""
    weights = [x for x in node.inputs if x is not None and _size(x) > INPUT_LIMIT]
    if node.op_type == "Cast" and any(_bytes(node.attributes["to"].as_int()) > _bytes(x.dtype) for x in weights):
        return False
    return bool(weights) and all(len(x.uses()) == 1 and not x.is_graph_output() for x in weights)


def _size(value: ir.Value) -> int:
    return value.const_value.size if value.const_value is not None else 0


def _bytes(dtype: int | None) -> float:
    return ir.DataType(dtype).itemsize if dtype is not None else 0
