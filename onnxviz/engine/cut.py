"""Cut the sub-graph that a question needs. ONNX Runtime computes all of a graph whatever outputs are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.bundle import Bundle
from onnxviz.manifest import IR_VERSION, OF_GRADIENT, PROJECT_DOMAIN
from onnxviz.source import Array


class Graph:
    """A file's graph, indexed once: who computes a value, and what depends on the inputs and on the seeds."""

    def __init__(self, bundle: Bundle) -> None:
        proto = bundle.skeleton.graph
        self.bundle = bundle
        self.nodes: list[onnx.NodeProto] = list(proto.node)
        self.producer = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.initializers = {t.name: t for t in proto.initializer}
        self.info = {v.name: v for v in (*proto.input, *proto.output, *proto.value_info)}
        self.seeds = frozenset(v.name for v in proto.input) - {t.name for t in bundle.manifest.inputs}
        self.varying = self._downstream({t.name for t in bundle.manifest.inputs})
        self.cotangents = self._downstream(self.seeds)

    def _downstream(self, names: Collection[str]) -> frozenset[str]:
        reached = set(names)
        for node in self.nodes:
            if not reached.isdisjoint(reads(node)):
                reached.update(node.output)
        return frozenset(reached)

    def sizes(self, name: str) -> tuple[int, ...] | None:
        """A float32 value's sizes but the first, which counts samples; None where some are not known, or it is none."""
        info = self.info.get(name)
        if info is None or info.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            return None
        dims = info.type.tensor_type.shape.dim[1:]
        return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None

    def needed(self, values: Iterable[str], given: Collection[str]) -> list[int]:
        """Indices of the nodes that compute ``values`` where ``given`` is known, in order."""
        found: set[int] = set()
        stack = list(values)
        while stack:
            name = stack.pop()
            index = None if name in given else self.producer.get(name)
            if index is not None and index not in found:
                found.add(index)
                stack.extend(reads(self.nodes[index]))
        return sorted(found)

    def boundary(self, values: Iterable[str], given: Collection[str]) -> list[str]:
        """What the backward pass towards ``values`` reads of the forward pass."""
        backward = [self.nodes[i] for i in self.needed(values, given)]
        read = [x for n in backward if not self.cotangents.isdisjoint(n.output) for x in reads(n)]
        read += [v for v in values if v not in self.cotangents]
        return [x for x in dict.fromkeys(read) if x in self.varying and x not in self.cotangents]


@dataclass
class Sketch:
    """A model under construction: nodes of the file and nodes added to them.

    The file's nodes are in two groups, so that a seed can be computed between the forward and the backward pass.
    """

    graph: Graph
    forward: list[onnx.NodeProto] = field(default_factory=list)
    seeding: list[onnx.NodeProto] = field(default_factory=list)
    backward: list[onnx.NodeProto] = field(default_factory=list)
    closing: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.functions = self.functions or list(self.graph.bundle.skeleton.functions)

    def add(
        self, op_type: str, *inputs: str | Array, into: list[onnx.NodeProto] | None = None, **attributes: Any
    ) -> str:
        """Append a node (to ``closing``, or ``into``) and return the name of its output."""
        self.count += 1
        name = f"head/{op_type}_{self.count}"
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        node = helper.make_node(op_type, names, [name], name=name, **attributes)
        (self.closing if into is None else into).append(node)
        return name

    def constant(self, array: Array) -> str:
        """A constant with this content."""
        self.count += 1
        name = f"head/const_{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def input(self, name: str, dtype: int, shape: Sequence[int | str | None] | None) -> str:
        """Declare an input of the cut graph."""
        self.inputs[name] = helper.make_tensor_value_info(name, dtype, shape)
        return name

    def output(self, name: str, called: str) -> None:
        """Make a value an output under a name of its own."""
        self.closing.append(helper.make_node("Identity", [name], [called], name=called))
        self.outputs.append(called)

    def model(self) -> onnx.ModelProto:
        """The finished model, with the file's functions and those initializers that it reads."""
        skeleton = self.graph.bundle.skeleton
        nodes = [*self.forward, *self.seeding, *self.backward, *self.closing]
        made = {name for node in nodes for name in node.output} | self.inputs.keys()
        read = {name for node in nodes for name in reads(node)}
        proto = helper.make_graph(
            nodes,
            "cut",
            list(self.inputs.values()),
            [onnx.ValueInfoProto(name=name) for name in self.outputs],
            [*(t for name, t in self.graph.initializers.items() if name in read - made), *self.constants],
            value_info=self._shapes(nodes),
        )
        used = {(node.domain, node.op_type) for node in nodes}
        functions = [f for f in self.functions if (f.domain, f.name) in used or f.domain == PROJECT_DOMAIN]
        return helper.make_model(proto, opset_imports=skeleton.opset_import, functions=functions, ir_version=IR_VERSION)

    def _shapes(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.ValueInfoProto]:
        """The gradients' shapes, as the file states them, but for one thing: their batch is that of the values.

        In the file the two may differ, since a seed has a default. Where onnxruntime knows that they do not, it keeps
        sums and products of both in the layout of its convolutions. What it infers of pools that round up contradicts
        what they compute, so in a graph with one of these it is told nothing.
        """
        if any(a.name == "ceil_mode" and a.i for node in nodes for a in node.attribute):
            return []
        made = {name for node in nodes for name in node.output}
        shapes = []
        for name in sorted(made & self.graph.info.keys() & self.graph.cotangents):
            info = onnx.ValueInfoProto()
            info.CopyFrom(self.graph.info[name])
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_param = dim.dim_param.replace(OF_GRADIENT, "")
            shapes.append(info)
        return shapes


