"""What the manifest says of the graph's inputs, outputs and layers."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxviz.explainable.heads import Head, shape_of
from onnxviz.graph.axes import AxisRoles
from onnxviz.graph.channels_first import to_last
from onnxviz.manifest import Axes, Input, Layer, Output
from onnxviz.source import Tap


def described_input(value: ir.Value, roles: AxisRoles, reached: set[str], image: dict[str, Any] | None) -> Input:
    """An input; ``reached`` are the names that have a gradient, ``image`` is how its pictures are prepared."""
    name = value.name or ""
    return Input(name, name, _numpy_name(value), shape_of(value), roles.of(value), name in reached, image=image)


def described_output(head: Head, roles: AxisRoles, *, gradient: bool) -> Output:
    """An output, and the logits that its gradient starts from."""
    return Output(
        head.name,
        head.value.name or "",
        _numpy_name(head.value),
        shape_of(head.value),
        _known(head.value, roles),
        logits=head.logits.name or "",
        logits_shape=shape_of(head.logits),
        logits_axes=_known(head.logits, roles),
        activation=head.activation,
        activation_axis=head.axis,
        has_gradient=gradient,
    )


def _known(value: ir.Value, roles: AxisRoles) -> Axes:
    """An output's axes: with (N, C) there is only one way."""
    found = roles.of(value)
    if found.channel is None and len(shape_of(value)) == 2 and found.batch == 0:
        return Axes(0, 1, ())
    return found


def described_layer(tap: Tap, value: ir.Value, roles: AxisRoles, reached: set[str], reasons: dict[str, str]) -> Layer:
    """A layer; ``reasons`` say of each without a gradient why it has none."""
    has = tap.value in reached
    return Layer(
        tap.name,
        tap.value,
        _numpy_name(value),
        shape_of(value),
        roles.of(value),
        has,
        type=tap.type,
        operator=_operator(value),
        parameters=tap.parameters,
        reason=None if has else reasons.get(tap.value, "the file was converted with gradient=False"),
    )


def _operator(value: ir.Value) -> str:
    """What computes a layer's output, but for its way into the framework's layout."""
    node = value.producer()
    while node is not None and (inner := node.inputs[0] if node.inputs else None) is not None and inner.producer():
        turned = list(node.attributes.get_ints("perm", ())) == to_last(len(shape_of(inner)))
        if not (node.op_type == "Identity" or (node.op_type == "Transpose" and turned and not inner.is_graph_output())):
            break
        node = inner.producer()
    return node.op_type if node is not None else ""


def _numpy_name(value: ir.Value) -> str:
    return value.dtype.numpy().name if value.dtype else ""
