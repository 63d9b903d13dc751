"""From a source's forward graph to the explainable graph: layers named, gradient appended, manifest written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from onnxviz.errors import ConversionError, UnsupportedOperatorError
from onnxviz.gradient import backward as differentiate
from onnxviz.gradient.refusals import refusals, withdraw
from onnxviz.gradient.registry import describe
from onnxviz.gradient.ruleless import why_no_rule
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import TrainingOps
from onnxviz.graph import axes, composites, layout, lean, normalise, pads, probe, taps
from onnxviz.graph.channels_first import to_last
from onnxviz.manifest import IR_VERSION, OF_GRADIENT, OPSET, Axes, Input, Layer, Manifest, Output, grad_name, seed_name
from onnxviz.source import BATCH, Feeds, Source, Tap

GradientChoice = bool | Literal["available"]
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_PASSIVE = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")


@dataclass
class _Head:
    """Where the gradient of one output starts."""

    name: str
    value: ir.Value
    logits: ir.Value
    activation: str | None = None
    axis: int | None = None
    between: tuple[ir.Value, ...] = ()


def explain(
    source: Source,
    *,
    gradient: GradientChoice = True,
    image: dict[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[ir.Model, Manifest]:
    """The explainable graph of a source (its model is changed in place) and the manifest that describes it.

    Args:
        source: what a converter handed over.
        gradient: True demands a gradient for everything that the output depends on; ``"available"`` leaves out what
            lies before an operator without a rule; False builds none.
        image: the preprocessing of the first image-like input.
        classes: names of the classes.

    Raises:
        UnsupportedOperatorError: an operator has no gradient rule.
    """
    model, graph = source.model, source.model.graph
    batched = any(_shape(v)[:1] == (BATCH,) for v in graph.inputs)
    with taps.protected(model, source.taps):
        renamed = normalise.normalise(model)
    composites.recognise(model)
    placed, outputs = taps.name_taps(
        model,
        [replace(tap, value=renamed.get(tap.value, tap.value)) for tap in source.taps],
        {name: renamed.get(value, value) for name, value in source.outputs.items()},
    )
    measured = probe.probe(model, source.example)
    source.resized = measured.resized
    source.notes.extend(_fixed_sizes(name, axes, source.example) for name, axes in measured.fixed.items())
    pads.whole_pads(model)
    pads.explicit_pads(model, {v.name or "": _shape(v) for v in _values(graph)})
    lean.make_lean(model)
    values = {v.name or "": v for v in _values(graph)}
    heads = [_head(name, values[value]) for name, value in outputs.items()]
    layout.channels_first(model, keep=_fixed(source, heads))
    pads.separate_pads(model)
    batch = None if batched else next((len(x) for x in source.example.values() if x.ndim), 1)
    roles = axes.AxisRoles(graph, batch, measured.symbols)
    values = {v.name or "": v for v in _values(graph)}
    reached: set[str] = set()
    reasons: dict[str, str] = {}
    if gradient is not False:
        reached, reasons = _append_gradient(model, heads, [values[t.value] for t in placed], gradient)
    manifest = Manifest(
        framework=source.framework,
        versions=source.versions,
        static_batch=batch,
        inputs=tuple(
            _input(v, roles, reached, image if i == 0 else None)
            for i, v in enumerate(graph.inputs)
            if not (v.name or "").startswith("seed/")
        ),
        outputs=tuple(_output(h, roles, gradient=bool(reached) and _differentiable(h, graph)) for h in heads),
        layers=tuple(_layer(t, values[t.value], roles, reached, reasons) for t in placed),
        classes=tuple(classes) if classes is not None else None,
        activation_bytes=measured.activation_bytes,
        sizes=measured.symbols.sizes,
        caveats=tuple(source.caveats),
    )
    _finish(model)
    return model, manifest


def _fixed_sizes(name: str, opened: Sequence[int], example: Feeds) -> str:
    sizes = ", ".join(f"{example[name].shape[axis]} (axis {axis})" for axis in opened)
    return f"the sizes {sizes} of input {name!r} stay as they are in the example: the model runs at no others"


def _fixed(source: Source, heads: list[_Head]) -> list[ir.Value]:
    """What is computed as it stands: outputs from their logits on, and all that a plain file calls a layer."""
    written = source.model.graph.outputs if source.framework == "onnx" else ()
    return [*written, *(value for head in heads for value in (head.value, head.logits, *head.between))]


def _append_gradient(
    model: ir.Model,
    heads: list[_Head],
    layers: list[ir.Value],
    gradient: GradientChoice,
    refused: Mapping[ir.Node, str] = MappingProxyType({}),
) -> tuple[set[str], dict[str, str]]:
    """Append seeds and the backward pass; the names that have a gradient, and why others have none.

    ``refused`` are the nodes that their rules turned out to refuse, and why: they count as nodes without a rule.
    """
    graph = model.graph
    forward = list(graph)
    wrt = [v for v in [*graph.inputs, *layers] if v.dtype in differentiate.FLOATS]
    active = differentiate.downstream(wrt, forward)
    starts = list(dict.fromkeys(h.logits for h in heads if h.logits in active))
    needed = differentiate.upstream(starts, forward)
    missing = differentiate.missing_rules([n for n in forward if n in needed], active)
    blocked = dict.fromkeys(missing, "") | dict(refused)
    if blocked and gradient is not True:
        wrt = _after(blocked, forward, wrt)
        active = differentiate.downstream(wrt, forward)
    elif blocked:
        usable = {*starts, *(x for n in needed for x in n.inputs)}
        possible = [v for v in _after(blocked, forward, wrt) if v in usable]
        raise UnsupportedOperatorError(_missing_message(blocked, forward, layers, possible))
    starts = [s for s in starts if s in active]
    if not starts:
        raise ConversionError(
            "no output is a float that depends on an input through differentiable operators: there is nothing to take "
            "the gradient of. Convert with gradient=False to have the layers' values alone"
        )
    op = Ops(graph, TrainingOps(model), prefix="backward/")
    seeds: dict[ir.Value, ir.Value] = {}
    for head in heads:
        if head.logits in starts:
            seed = _seed(op, head)
            seeds[head.logits] = op.Add(seeds[head.logits], seed) if head.logits in seeds else seed
    names = {v: grad_name(v.name or "") for v in wrt}
    needed = differentiate.upstream(starts, forward)
    nodes = [n for n in forward if n in needed]
    try:
        totals = differentiate.backward(op, nodes, seeds, wrt, names)
    except UnsupportedOperatorError:
        if not (found := refusals(nodes, active)):
            raise
        _withdraw(graph, forward)
        return _append_gradient(model, heads, layers, gradient, {**refused, **found})
    _declare(graph, totals, [*graph.inputs, *layers])
    return {v.name or "" for v in totals}, _reasons(layers, totals, forward, heads, blocked)


def _declare(graph: ir.Graph, totals: dict[ir.Value, ir.Value], values: list[ir.Value]) -> None:
    """Make the gradients of the values outputs of the graph."""
    for value in values:
        if value in totals and totals[value] not in graph.outputs:
            total = totals[value]
            total.shape = ir.Shape([d if isinstance(d, int) else _renamed(d.value) for d in value.shape or ()])
            total.type = value.type
            graph.outputs.append(total)


def _withdraw(graph: ir.Graph, forward: list[ir.Node]) -> None:
    """Take back the seeds and the backward pass."""
    withdraw(graph, forward)
    for name in [name for name in graph.initializers if name.startswith(("seed/", "backward/"))]:
        value = graph.initializers.pop(name)
        if value.is_graph_input():
            graph.inputs.remove(value)


def _seed(op: Ops, head: _Head) -> ir.Value:
    """The input ``seed/<output>``, zero by default, stretched to the batch of the logits."""
    name, shape = seed_name(head.name), [1 if not isinstance(d, int) else d for d in head.logits.shape or ()]
    value = ir.Value(name=name, const_value=ir.tensor(_zeros(shape, head.logits), name=name))
    value.type = head.logits.type
    value.shape = ir.Shape([d if isinstance(d, int) else _renamed(d.value) for d in head.logits.shape or ()])
    op.graph.inputs.append(value)
    op.graph.register_initializer(value)
    expanded: ir.Value = op.Expand(value, op.Shape(head.logits))
    expanded.shape, expanded.type = ir.Shape(head.logits.shape or ()), head.logits.type
    return expanded


def _zeros(shape: list[int], like: ir.Value) -> Any:
    return np.zeros(shape, (like.dtype or ir.DataType.FLOAT).numpy())


def _renamed(symbol: str | None) -> str | None:
    """Another name for a size of a gradient: with the inputs' symbols onnxruntime would share buffers wrongly."""
    return re.sub(r"[A-Za-z_]\w*", rf"\g<0>{OF_GRADIENT}", symbol) if symbol else None


