"""The learned weights of a file by layer, and engines in which some of them are random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Graph, reads
from onnxviz.manifest import Manifest
from onnxviz.source import Array

_PLACES = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "Einsum": (0, 1, 2),
    "BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2), "PRelu": (1,), "LSTM": (1, 2, 3), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "Gather": (0,),
    "Add": (0, 1), "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1),
}  # fmt: skip
"""Operator → which of its inputs may be learned. Others' constants are limits, scales and paddings."""
_MASKED = 1e9
"""Numbers as large as this stand in masks, not in weights."""


@dataclass(frozen=True)
class Weighted:
    """A layer with the names of the initializers that it learned, and how many numbers these are."""

    layer: str
    names: tuple[str, ...]
    size: int


def weighted_layers(engine: Engine) -> tuple[Weighted, ...]:
    """The layers that learned something, from the input to the output.

    A weight counts to the first tapped layer after the operator that reads it, or to the output; one that several
    layers share to the last of them. Weights whose numbers are all the same are left out: no order of them is another.
    """
    graph, manifest = engine.graph, engine.bundle.manifest
    owners = _owners(graph, manifest)
    last: dict[str, tuple[int, str]] = {}
    carried: dict[str, frozenset[str]] = {}
    for index, node in enumerate(graph.nodes):
        if not graph.cotangents.isdisjoint(node.output):
            continue
        places = _PLACES.get(node.op_type, ()) if not node.domain else ()
        direct = {node.input[i] for i in places if i < len(node.input) and node.input[i] in graph.initializers}
        found = frozenset(direct).union(*(carried.get(name, ()) for name in reads(node)))
        if graph.varying.isdisjoint(node.output):
            carried.update(dict.fromkeys(node.output, found))
        elif owner := next((owners[y] for y in node.output if y in owners), None):
            last.update(dict.fromkeys(found, (index, owner)))
    return _grouped(engine, last)


def randomised(engine: Engine, groups: Iterable[Weighted], seed: int) -> Engine:
    """The engine with these layers' weights, each array's own numbers in a random order.

    That takes what was learned and keeps the numbers' distribution: activations stay in their range and variances
    positive. The order depends on the seed and the weight's name alone.
    """
    names = [name for group in groups for name in group.names]
    arrays = {name: weight_of(engine, name) for name in names}
    return engine.with_weights({name: _shuffled(array, seed, name) for name, array in arrays.items()})


def weight_of(engine: Engine, name: str) -> Array:
    """An initializer of the file."""
    if name in engine.bundle.weights:
        return engine.bundle.weights[name]
    return np.asarray(numpy_helper.to_array(engine.graph.initializers[name]))


def _shuffled(array: Array, seed: int, name: str) -> Array:
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.permutation(array.reshape(-1)).reshape(array.shape)


def _owners(graph: Graph, manifest: Manifest) -> dict[str, str]:
    """Value → the first layer, or else output, that is computed from it."""
    taps = {t.value: t.name for t in (*manifest.outputs, *manifest.layers)}
    owners = dict(taps)
    for node in reversed(graph.nodes):
        if graph.cotangents.isdisjoint(node.output):
            found = next((owners[y] for y in node.output if y in owners), None)
            if found is not None:
                for name in reads(node):
                    owners[name] = taps.get(name, found)
    return owners


def _grouped(engine: Engine, last: dict[str, tuple[int, str]]) -> tuple[Weighted, ...]:
    members: dict[str, list[str]] = {}
    for name, (_, layer) in sorted(last.items(), key=lambda item: item[1][0]):
        if _learned(engine, name):
            members.setdefault(layer, []).append(name)
    return tuple(Weighted(layer, tuple(names), _size(engine, names)) for layer, names in members.items())


def _size(engine: Engine, names: Sequence[str]) -> int:
    return sum(int(np.prod(engine.graph.initializers[name].dims)) for name in names)


def _learned(engine: Engine, name: str) -> bool:
    kind = engine.graph.initializers[name].data_type
    if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        return False
    array = weight_of(engine, name)
    if array.size < 2 or not bool((np.abs(array) < _MASKED).all()):
        return False
    return bool(array.min() < array.max())
