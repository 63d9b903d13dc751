"""Whether a graph that came in a file holds together: checked before anything is read from it, expanded or run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import onnx
from google.protobuf.message import Message

from onnxviz.errors import FileFormatError

MOST_NODES = 10**5
"""Of a graph whose functions are expanded: forty that each call the one before twice make a million million."""

MOST_FUNCTIONS = 10**4
"""Of a model: with more of them ONNX infers no shapes."""

MOST_NUMBERS = 2**48
"""Of one value, as far as its shape says: a thousand times what computers hold."""

MOST_AXES = 1000
"""Of a value: who infers shapes makes a list of them before anything is computed."""
_SHAPED_BY = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Tile": 1}
"""Operators whose result has the sizes that one of their inputs lists: which."""
_KINDS = {number: name for name, number in onnx.TensorProto.DataType.items()}
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


_Scopes = tuple[set[str], ...]
"""The names that a sub-graph may read from the graphs around it."""


class _Function(NamedTuple):
    domain: str
    name: str
    overload: str


def require_sound(model: onnx.ModelProto, called: str) -> None:
    """Raise FileFormatError unless the model holds together.

    Each name is given once and before it is read; stored tensors have a known type and as many numbers as their shape
    says; functions neither call themselves nor expand beyond :data:`MOST_NODES`, and calls fit them; where constants
    tell it, no value has more than :data:`MOST_AXES` axes.

    Args:
        model: weights may be external; where those lie is checked by who reads them.
        called: the model in the message.
    """
    try:
        _check_text(model)
        _check_functions(model)
        _check_attributes(all_nodes(model.graph.node), model.opset_import)
        _check_graph(model.graph, ())
        for function in model.functions:
            _check_attributes(all_nodes(function.node), function.opset_import)
            _check_names([*function.input], function.node, function.output, ())
        for tensor in stored_tensors(model):
            _check_tensor(tensor)
        for nodes, constants in ((model.graph.node, model.graph.initializer), *((f.node, ()) for f in model.functions)):
            _check_sizes(nodes, constants)
    except ValueError as error:
        raise FileFormatError(f"{called} is damaged: {error}; copy or export it again") from error


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All numbers that a model stores: initializers, and attributes of nodes, in sub-graphs and functions, too."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _attributes_of(function.node)


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """What a tensor's numbers take, by its shape and type."""
    bits: int = prod(tensor.dims) * _bits(_KINDS[tensor.data_type])
    return -(-bits // 8)


def subgraphs(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    """The graphs that an attribute holds (the branches of If, the bodies of loops)."""
    return [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attributes_of(graph.node)


def _attributes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []:
                yield from (sparse.values, sparse.indices)
            for inner in subgraphs(attribute):
                yield from _tensors_of(inner)


def _check_attributes(nodes: Iterable[onnx.NodeProto], imported: Iterable[onnx.OperatorSetIdProto]) -> None:
    """Attributes of operators that ONNX defines have the type that it defines, and required ones are there."""
    versions = {each.domain: each.version for each in imported}
    versions.setdefault("", versions.get("ai.onnx", 0))
    for node in nodes:
        version = versions[""]
        if (
            node.domain not in ("", "ai.onnx")
            or not 0 < version < 2**31
            or not onnx.defs.has(node.op_type, version, "")
        ):
            continue
        known: Any = onnx.defs.get_schema(node.op_type, version, "").attributes
        given = {attribute.name: attribute for attribute in node.attribute}
        for name, attribute in known.items():
            if name in given and given[name].type != attribute.type.value:
                raise ValueError(f"the attribute {name!r} of {node.op_type} {node.name!r} is no {attribute.type.name}")
            if attribute.required and name not in given:
                raise ValueError(f"{node.op_type} {node.name!r} lacks the attribute {name!r}")


def _check_text(message: Message) -> None:
    """Names are text: of what is not UTF-8 protobuf gives the bytes."""
    for field, value in message.ListFields():
        each = [value] if isinstance(value, Message | str | bytes) else value
        if field.type == field.TYPE_MESSAGE:
            for inner in each:
                _check_text(inner)
        elif field.type == field.TYPE_STRING:
            odd = [name for name in each if isinstance(name, bytes)]
            if odd:
                raise ValueError(f"the {field.name} {odd[0][:50]!r} is no text")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    kind = _KINDS.get(tensor.data_type, "UNDEFINED")
    if kind == "UNDEFINED":
        raise ValueError(f"the tensor {tensor.name!r} has the unknown type {tensor.data_type}")
    if any(size < 0 for size in tensor.dims) or prod(max(size, 1) for size in tensor.dims) > MOST_NUMBERS:
        raise ValueError(f"the tensor {tensor.name!r} has the impossible shape {list(tensor.dims)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if kind == "STRING":
            raise ValueError(f"the text {tensor.name!r} is said to lie in another file, where only numbers do")
        return
    bits = _bits(kind)
    if tensor.HasField("raw_data"):
        what, needed, there = "bytes", stored_bytes(tensor), len(tensor.raw_data)
    else:
        what, needed = "numbers", prod(tensor.dims) * (2 if kind.startswith("COMPLEX") else 1)
        there = max(len(getattr(tensor, field)) for field in _FIELDS)
    if needed != there and bits >= 8:  # smaller ones are packed in ways of their own
        raise ValueError(
            f"the tensor {tensor.name!r} of shape {list(tensor.dims)} needs {needed} {what}, {there} are there"
        )


def _bits(kind: str) -> int:
    """Of one number, by the name of its type."""
    return {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "STRING": 8}.get(kind) or int(re.findall(r"\d+", kind)[0])


def _check_graph(graph: onnx.GraphProto, outer: _Scopes) -> None:
    inputs = [each.name for each in graph.input]
    constants = [each.name for each in graph.initializer]
    constants += [each.values.name for each in graph.sparse_initializer]
    for what, names in (("inputs", inputs), ("stored values", constants)):
        if len(set(names)) < len(names):
            twice, _ = Counter(names).most_common(1)[0]
            raise ValueError(f"two of its {what} have the name {twice!r}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type not in _KINDS:
            raise ValueError(f"the value {value.name!r} has the unknown type {value.type.tensor_type.elem_type}")
    _check_names([*dict.fromkeys([*inputs, *constants])], graph.node, [each.name for each in graph.output], outer)


def _check_names(given: list[str], nodes: Iterable[onnx.NodeProto], outputs: Iterable[str], outer: _Scopes) -> None:
    """Each value is computed once, from values that are there."""
    own = set(given)
    for node in nodes:
        if missing := [name for name in node.input if name and name not in own and not _known(name, outer)]:
            raise ValueError(f"{node.op_type} {node.name!r} reads {missing[0]!r}, which nothing before it computes")
        for attribute in node.attribute:
            for inner in subgraphs(attribute):
                _check_graph(inner, (*outer, own))
        for name in filter(None, node.output):
            if name in own:
                raise ValueError(f"the value {name!r} is computed twice")
            own.add(name)
    if missing := [name for name in outputs if name not in own and not _known(name, outer)]:
        raise ValueError(f"the output {missing[0]!r} is computed by no node")


def _check_sizes(nodes: Iterable[onnx.NodeProto], stored: Iterable[onnx.TensorProto]) -> None:
    """What is reshaped or expanded to a constant size is not, as a list of sizes, longer than values have axes."""
    constants = {tensor.name: tensor for tensor in stored}
    lengths: dict[str, int] = {}
    for node in nodes:
        for attribute in node.attribute:
            for inner in subgraphs(attribute):
                _check_sizes(inner.node, (*constants.values(), *inner.initializer))
            if attribute.type == onnx.AttributeProto.TENSOR:
                constants |= dict.fromkeys(node.output, attribute.t)
        place = _SHAPED_BY.get(node.op_type, len(node.input))
        if place >= len(node.input):
            continue
        listed = node.input[place]
        if lengths.get(listed, 0) > MOST_AXES:
            raise ValueError(f"{node.op_type} {node.name!r} makes a value of {lengths[listed]:,} axes")
        sizes = _integers(constants.get(listed))
        lengths |= dict.fromkeys(node.output, prod(size for size in sizes if size > 0))


def _integers(tensor: onnx.TensorProto | None) -> list[int]:
    """The numbers of a short list of sizes; none where it is anything else."""
    if tensor is None or tensor.data_type != onnx.TensorProto.INT64 or prod(tensor.dims) > MOST_AXES:
        return []
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return []
    found: list[int] = onnx.numpy_helper.to_array(tensor).ravel().tolist()
    return found


def _known(name: str, scopes: _Scopes) -> bool:
    return any(name in scope for scope in scopes)


def _check_functions(model: onnx.ModelProto) -> None:
    functions = {_Function(each.domain, each.name, each.overload): each for each in model.functions}
    if len(functions) < len(model.functions):
        raise ValueError("two of its functions have the same name")
    if len(functions) > MOST_FUNCTIONS:
        raise ValueError(f"it has more than {MOST_FUNCTIONS:,} functions")
    sizes: dict[_Function, int] = {}
    for key in functions:
        _expanded(key, functions, sizes, ())
    if sum(_calls(model.graph.node, functions, sizes)) > MOST_NODES:
        raise ValueError(f"its functions, expanded, are more than {MOST_NODES:,} nodes")


def _expanded(
    key: _Function,
    functions: dict[_Function, onnx.FunctionProto],
    sizes: dict[_Function, int],
    path: tuple[_Function, ...],
) -> int:
    """How many nodes a call of a function becomes."""
    if key in path or len(path) > 100:
        raise ValueError(f"the function {key.name!r} calls itself, or a hundred others one within the other")
    if key not in sizes:
        for node in all_nodes(functions[key].node):
            if (inner := _called(node)) in functions:
                _expanded(inner, functions, sizes, (*path, key))
        sizes[key] = min(sum(_calls(functions[key].node, functions, sizes)), 2 * MOST_NODES)
    return sizes[key]


def _calls(
    nodes: Iterable[onnx.NodeProto], functions: dict[_Function, onnx.FunctionProto], sizes: dict[_Function, int]
) -> Iterator[int]:
    """What each node becomes when functions are expanded; calls must fit their functions."""
    for node in all_nodes(nodes):
        function = functions.get(_called(node))
        if function is not None:
            given = {attribute.name for attribute in node.attribute}
            if len(node.input) > len(function.input) or len(node.output) > len(function.output):
                raise ValueError(f"{node.op_type} {node.name!r} has more inputs or outputs than its function")
            if lacking := set(function.attribute) - given:
                raise ValueError(f"{node.op_type} {node.name!r} lacks the attribute {min(lacking)!r} of its function")
        yield sizes[_called(node)] if function is not None else 1


def _called(node: onnx.NodeProto) -> _Function:
    return _Function(node.domain, node.op_type, node.overload)


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their sub-graphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in subgraphs(attribute):
                yield from all_nodes(inner.node)