def _head(name: str, value: ir.Value) -> _Head:
    """Before a final softmax or sigmoid, where there is one: after it the gradient saturates."""
    cursor = value
    between: list[ir.Value] = []
    while (node := cursor.producer()) is not None:
        if node.domain == "" and node.op_type in _ACTIVATIONS and node.inputs[0] is not None:
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
            if _shape(node.inputs[0])[:1] != _shape(value)[:1]:
                break  # a reshape mixed the batch with something else
            along = None if node.op_type == "Sigmoid" else axis
            return _Head(name, value, node.inputs[0], node.op_type, along, tuple(between))
        if node.domain != "" or node.op_type not in _PASSIVE or node.inputs[0] is None:
            break
        cursor = node.inputs[0]
        between.append(cursor)
    return _Head(name, value, value)


def _after(blocked: Iterable[ir.Node], forward: list[ir.Node], wrt: list[ir.Value]) -> list[ir.Value]:
    """Those of ``wrt`` from which no blocked node is reached."""
    behind = _read_for([y for b in blocked for y in b.outputs], forward)
    return [v for v in wrt if v not in behind]


def _read_for(values: list[ir.Value], forward: list[ir.Node]) -> set[ir.Value]:
    """All that is read on the way to ``values``, also by the bodies of control flow."""
    return {x for node in differentiate.upstream(values, forward) for x in differentiate.operands(node)}


