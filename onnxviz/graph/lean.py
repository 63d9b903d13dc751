"""Say with fewer nodes what exporters spell out: known sizes, biases, matrix products with a sum, parametric ReLUs.

The library's rules for the same (``onnxscript.rewriter``) do not look at how the summand broadcasts, nor through the
Transpose that stands behind a channels-last convolution.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxviz.gradient.tape import Ops
from onnxviz.graph.channels_first import is_constant, rank, reshape_target, to_last
from onnxviz.source import Array

_MONOMIAL = frozenset({
    "Shape", "Size", "Gather", "Slice", "Concat", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity", "ReduceProd",
    "Mul", "Split",
})  # fmt: skip
"""Operators that make of sizes products of sizes: with k·N at two batches, such a size is k·N at all."""

_CONVOLUTIONS = (("", "Conv"), ("", "ConvTranspose"))
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def make_lean(model: ir.Model) -> None:
    """Simplify the graph in place, exactly but for the rounding of sums. Shapes must be known."""
    ops = Ops(model.graph, prefix="lean/")
    sizes = _sizes(model.graph)
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Reshape":
            _fix_target(node, ops, sizes)
        elif node.domain == "" and node.op_type == "Add":
            _into_bias(node, ops) or _into_gemm(node) or _into_prelu(node, ops)
    common.RemoveUnusedNodesPass()(model)


# ----- targets of Reshape -----


def _sizes(graph: ir.Graph) -> set[ir.Value]:
    """Values that are computed of shapes and constants alone, as products."""
    found: set[ir.Value] = set()
    for node in graph:
        integers = all(y.dtype in (ir.DataType.INT64, ir.DataType.INT32) for y in node.outputs)
        if node.domain == "" and node.op_type in _MONOMIAL and integers:
            ready = node.op_type in {"Shape", "Size"} or all(x in found or is_constant(x) for x in node.inputs if x)
            found.update(node.outputs if ready else ())
    return found


def _fix_target(node: ir.Node, ops: Ops, sizes: set[ir.Value]) -> None:
    """Give a target that depends on the batch alone as a constant; -1 stands where the batch is."""
    target = reshape_target(node.outputs[0])
    if node.inputs[1] in sizes and target is not None:
        node.replace_input_with(1, ops.constant(np.array(target, np.int64)))
        node.attributes.pop("allowzero", None)


# ----- sums with a constant -----


def _into_bias(node: ir.Node, ops: Ops) -> bool:
    """Conv, or Conv and Transpose, and Add of a number per channel: the convolution's bias."""
    data, number = _summands(node)
    conv, channel_axis = data.producer() if data is not None else None, 1
    if conv is not None and conv.op_type == "Transpose":
        inner = conv.inputs[0]
        if inner is None or list(conv.attributes.get_ints("perm", ())) != to_last(rank(inner)) or not _private(inner):
            return False
        conv, channel_axis = inner.producer(), rank(inner) - 1
    if data is None or number is None or conv is None or (conv.domain, conv.op_type) not in _CONVOLUTIONS:
        return False
    known = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = _per_channel(number, data, channel_axis)
    if bias is None or (known is not None and known.const_value is None):
        return False
    conv.resize_inputs(3)
    before = known.const_value.numpy() if known is not None and known.const_value is not None else 0
    conv.replace_input_with(2, ops.constant(bias + before))
    _take_place(node, data)
    return True


def _per_channel(number: ir.Value, data: ir.Value, axis: int) -> Array | None:
    """One number per channel of what is added to ``data``; None if it differs along other axes."""
    assert number.const_value is not None
    channels, array = (data.shape or [None] * (axis + 1))[axis], number.const_value.numpy()
    if not isinstance(channels, int) or array.ndim > rank(data):
        return None
    sizes = [1] * (rank(data) - array.ndim) + [*array.shape]
    if any(size != 1 for i, size in enumerate(sizes) if i != axis) or sizes[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def _into_gemm(node: ir.Node) -> bool:
    """MatMul of a matrix of weights and Add of a row: one Gemm, whose weights sessions share."""
    data, number = _summands(node)
    product = data.producer() if data is not None else None
    if data is None or number is None or product is None or (product.domain, product.op_type) != ("", "MatMul"):
        return False
    x, weight = product.inputs
    row = list(number.shape or ())
    fits = len(row) <= 2 and all(size == 1 for size in row[:-1]) and rank(x) == rank(weight) == 2
    if not fits or not is_constant(weight) or data.dtype not in _FLOATS or not _broadcasts(row, data):
        return False
    gemm = ir.Node("", "Gemm", [x, weight, number], name=product.name)
    result = gemm.outputs[0]
    result.shape, result.type = data.shape, data.type
    assert node.graph is not None
    node.graph.insert_before(node, gemm)
    _take_place(node, result)
    return True


def _into_prelu(node: ir.Node, ops: Ops) -> bool:
    """relu(x) + c·relu(−x), as Keras writes it: PRelu with the slope −c, whose gradient is one node."""
    for positive, scaled in (node.inputs, node.inputs[::-1]):
        (x,), (below, number) = _operands(positive, "Relu", 1), _operands(scaled, "Mul", 2)
        if number is not None and not is_constant(number):
            below, number = number, below
        (negated,) = _operands(below, "Relu", 1)
        (same,) = _operands(negated, "Neg", 1)
        if x is None or x is not same or number is None or number.const_value is None or rank(number) > rank(x):
            continue
        prelu = ir.Node("", "PRelu", [x, ops.constant(-number.const_value.numpy())], name=node.name)
        prelu.outputs[0].shape, prelu.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        assert node.graph is not None
        node.graph.insert_before(node, prelu)
        _take_place(node, prelu.outputs[0])
        return True
    return False


def _operands(value: ir.Value | None, op_type: str, count: int) -> list[ir.Value | None]:
    """What the value is computed from by this operator, for its only reader; None for each if it is not."""
    node = value.producer() if value is not None and _private(value) else None
    return [*node.inputs] if node is not None and (node.domain, node.op_type) == ("", op_type) else [None] * count


def _broadcasts(row: list[int | ir.SymbolicDim], data: ir.Value) -> bool:
    return not row or row[-1] == 1 or row[-1] == list(data.shape or [None])[-1]


def _summands(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """What is computed for this sum alone, and the constant that is added to it; None where it is not so."""
    for data, number in (node.inputs, node.inputs[::-1]):
        if data is not None and _private(data) and number is not None and number.const_value is not None:
            return data, number
    return None, None


def _private(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output() and value.producer() is not None


def _take_place(node: ir.Node, value: ir.Value) -> None:
    """Let a value stand for the result of a node, under its name."""
    old = node.outputs[0]
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    old.name, value.name = None, old.name
    assert node.graph is not None
    node.graph.remove(node, safe=True)
