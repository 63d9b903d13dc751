"""The table of decompositions: operators that opset 18 lacks, written with operators that it has.

A decomposition's signature is the operator's: ``rule(op, *inputs, **attributes)`` returns its outputs in order,
``None`` (or a tuple that ends early) where it does not compute one. An input that was left out is None. Attributes that
the signature does not name are refused, so the signature is the support table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from onnxviz.errors import UnsupportedModelError, UnsupportedOperatorError
from onnxviz.gradient.registry import attribute_value, describe
from onnxviz.gradient.tape import OPSET, Ops
from onnxviz.source import Array

Outputs = ir.Value | Sequence[ir.Value | None]
Decomposition = Callable[..., Outputs]

MICROSOFT = "com.microsoft"
"""The operator set of ONNX Runtime's fusions."""
NEWER = "ai.onnx.newer"
"""Stands for the default operator set on nodes that are set aside while the others are brought to opset 18."""

DECOMPOSITIONS: dict[tuple[str, str], Decomposition] = {}
"""(domain, operator) → decomposition. Filled by the modules of this package."""

_MEASURED = "onnxviz.measured"
"""Key in the ``meta`` of a value: its shape for the example."""
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_LAYOUTS = {
    "com.microsoft.nchwc": "values in blocks of channels, as one kind of processor likes them",
    "com.ms.internal.nhwc": "values channels-last inside of an execution provider",
}
_SINCE = {"AffineGrid": 20, "DFT": 20, "DeformConv": 19, "TensorScatter": 24} | dict.fromkeys(_QUANTISERS, 19)
"""Operators of the default set → the opset from which on they mean what their decomposition says."""


def decomposition(*op_types: str, domain: str = MICROSOFT) -> Callable[[Decomposition], Decomposition]:
    """Register the decorated function as the decomposition of these operators."""

    def register(function: Decomposition) -> Decomposition:
        for op_type in op_types:
            DECOMPOSITIONS[domain, op_type] = function
        return function

    return register


def refuse_layouts(proto: onnx.ModelProto) -> None:
    """Refuse what ONNX Runtime's layout optimisation wrote: it is bound to a machine, and its values are reordered.

    Raises:
        UnsupportedModelError: naming the first such node.
    """
    for node in proto.graph.node:
        if node.domain in _LAYOUTS:
            raise UnsupportedModelError(
                f"{node.domain}::{node.op_type} {node.name or node.output[0]!r} holds {_LAYOUTS[node.domain]}: "
                "onnxruntime wrote the file at ORT_ENABLE_LAYOUT or ORT_ENABLE_ALL. Convert the model that it was made "
                "from, or write it with graph_optimization_level=ORT_ENABLE_EXTENDED"
            )


def set_aside(model: ir.Model) -> None:
    """Move the nodes of the default operator set that a decomposition is for, or that no version of the set knows
    (ONNX Runtime writes its fusions of older graphs there), into domains that lifting leaves alone.
    """
    opset = model.opset_imports[""]
    for node in model.graph:
        if node.domain != "":
            continue
        if _is_newer(node, opset):
            node.domain = NEWER
        elif (MICROSOFT, node.op_type) in DECOMPOSITIONS and not onnx.defs.has(node.op_type, opset, ""):
            node.domain = MICROSOFT
    model.opset_imports.update({node.domain: 1 for node in model.graph if node.domain in (NEWER, MICROSOFT)})


def _is_newer(node: ir.Node, opset: int) -> bool:
    if node.op_type == "Pad":
        return node.attributes.get_string("mode", "constant") == "wrap"
    return opset >= _SINCE.get(node.op_type, opset + 1)


