"""From the engine's graph to one of standard operators alone, with its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper, shape_inference

from onnxviz.bundle import Bundle
from onnxviz.engine.cut import Sketch, reads
from onnxviz.engine.half import FLOAT, HALF, in_half
from onnxviz.errors import UnsupportedOperatorError
from onnxviz.manifest import OPSET, Dim
from onnxviz.source import BATCH, Array

IR_VERSION = 8
"""Of the files: the first that goes with opset 18."""


def plain(
    sketch: Sketch, bundle: Bundle, names: Mapping[str, str], shapes: Mapping[str, Sequence[Dim]], *, half: bool
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model without functions, and its weights, which it does not hold.

    Args:
        sketch: the graph.
        bundle: the file that it comes from.
        names: its inputs and outputs → what the model calls them.
        shapes: sizes of outputs, by the model's names for them, where they are known beforehand.
        half: compute in float16, with inputs and outputs in float32.

    Raises:
        UnsupportedOperatorError: an operator is not one of ONNX's own.
    """
    model = inliner.inline_local_functions(sketch.model())
    _settle_casts(model)
    _prune(model)
    if half:
        in_half(model)
        _scatter_in_single(model)
    weights = _weights(model, bundle, half=half)
    _drop_copies(model)
    _prune(model)
    _rename(model.graph, names)
    _require_standard(model)
    kept = {t.name for t in model.graph.initializer}
    weights = {name: array for name, array in weights.items() if name in kept}
    small = [t for t in model.graph.initializer if t.name not in weights]
    _declare(model, shapes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    return model, weights


def _settle_casts(model: onnx.ModelProto) -> None:
    """Write casts whose type is known as such: functions had to leave it open."""
    graph = shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info)}
    types |= {t.name: t.data_type for t in graph.initializer}
    constants: dict[str, onnx.TensorProto] = {}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        kind = types.get(node.input[1], 0) if node.op_type == "CastLike" else 0
        if not kind:
            continue
        value = constants.get(node.input[0])
        if value is None:
            new = helper.make_node("Cast", node.input[:1], node.output, name=node.name, to=kind)
        else:
            array = numpy_helper.to_array(value).astype(helper.tensor_dtype_to_np_dtype(kind))
            new = helper.make_node("Constant", [], node.output, name=node.name, value=numpy_helper.from_array(array))
        node.CopyFrom(new)


def _scatter_in_single(model: onnx.ModelProto) -> None:
    """Sums of scattered numbers stay float32: onnxruntime's CPU kernel adds no halves."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in {"ScatterElements", "ScatterND"} or not any(
            a.name == "reduction" for a in node.attribute
        ):
            nodes.append(node)
            continue
        wide = {name: f"{node.name}/{i}#single" for i, name in ((0, node.input[0]), (2, node.input[2]))}
        nodes += [helper.make_node("Cast", [name], [single], name=single, to=FLOAT) for name, single in wide.items()]
        result = node.output[0]
        node.input[:], node.output[:] = [wide.get(name, name) for name in node.input], [f"{node.name}#single"]
        nodes += [node, helper.make_node("Cast", node.output, [result], name=f"{node.name}/half", to=HALF)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _weights(model: onnx.ModelProto, bundle: Bundle, *, half: bool) -> dict[str, Array]:
    """The weights by name; with ``half`` those that the graph casts to float16 are so in the file."""
    tensors = {t.name: t for t in model.graph.initializer}
    weights = {name: bundle.weights[name] for name in tensors if name in bundle.weights}
    if not half:
        return weights
    nodes = []
    for node in model.graph.node:
        source = tensors.get(node.input[0]) if node.op_type == "Cast" and node.output[0].endswith("#half") else None
        if source is None:
            nodes.append(node)
            continue
        array = weights[source.name] if source.name in weights else numpy_helper.to_array(source)
        name = node.output[0]
        with np.errstate(over="ignore"):
            weights[name] = array.astype(np.float16)
        model.graph.initializer.add(name=name, data_type=HALF, dims=list(array.shape))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return weights


def _drop_copies(model: onnx.ModelProto) -> None:
    """Let who reads a copy of a value read the value; what is copied to an output is computed under its name."""
    graph, outputs = model.graph, {v.name for v in model.graph.output}
    computed = {y for node in graph.node if node.op_type != "Identity" for y in node.output}
    same: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type != "Identity":
            nodes.append(node)
            continue
        (source,), (copy,) = (same.get(node.input[0], node.input[0]),), node.output
        if copy not in outputs:
            same[copy] = source
        elif source in computed - same.keys():
            same[source] = copy
        else:
            nodes.append(helper.make_node("Identity", [source], [copy], name=node.name))
    final = {name: same.get(found, found) for name, found in same.items()}
    _replace(nodes, final)
    del graph.node[:]
    graph.node.extend(nodes)


def _prune(model: onnx.ModelProto) -> None:
    """Leave out what no output needs."""
    graph, nodes = model.graph, []
    wanted = {v.name for v in graph.output}
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            nodes.append(node)
            wanted.update(reads(node))
    initializers = [t for t in graph.initializer if t.name in wanted]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(initializers)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give inputs and outputs their names; what else has one of these gets another."""
    wanted = set(names.values())
    inner = {y for node in _all_nodes(graph.node) for y in node.output} | {t.name for t in graph.initializer}
    mapping = {name: f"{name}#inner" for name in inner & wanted} | dict(names)
    _replace(graph.node, mapping)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = mapping.get(value.name, value.name)


def _replace(nodes: Iterable[onnx.NodeProto], mapping: Mapping[str, str]) -> None:
    """Other names for values, in the bodies of nodes as well."""
    for node in _all_nodes(nodes):
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
        for body in _bodies(node):
            for value in (*body.input, *body.output):
                value.name = mapping.get(value.name, value.name)


def _require_standard(model: onnx.ModelProto) -> None:
    for node in _all_nodes(model.graph.node):
        if node.domain:
            raise UnsupportedOperatorError(
                f"operator {node.domain}::{node.op_type} (node {node.name!r}) is not one of ONNX's own, so that the "
                f"file would not run everywhere: convert the model without it"
            )
    del model.functions[:], model.opset_import[:]
    model.opset_import.add(domain="", version=OPSET)
    model.ir_version = IR_VERSION


def _declare(model: onnx.ModelProto, shapes: Mapping[str, Sequence[Dim]]) -> None:
    """Say what the outputs are; of sizes that are not known beforehand, what can be told from the graph."""
    outputs = []
    for value in shape_inference.infer_shapes(model, data_prop=True).graph.output:
        found = value.type.tensor_type
        told: list[Dim] = [dim.dim_value if dim.HasField("dim_value") else None for dim in found.shape.dim]
        if told and told[0] is None:
            told[0] = BATCH
        outputs.append(helper.make_tensor_value_info(value.name, found.elem_type, shapes.get(value.name, told)))
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for body in _bodies(node):
            yield from _all_nodes(body.node)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [graph for a in node.attribute for graph in (*([a.g] if a.HasField("g") else []), *a.graphs)]
