"""Move Transposes out of the way: what a channels-last framework computes between convolutions, done channels first.

The exporters of such frameworks put a Transpose before each convolution and pool and one back after it. Everything
between the second and the next first that can be computed in either layout (:mod:`onnxviz.graph.channels_first`) is
moved to channels first, and the pair falls away.

A layer's value keeps the layout of its framework and stays on the path, since its gradient is the total that all its
readers send back and since it can be replaced: it is computed channels first, transposed to the layer's value, and
transposed back for those who read it. Where a question needs no such value the engine drops both
(:mod:`onnxviz.engine.cut`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxviz.gradient.tape import Ops
from onnxviz.graph.channels_first import (
    Rewrite,
    is_constant,
    is_elementwise,
    permuted,
    rank,
    rewrite,
    to_first,
    to_last,
)

CHANNELS_FIRST = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth",
})  # fmt: skip
"""Operators whose results have channels on axis 1."""

PREFIX = "layout/"


def channels_first(model: ir.Model, keep: Collection[ir.Value] = ()) -> None:
    """Compute channels first what was transposed from there and is transposed back, in place, in linear time.

    Args:
        model: a normalised graph whose shapes are known.
        keep: values that stay the very values that they are; nothing is moved past them. Other graph outputs keep their
            name, layout and place on the path.
    """
    _Layout(model.graph, keep).run()
    common.RemoveUnusedNodesPass()(model)


class _Layout:
    """One walk through a graph.

    ``first`` knows for channels-last values the same channels first, None where that is made when it is asked for.
    """

    def __init__(self, graph: ir.Graph, keep: Collection[ir.Value]) -> None:
        self.graph = graph
        self.keep = frozenset(keep)
        self.rewrites = {node: found for node in graph if (found := rewrite(node)) is not None}
        self.wanted = _wanted(graph, self.rewrites, self.keep)
        self.first: dict[ir.Value, ir.Value | None] = {}
        self.born_first: set[ir.Value] = set()
        self.copies: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}
        self.replaced: list[tuple[ir.Node, list[ir.Value]]] = []
        self.outputs = {value: value for value in graph.outputs}
        self.layers = set(graph.outputs)
        self.ops = Ops(graph, prefix=PREFIX)
        self.count = 0

    def run(self) -> None:
        self.graph.outputs.clear()  # each would be searched for whenever a value takes another's place
        for node in list(self.graph):
            if node.domain == "" and node.op_type == "Transpose":
                self._transpose(node)
            elif node.domain == "" and node.op_type == "Identity":
                if node.inputs[0] in self.first and node.outputs[0] not in self.keep:
                    self.first[node.outputs[0]] = None
            elif node in self.rewrites and self._worthwhile(node, self.rewrites[node]):
                self._move(node, self.rewrites[node])
            elif node.op_type in CHANNELS_FIRST or (
                is_elementwise(node) and not self.born_first.isdisjoint(node.inputs)
            ):
                self.born_first.update(node.outputs)
        for node, moved in reversed(self.replaced):
            for old, new in zip(node.outputs, moved, strict=True):
                if old.uses():
                    self._take_over(old, self._transposed(new, to_last(rank(new))))
            self.graph.remove(node, safe=True)
        self.graph.outputs.extend(self.outputs.values())

    # ----- Transposes that are there -----

    def _transpose(self, node: ir.Node) -> None:
        x, y = node.inputs[0], node.outputs[0]
        assert x is not None
        perm = tuple(node.attributes.get_ints("perm", range(rank(x))[::-1]))
        same = None if y in self.layers or y in self.keep else self._same(x, perm)
        if same is not None:
            y.replace_all_uses_with(same)
            self.graph.remove(node, safe=True)
            return
        if y not in self.layers:  # whoever else wants this permutation does not depend on the layer
            self.copies.setdefault((x, perm), y)
        if len(perm) > 2 and list(perm) == to_last(len(perm)) and x in self.born_first and y not in self.keep:
            self.first[y] = None if y in self.layers else x

    def _same(self, x: ir.Value, perm: tuple[int, ...]) -> ir.Value | None:
        """A value that equals the transposed one."""
        if list(perm) == sorted(perm):
            return x
        if list(perm) == to_first(len(perm)) and (known := self.first.get(x)) is not None:
            return known
        before = x.producer()
        if before is not None and before.op_type == "Transpose" and x not in self.layers and x not in self.keep:
            inner = before.attributes.get_ints("perm", range(len(perm))[::-1])
            if permuted(inner, perm) == sorted(perm):
                return before.inputs[0]
        return self.copies.get((x, perm))

    # ----- nodes that are moved -----

    def _worthwhile(self, node: ir.Node, change: Rewrite) -> bool:
        """Whether Transposes are saved: some operands must lie channels first already, the result be read so."""
        if not change.settled and (self.wanted.isdisjoint(node.outputs) or not self.keep.isdisjoint(node.outputs)):
            return False
        operands = [node.inputs[i] for i in change.operands if not is_constant(node.inputs[i])]
        ready = sum(x in self.first for x in operands)
        return not change.operands or 0 < ready >= len(operands) - ready

    def _move(self, node: ir.Node, change: Rewrite) -> None:
        inputs = [*node.inputs, *[None] * (max(change.constants, default=0) + 1 - len(node.inputs))]
        for index in change.operands:
            inputs[index] = self._channels_first(inputs[index], rank(node.outputs[0]))
        for index, content in change.constants.items():
            inputs[index] = self.ops.constant(np.asarray(content))
        if change.settled:
            for index, value in enumerate(inputs):
                node.replace_input_with(index, value)
            return
        attributes = dict(node.attributes)
        attributes |= {name: ir.convenience.convert_attribute(name, value) for name, value in change.attributes.items()}
        new = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            attributes.values(),
            overload=node.overload,
            num_outputs=len(node.outputs),
            name=self._name(node.op_type),
        )
        self.graph.insert_before(node, new)
        for i, (old, value) in enumerate(zip(node.outputs, new.outputs, strict=True)):
            value.name, value.type = f"{new.name}:{i}", old.type
            value.shape = ir.Shape(permuted(list(old.shape or ()), to_first(rank(old))))
            self._introduce(value, old)
        self.replaced.append((node, list(new.outputs)))

    def _introduce(self, new: ir.Value, old: ir.Value) -> None:
        """From here on the new value is known for the old one; a layer's value is made of it at once."""
        self.born_first.add(new)
        if old in self.layers:
            layer = self._transposed(new, to_last(rank(new)))
            self._take_over(old, layer)
            self.outputs[old] = layer
            self.layers.add(layer)
            self.first[layer] = None
        else:
            self.first[old] = new

    def _channels_first(self, value: ir.Value | None, axes: int) -> ir.Value:
        """An operand channels first: known, a constant permuted, or transposed here."""
        assert value is not None
        if value.const_value is not None:
            array = value.const_value.numpy()
            array = array.reshape([1] * (axes - array.ndim) + [*array.shape])
            return self.ops.constant(array.transpose(to_first(axes)))
        known = self.first.get(value)
        return known if known is not None else self._transposed(value, to_first(rank(value)))

    def _transposed(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        key = value, tuple(perm)
        if key not in self.copies:
            node = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", perm)], name=self._name("Transpose"))
            result, producer = node.outputs[0], value.producer()
            result.name, result.type = node.name, value.type
            result.shape = ir.Shape(permuted(list(value.shape or ()), perm))
            if producer is not None:
                self.graph.insert_after(producer, node)
            else:
                self.graph.insert_before(self.graph[0], node)
            self.copies[key] = result
        return self.copies[key]

    def _take_over(self, old: ir.Value, new: ir.Value) -> None:
        """Let a value take another's place and name."""
        old.replace_all_uses_with(new)
        old.name, new.name = None, old.name

    def _name(self, op_type: str) -> str:
        self.count += 1
        return f"{PREFIX}{op_type}_{self.count}"


def _wanted(graph: ir.Graph, rewrites: Mapping[ir.Node, Rewrite], keep: Collection[ir.Value]) -> set[ir.Value]:
    """The channels-last values that somebody later wants channels first."""
    wanted: set[ir.Value] = set()
    for node in reversed(graph):
        [*inputs], [*outputs] = node.inputs, node.outputs
        if node.domain == "" and node.op_type == "Transpose":
            perm = node.attributes.get_ints("perm", ())
            reads = inputs if len(perm) > 2 and list(perm) == to_first(len(perm)) else []
        elif node.domain == "" and node.op_type == "Identity":
            reads = inputs if outputs[0] in wanted else []
        elif (change := rewrites.get(node)) is not None:
            moves = change.settled or any(y in wanted and y not in keep for y in outputs)
            reads = [inputs[i] for i in change.operands] if moves else []
        else:
            continue
        wanted.update(x for x in reads if x is not None and x.const_value is None)
    return wanted