def _missing_message(
    blocked: Mapping[ir.Node, str], forward: list[ir.Node], layers: list[ir.Value], possible: list[ir.Value]
) -> str:
    listed = ", ".join(
        f"{describe(node)}{_on_the_way_to(node, forward, layers)}{f' (its gradient {refused})' if refused else ''}"
        for node, refused in list(blocked.items())[:5]
    )
    more = f" and {len(blocked) - 5} more" if len(blocked) > 5 else ""
    layer_names = {v.name for v in layers}
    explainable = [v.name for v in possible if v.name in layer_names]
    ways = "convert with gradient=False to have the layers' values alone"
    if explainable:
        shown = ", ".join(repr(n) for n in explainable[-5:])
        ways += (
            f", or with gradient='available' for the {len(explainable)} layers behind it, which still can be explained "
            f"(the last: {shown})"
        )
    why = "".join(f" {each}" for each in dict.fromkeys(filter(None, map(why_no_rule, blocked))))
    return f"no gradient rule for {listed}{more}.{why} Way out: {ways}"


def _on_the_way_to(node: ir.Node, forward: list[ir.Node], layers: list[ir.Value]) -> str:
    """The first layer that the node is computed for."""
    for layer in layers:
        if node in differentiate.upstream([layer], forward):
            return f" in layer {layer.name!r}" if layer in node.outputs else f" before layer {layer.name!r}"
    return ""


def _reasons(
    layers: list[ir.Value],
    totals: dict[ir.Value, ir.Value],
    forward: list[ir.Node],
    heads: list[_Head],
    blocked: Mapping[ir.Node, str],
) -> dict[str, str]:
    """Why a layer has no gradient."""
    used = _read_for([h.value for h in heads], forward) | {h.value for h in heads}
    before = {node: _read_for(list(node.outputs), forward) for node in blocked}
    reasons = {}
    for value in layers:
        if value in totals:
            continue
        if value.dtype not in differentiate.FLOATS:
            why = "its values are not floats"
        elif first := next((node for node in forward if value in before.get(node, ())), None):
            refused = f"whose gradient {blocked[first]}" if blocked[first] else "which has no gradient rule"
            why = f"it lies before {first.op_type}, {refused}"
        elif value not in used:
            why = "no output depends on it"
        elif any(h.activation for h in heads):
            why = "it lies after the logits, at which the gradient starts"
        else:
            why = "the output depends on it only through operators without a gradient"
        reasons[value.name or ""] = why
    return reasons


# ----- the manifest -----


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values(), *(y for node in graph for y in node.outputs)]


def _shape(value: ir.Value) -> tuple[int | str | None, ...]:
    return tuple(d if isinstance(d, int) else d.value for d in value.shape or ())


def _input(value: ir.Value, roles: axes.AxisRoles, reached: set[str], image: dict[str, Any] | None) -> Input:
    name = value.name or ""
    return Input(name, name, _numpy_name(value), _shape(value), roles.of(value), name in reached, image=image)


def _output(head: _Head, roles: axes.AxisRoles, *, gradient: bool) -> Output:
    return Output(
        head.name,
        head.value.name or "",
        _numpy_name(head.value),
        _shape(head.value),
        _known(head.value, roles),
        logits=head.logits.name or "",
        logits_shape=_shape(head.logits),
        logits_axes=_known(head.logits, roles),
        activation=head.activation,
        activation_axis=head.axis,
        has_gradient=gradient,
    )


def _known(value: ir.Value, roles: axes.AxisRoles) -> Axes:
    """An output's axes: with (N, C) there is only one way."""
    found = roles.of(value)
    if found.channel is None and len(_shape(value)) == 2 and found.batch == 0:
        return Axes(0, 1, ())
    return found


def _layer(tap: Tap, value: ir.Value, roles: axes.AxisRoles, reached: set[str], reasons: dict[str, str]) -> Layer:
    has = tap.value in reached
    return Layer(
        tap.name,
        tap.value,
        _numpy_name(value),
        _shape(value),
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
        turned = list(node.attributes.get_ints("perm", ())) == to_last(len(_shape(inner)))
        if not (node.op_type == "Identity" or (node.op_type == "Transpose" and turned and not inner.is_graph_output())):
            break
        node = inner.producer()
    return node.op_type if node is not None else ""


def _numpy_name(value: ir.Value) -> str:
    return value.dtype.numpy().name if value.dtype else ""


def _differentiable(head: _Head, graph: ir.Graph) -> bool:
    return any(v.name == seed_name(head.name) for v in graph.inputs)


def _finish(model: ir.Model) -> None:
    """Remove what nothing reads, and stamp the versions of the format."""
    from onnx_ir.passes.common import RemoveUnusedFunctionsPass, RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    model.ir_version = IR_VERSION
    model.graph.opset_imports[""] = OPSET
    model.producer_name = "onnxviz"
    model.metadata_props.clear()
