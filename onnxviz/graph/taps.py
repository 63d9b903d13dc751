"""Give every tapped layer a value of its own name, on the path that all later nodes read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import onnx_ir as ir

from onnxviz.source import Tap


@contextmanager
def protected(model: ir.Model, taps: Sequence[Tap]) -> Iterator[None]:
    """Keep simplifications from passing over layers that pass their input on: each is one way among several to it."""
    wanted = {tap.value for tap in taps}
    nodes = [n for n in model.graph if n.op_type == "Identity" and n.domain == "" and n.outputs[0].name in wanted]
    for node in nodes:
        node.domain, node.op_type = "onnxviz", "Tap"
    yield
    for node in nodes:
        node.domain, node.op_type = "", "Identity"


def name_taps(model: ir.Model, taps: Sequence[Tap], outputs: dict[str, str]) -> tuple[list[Tap], dict[str, str]]:
    """Rename values after the layers that they are the output of.

    Where several layers have the same output (a ``Sequential`` and its last child) the value passes through them in the
    order of their computation, by ``Identity``, so that each has a gradient of its own.

    Args:
        model: changed in place; its graph outputs become the model's own outputs, then the taps.
        taps: layers in the order of their computation.
        outputs: the model's outputs, public name → value.

    Returns:
        The taps with ``value`` = the final value name (the layer's name, or that with ``#out`` where an input
        is called the same), and the outputs, public name → final value name.
    """
    graph = model.graph
    known = {v.name: v for v in [*graph.inputs, *graph.initializers.values(), *(y for n in graph for y in n.outputs)]}
    graph.outputs.clear()
    tapped_values = {known[tap.value] for tap in taps}
    returned = {name: _behind_identities(known[name], tapped_values) for name in outputs.values()}
    _remove_identities(graph, keep=tapped_values)
    bases = _bases([known[tap.value] for tap in taps], set(returned.values()))
    base = {name: bases.get(value.name or "", value) for name, value in returned.items()} | bases
    chains: dict[ir.Value, list[Tap]] = {}
    for tap in taps:
        chains.setdefault(base[tap.value], []).append(tap)
    names = _Names(graph)
    ends = {value: _chain(graph, value, chain, names) for value, chain in chains.items()}
    final: dict[str, str] = {}
    for public, value_name in outputs.items():
        value = base[value_name]
        if value not in ends:
            given = value.is_graph_input() or value.is_initializer()
            ends[value] = [_identity(graph, value) if given else value]
            ends[value][0].name = names.take(public, ends[value][0])
        final[public] = ends[value][-1].name or ""
    tapped = {tap.name: value for value, chain in chains.items() for tap, value in zip(chain, ends[value], strict=True)}
    placed = [Tap(t.name, tapped[t.name].name or "", t.type, t.parameters) for t in taps]
    wanted = dict.fromkeys([*final.values(), *(t.value for t in placed)])
    by_name = {y.name: y for node in graph for y in node.outputs}
    graph.outputs.extend(by_name[name] for name in wanted)
    _remove_identities(graph, keep=set(graph.outputs))
    return placed, final


def _behind_identities(value: ir.Value, stop: set[ir.Value]) -> ir.Value:
    """What a value is an identity of, as far as the first value of ``stop``."""
    while value not in stop and (node := value.producer()) is not None and node.op_type == "Identity":
        if node.domain != "" or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _bases(values: Sequence[ir.Value], returned: Collection[ir.Value]) -> dict[str, ir.Value]:
    """The value that each tapped value is computed as.

    A layer may pass its input on. If nothing else reads that input, nor does the model return it, the two are one
    value. Else the layer is a branch of its own and keeps its Identity: what flows back through it is not what flows
    back to its input, and is nothing where nobody reads the layer.
    """
    found: dict[str, ir.Value] = {}
    for value in dict.fromkeys(values):
        base, node = value, value.producer()
        while node is not None and node.op_type == "Identity" and node.domain == "" and node.inputs[0] is not None:
            source = node.inputs[0]
            shared = len(source.uses()) > 1 or source in returned or source in found.values()
            if shared or source.producer() is None:
                break
            base.replace_all_uses_with(source)
            base, node = source, source.producer()
        found[value.name or ""] = base
    return found


def _chain(graph: ir.Graph, value: ir.Value, chain: Sequence[Tap], names: _Names) -> list[ir.Value]:
    """One value per tap: the computed value itself, then identities; who read it before reads the last of them."""
    readers = list(value.uses())
    values: list[ir.Value] = []
    for tap in chain:
        first = not values and value.producer() is not None
        values.append(value if first else _identity(graph, values[-1] if values else value))
        values[-1].name = names.take(tap.name, values[-1])
    for node, index in readers:
        node.replace_input_with(index, values[-1])
    return values


def _identity(graph: ir.Graph, value: ir.Value) -> ir.Value:
    node = ir.Node("", "Identity", [value])
    result = node.outputs[0]
    result.shape, result.type = value.shape, value.type
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    return result


def _remove_identities(graph: ir.Graph, keep: set[ir.Value]) -> None:
    """Drop identities other than ``keep``: what hooks left behind."""
    for node in reversed(list(graph)):
        if node.op_type == "Identity" and node.domain == "" and node.outputs[0] not in keep:
            source = node.inputs[0]
            if source is not None and not node.outputs[0].is_graph_output():
                node.outputs[0].replace_all_uses_with(source)
                graph.remove(node, safe=True)


RESERVED = ("grad/", "seed/", "head/", "backward/", "layout/", "lean/")
"""What names of the file's own begin with; a layer that is called so gets ``#`` in front of its value's name."""


class _Names:
    """Value names in use; a layer's name drives others out, except an input's."""

    def __init__(self, graph: ir.Graph) -> None:
        self.inputs = {v.name for v in graph.inputs}
        self.values = {v.name: v for v in [*graph.initializers.values(), *(y for n in graph for y in n.outputs)]}
        self.fixed: set[str] = set()

    def take(self, name: str, value: ir.Value) -> str:
        while name in self.inputs or name in self.fixed or name.startswith(RESERVED):
            name = f"#{name}" if name.startswith(RESERVED) else f"{name}#out"
        holder = self.values.get(name)
        if holder is not None and holder is not value:
            self._move(holder, name)
        if self.values.get(value.name) is value:
            del self.values[value.name]
        self.fixed.add(name)
        self.values[name] = value
        return name

    def _move(self, holder: ir.Value, name: str) -> None:
        """Give an internal value that has a layer's name another one."""
        other, count = f"{name}#in", 1
        while other in self.values or other in self.inputs or other in self.fixed:
            count += 1
            other = f"{name}#in{count}"
        holder.name = other
        self.values[other] = holder
