"""Which node of the file's graph computed a layer, and its weights."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import numpy_helper

from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Graph
from onnxviz.source import Array

MOVES = frozenset({"Identity", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Cast"})
"""Operators that change how values are laid out and not what they say."""


def computed_by(
    graph: Graph, value: str, wanted: Collection[str], through: Collection[str], stop: Collection[str]
) -> onnx.NodeProto | None:
    """The node of a ``wanted`` operator that a value comes from, through operators with one input that varies.

    Args:
        graph: of the file.
        value: where the search starts, going backwards.
        wanted: operators to be found.
        through: operators that are passed.
        stop: values that are not passed: where other layers end.
    """
    while value in graph.producer:
        node = graph.nodes[graph.producer[value]]
        if node.op_type in wanted:
            return node
        varying = [name for name in node.input if name in graph.varying]
        if node.op_type not in through or len(varying) != 1 or varying[0] in stop:
            return None
        value = varying[0]
    return None


def constant(engine: Engine, name: str) -> Array | None:
    """A value that does not depend on the inputs: a weight, or what is computed of weights; None if it does depend."""
    if name in engine.bundle.weights:
        return engine.bundle.weights[name]
    if name in engine.graph.initializers:
        return np.asarray(numpy_helper.to_array(engine.graph.initializers[name]))
    if name in engine.graph.varying or name not in engine.graph.producer:
        return None
    return engine.forward({}, [name])[name]
