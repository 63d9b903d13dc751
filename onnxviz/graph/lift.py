"""Bringing a plain ONNX graph of any opset from 7 on to opset 18.

Older graphs go through ``onnx.version_converter``; where that is known to change the meaning (linear Upsample and
Resize-10, which sampled without the half-pixel shift) the meaning is restored. Newer graphs are lowered here: an
operator that opset 18 has with the same signature is kept, one that it lacks is expanded into the function that the
ONNX specification defines for it (:mod:`onnxviz.graph.decompositions` has some that it defines in words). Neither way
is trusted: :func:`onnxviz.graph.plain.source` runs the lifted graph
against the original.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import onnx
import onnx_ir as ir
from onnx import inliner, shape_inference, version_converter

from onnxviz.errors import UnsupportedModelError, UnsupportedOperatorError

OPSET = 18
IR_VERSION = 10
OLDEST_OPSET = 7

_PARKED_BYTES = 1024
"""Initializers above this size take no part in the conversion: no adapter reads a value that large."""

_SPECIFICATION = "ai.onnx.specification"
"""The domain of the functions that newer operators become on their way."""

_RENAMED_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""GridSample's modes: their names since opset 20 → before."""


def opset_of(model: ir.Model) -> int:
    """The version of the default operator set."""
    return model.opset_imports[""]


def lift(model: ir.Model) -> ir.Model:
    """The model at opset 18 and IR 10, value names kept; the given one is used up.

    Args:
        model: without model-local functions, initializers not listed as inputs.

    Raises:
        UnsupportedModelError: the opset is below 7.
        UnsupportedOperatorError: an operator has no counterpart at opset 18.
    """
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise UnsupportedModelError(
            f"the model uses opset {opset}; onnxviz converts opset {OLDEST_OPSET} and later. Export it again, or raise "
            "it with onnx.version_converter and check the result"
        )
    if opset < OPSET:
        sampled_from_corner = _linear_without_half_pixel(model)
        model = _through_protobuf(model, _raise_opset)
        _restore_sampling(model, sampled_from_corner)
    elif opset > OPSET:
        model = _lower(model, opset)
    model.ir_version = IR_VERSION
    return model