def cut(graph: Graph, values: Iterable[str], *, given: Collection[str] = (), live: Collection[str] = ()) -> Sketch:
    """The part of the graph that computes ``values``.

    Args:
        graph: the file's graph.
        values: what is wanted.
        given: values that the caller feeds instead of computing them; they become inputs.
        live: seeds that are not zero. Everything in the backward pass is linear in the seeds and in given gradients, so
            what depends on none of the live ones is zero and is left out.
    """
    sketch = Sketch(graph)
    given, values = set(given), list(values)
    indices = graph.needed(values, given)
    sources = set(live) | (given & graph.cotangents)
    zero: set[str] = set(graph.seeds - sources)
    kept: list[onnx.NodeProto] = []
    for index in indices:
        node = graph.nodes[index]
        flowing = [x for x in node.input if x in graph.cotangents]
        if flowing and all(x in zero for x in flowing):
            zero.update(node.output)
        alive = [x for x in node.input if x not in zero]
        if node.op_type == "Add" and flowing and len(alive) == 1:
            node = helper.make_node("Identity", alive, node.output, name=node.name)
        kept.append(node)
    captured = {name for node in kept for name in reads(node)[len(node.input) :]}
    _fill(sketch, _direct(kept, captured.union(values)), values, given)
    return sketch


def reads(node: onnx.NodeProto) -> list[str]:
    """What a node reads: its inputs, then what the bodies of If, Loop and Scan take from outside."""
    names = list(node.input)
    for graph in (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)):
        inner = {t.name for t in (*graph.input, *graph.initializer)} | {y for n in graph.node for y in n.output}
        names += [x for n in graph.node for x in reads(n) if x not in inner]
    return names


def _direct(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Let who reads a copy of a value, or a Transpose of its Transpose back, read the value.

    Layers keep their framework's layout, between operators that may want another: where a question neither takes nor
    gives a layer's value (or its gradient), two Transposes meet. What nobody reads then stays behind.
    """
    same: dict[str, str] = {}
    transposed: dict[str, tuple[str, list[int]]] = {}
    found = []
    for node in nodes:
        if not same.keys().isdisjoint(node.input):
            renamed = onnx.NodeProto()
            renamed.CopyFrom(node)
            renamed.input[:] = [same.get(name, name) for name in node.input]
            node = renamed  # noqa: PLW2901 - the same node with other inputs
        origin = node.input[0] if node.domain == "" and node.op_type == "Identity" else None
        if node.domain == "" and node.op_type == "Transpose" and node.attribute:
            perm = list(node.attribute[0].ints)
            before, inner = transposed.get(node.input[0], ("", []))
            if [inner[axis] for axis in perm if inner] == sorted(perm):
                origin = before
            transposed[node.output[0]] = node.input[0], perm
        if origin is not None:
            same[node.output[0]] = origin
            node = helper.make_node("Identity", [origin], node.output, name=node.name)  # noqa: PLW2901
        if origin is None or node.output[0] in wanted:
            found.append(node)
    return found


def _fill(sketch: Sketch, kept: list[onnx.NodeProto], values: list[str], given: set[str]) -> None:
    """Keep of ``kept`` what ``values`` still read once sums have lost their zero terms; declare the inputs."""
    graph, wanted, nodes = sketch.graph, set(values), []
    for node in reversed(kept):
        if not wanted.isdisjoint(node.output):
            nodes.append(node)
            wanted.update(reads(node))
    for node in reversed(nodes):
        if not given.isdisjoint(node.output):  # one of several outputs of a node: what is given takes its name
            renamed = onnx.NodeProto()
            renamed.CopyFrom(node)
            renamed.output[:] = [f"{name}#computed" if name in given else name for name in node.output]
            node = renamed  # noqa: PLW2901 - the same node under other names
        (sketch.forward if graph.cotangents.isdisjoint(node.output) else sketch.backward).append(node)
    model_inputs = {t.name for t in graph.bundle.manifest.inputs}
    for name in sorted(wanted & (given | model_inputs)):
        info = graph.info.get(name)
        sketch.inputs[name] = info if info is not None else onnx.ValueInfoProto(name=name)