def foreign(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that a decomposition is for, in the order of the graph."""
    return [node for node in graph if (node.domain, node.op_type) in DECOMPOSITIONS]


def annotate(graph: ir.Graph, measured: Mapping[str, Array]) -> None:
    """Tell the values of a graph their element types and ranks, from what they are for an example."""
    for name, value in ir.convenience.create_value_mapping(graph, include_subgraphs=False).items():
        if name in measured and value.const_value is None:
            value.meta[_MEASURED] = measured[name].shape
            value.type = value.type or ir.TensorType(ir.DataType.from_numpy(measured[name].dtype))
            value.shape = value.shape or ir.Shape([None] * measured[name].ndim)


def decompose(model: ir.Model, measured: Mapping[str, Array]) -> None:
    """Replace every node that a decomposition is for, in place.

    Args:
        model: at opset 18, the nodes of newer operators set aside.
        measured: the inputs of these nodes (constants excepted) for an example: decompositions may ask for their
            element types and ranks.

    Raises:
        UnsupportedOperatorError: a node has an attribute, an input or a used output that its decomposition lacks.
    """
    annotate(model.graph, measured)
    for number, node in enumerate(foreign(model.graph)):
        _replace(model.graph, node, prefix=f"{node.name or node.op_type}/{number}/")
    model.opset_imports.pop(NEWER, None)


def _replace(graph: ir.Graph, node: ir.Node, prefix: str) -> None:
    scratch = ir.Graph([], [], nodes=[], opset_imports={"": OPSET})
    outputs = _apply(Ops(scratch, prefix=prefix), node)
    used = [i for i, each in enumerate(node.outputs) if each.uses() or each.is_graph_output()]
    for i in used:
        if i >= len(outputs) or outputs[i] is None:
            raise _refusal(node, f"has its output number {i} used, which only onnxruntime's own kernel computes")
    nodes = _needed([outputs[i] for i in used], scratch)
    scratch.remove(list(scratch))
    for value in list(scratch.initializers.values()):
        del scratch.initializers[value.name or ""]
        graph.register_initializer(value)
    replaced = [node.outputs[i] for i in used]
    new = [_own(made, nodes) for i in used if (made := outputs[i]) is not None]
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, replaced, new)


def _needed(values: Sequence[ir.Value | None], scratch: ir.Graph) -> list[ir.Node]:
    """The nodes that compute the values, in order: nothing is written for an output that nobody reads."""
    wanted = set(values)
    nodes = []
    for node in reversed(scratch):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def _own(value: ir.Value, nodes: list[ir.Node]) -> ir.Value:
    """The value, which takes the name of the output that it replaces; of an Identity where it is not new."""
    if value.producer() in nodes:
        return value
    nodes.append(ir.node("Identity", [value]))
    return nodes[-1].outputs[0]


def _apply(op: Ops, node: ir.Node) -> Sequence[ir.Value | None]:
    function = DECOMPOSITIONS[node.domain, node.op_type]
    parameters = inspect.signature(function).parameters.values()
    known = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    places = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][1:]
    attributes = {name: attribute_value(attribute) for name, attribute in node.attributes.items()}
    for name in attributes.keys() - known:
        raise _refusal(node, f"has the attribute {name}={attributes[name]!r}, of which no decomposition is known")
    if any(value is not None for value in node.inputs[len(places) :]):
        raise _refusal(node, f"has {len(node.inputs)} inputs; a decomposition is known for {len(places)}")
    try:
        outputs = function(op, *node.inputs[: len(places)], **attributes)
    except NotDecomposed as error:
        raise _refusal(node, str(error)) from error
    return [outputs] if isinstance(outputs, ir.Value) else outputs


class NotDecomposed(Exception):  # noqa: N818 - it never leaves this module
    """Raised by a decomposition for what it does not cover; the text continues "<node> …"."""


def covered(inputs: Mapping[str, object]) -> None:
    """Raise :class:`NotDecomposed` for the first of the named inputs or attributes that is set."""
    for name, value in inputs.items():
        if value is not None and value != 0:
            raise NotDecomposed(f"uses {name}, of which no decomposition is known")


def constant(value: ir.Value, name: str) -> Array:
    """The content of an input that must be constant."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None:
        raise NotDecomposed(f"has its {name} computed in the graph; a decomposition needs a constant")
    array: Array = tensor.numpy()
    return array


def measured_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a constant, or of an input for the example: good for what does not change with the input."""
    tensor = ir.convenience.get_const_tensor(value)
    shape: tuple[int, ...] = value.meta[_MEASURED] if tensor is None else tensor.numpy().shape
    return shape


def size(op: Ops, x: ir.Value, axis: int) -> ir.Value:
    """The size of an axis, int64, in a tensor of one element."""
    return op.Shape(x, start=axis, end=axis + 1)


def counted(op: Ops, length: ir.Value) -> ir.Value:
    """0, 1, 2, … (int64), as many as ``length``, a tensor of one element, says."""
    zero, one = (op.constant(np.array(number, np.int64)) for number in (0, 1))
    return op.Range(zero, op.Squeeze(length), one)


def _refusal(node: ir.Node, why: str) -> UnsupportedOperatorError:
    domain, way_out = node.domain, "Convert the model that it was made from, before it was optimised"
    if domain == NEWER:
        node.domain, way_out = "", f"Export the model at opset {OPSET}"
    called = describe(node)
    node.domain = domain
    return UnsupportedOperatorError(f"{called} {why}: it cannot be written with operators of opset {OPSET}. {way_out}")