def _through_protobuf(model: ir.Model, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """Apply a change of protobufs with the large initializers parked as graph inputs, so that no weight is copied."""
    graph = model.graph
    parked = {
        name: value.const_value
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > _PARKED_BYTES
    }
    for name in parked:
        graph.inputs.append(graph.initializers.pop(name))
    changed = ir.from_proto(change(ir.to_proto(model)))
    for value in list(changed.graph.inputs):
        if value.name in parked:
            changed.graph.inputs.remove(value)
            value.const_value = parked[value.name]
            changed.graph.register_initializer(value)
    return changed


# ------------------------------------------------------------------------------------------------------ from older


def _raise_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.ir_version = IR_VERSION
    opset = max(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    try:
        return version_converter.convert_version(proto, OPSET)
    except (version_converter.ConvertError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedOperatorError(
            f"onnx.version_converter cannot bring the graph from opset {opset} to {OPSET}: {reason}. Export the model "
            f"at opset {OPSET}, or without this operator"
        ) from error


def _linear_without_half_pixel(model: ir.Model) -> set[str]:
    """Outputs of the nodes that interpolate linearly from the corner: Upsample, and Resize before opset 11."""
    old = ("Upsample", "Resize") if opset_of(model) < 11 else ("Upsample",)
    return {
        node.outputs[0].name or ""
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.op_type in old and node.attributes.get_string("mode", "nearest") in ("linear", "bilinear")
    }


def _restore_sampling(model: ir.Model, outputs: set[str]) -> None:
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "Resize" and node.outputs[0].name in outputs:
            mode = "coordinate_transformation_mode"
            node.attributes[mode] = ir.AttrString(mode, "asymmetric")


# ------------------------------------------------------------------------------------------------------ from newer


def _lower(model: ir.Model, opset: int) -> ir.Model:
    model = _without_newer_operators(model, opset)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "":
            _lower_node(node, opset)
    model.opset_imports[""] = OPSET
    return model


def _without_newer_operators(model: ir.Model, opset: int) -> ir.Model:
    """Expand the operators that opset 18 lacks into their specified functions (which may use such operators again)."""
    while newer := newer_nodes(model):
        for node in newer:
            _spell_out_defaults(node, onnx.defs.get_schema(node.op_type, opset, ""))
        model = _through_protobuf(model, partial(_expand, operators={node.op_type for node in newer}))
    return model


def newer_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the default operator set that are expanded into their specified functions."""
    opset = opset_of(model)
    # GroupNormalization kept its signature at opset 21, but scale and bias went from per group to per channel.
    regrouped = ("GroupNormalization",) if opset >= 21 else ()
    return [
        node
        for node in model.graph
        if node.domain == "" and (node.op_type in regrouped or not onnx.defs.has(node.op_type, OPSET, ""))
    ]


def _spell_out_defaults(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    """Write out default attributes: the inliner leaves references to absent ones dangling."""
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if name not in node.attributes and default.type != onnx.AttributeProto.UNDEFINED:
            node.attributes[name] = ir.serde.deserialize_attribute(default)


def _expand(proto: onnx.ModelProto, operators: Collection[str]) -> onnx.ModelProto:
    """Turn the operators into calls of model-local functions, and inline these: the inliner's own way to specified
    functions fails at inputs that are left out.
    """
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in proto.graph.initializer
    )
    graph = shape_inference.infer_shapes(proto).graph
    types = {each.name: each.type for each in (*graph.input, *graph.value_info, *graph.output)}
    [opset] = [each.version for each in proto.opset_import if each.domain == ""]
    for number, node in enumerate(proto.graph.node):
        if node.domain == "" and node.op_type in operators:
            function = _specified(node, opset, [types.get(name, onnx.TypeProto()) for name in node.input])
            function.domain, function.name = _SPECIFICATION, f"{node.op_type}_{number}"
            proto.functions.append(function)
            node.domain, node.op_type = function.domain, function.name
    proto.opset_import.add(domain=_SPECIFICATION, version=1)
    return inliner.inline_local_functions(proto)


def _specified(node: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]) -> onnx.FunctionProto:
    """The function by which the specification defines the operator of a node."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # its stubs lack these methods
    if versions := [each for each in schema.function_opset_versions if each <= opset]:
        body = schema.get_function_with_opset_version(max(versions))
    elif versions := [each for each in schema.context_dependent_function_opset_versions if each <= opset]:
        known = [each.SerializeToString() for each in types]
        body = schema.get_context_dependent_function_with_opset_version(max(versions), node.SerializeToString(), known)
    else:
        raise _no_counterpart(node, opset, "does not exist there, and no function of older operators defines it")
    function = onnx.FunctionProto()
    function.ParseFromString(body)
    for each in function.opset_import:
        each.version = opset
    return function


def _lower_node(node: ir.Node, opset: int) -> None:
    """Keep a node whose inputs and attributes opset 18 knows; attributes added since must say what was always so."""
    new = onnx.defs.get_schema(node.op_type, opset, "")
    old = onnx.defs.get_schema(node.op_type, OPSET, "")
    if new.since_version == old.since_version:
        return
    if len(node.inputs) > old.max_input or len(node.outputs) > old.max_output:
        raise _no_counterpart(node, opset, f"has {len(node.inputs)} inputs, {old.max_input} at most there")
    for name in [name for name in node.attributes if name not in old.attributes]:
        default = new.attributes[name].default_value
        given = onnx.helper.get_attribute_value(ir.to_proto(node.attributes[name]))
        if default.type == onnx.AttributeProto.UNDEFINED or given != onnx.helper.get_attribute_value(default):
            raise _no_counterpart(node, opset, f"has the attribute {name}={given!r}, unknown there")
        del node.attributes[name]
    if node.op_type == "GridSample":
        mode = node.attributes.get_string("mode", "linear")
        node.attributes["mode"] = ir.AttrString("mode", _RENAMED_MODES.get(mode, mode))


def _no_counterpart(node: ir.Node | onnx.NodeProto, opset: int, reason: str) -> UnsupportedOperatorError:
    first = node.output[0] if isinstance(node, onnx.NodeProto) else node.outputs[0].name
    return UnsupportedOperatorError(
        f"{node.op_type} {node.name or first!r} (opset {opset}) cannot be brought to opset {OPSET}: it {reason}. "
        f"Export the model at opset {OPSET}"
    )
