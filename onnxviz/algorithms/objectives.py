"""What is maximised, as graphs: scores and their gradients with respect to the input."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from onnxviz.algorithms.goals import Goal, channel_axis
from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Sketch, cut
from onnxviz.engine.targets import SCORE, Of, add_seed
from onnxviz.errors import LayerError, OptionError
from onnxviz.manifest import Input, Layer, Output, grad_name, seed_name
from onnxviz.source import Array

CHANNELS, PLACES = "head/channels", "head/places"
"""Inputs of a cut graph: how much each channel of a layer counts (N, C), and where (N, other axes)."""


@dataclass(frozen=True)
class Objective:
    """The scores of some of the images and their gradients with respect to the input, from one graph.

    Attributes:
        rows: which images.
        key: equal for equal graphs.
        build: makes the graph, with the values ``grad/<input>`` and SCORE, (R,).
        fed: further inputs of the graph, a row for each image.
    """

    rows: Array
    key: Hashable
    build: Callable[[], Sketch]
    fed: Mapping[str, Array]


def objectives_of(units: Sequence[Goal], engine: Engine, tensor: Input, of: Of) -> list[Objective]:
    """The units by the graph that answers for them."""
    groups: dict[Hashable, list[int]] = {}
    for row, unit in enumerate(units):
        groups.setdefault((isinstance(unit.at, Layer), unit.at.name, unit.place is None), []).append(row)
    found = []
    for rows in groups.values():
        members = [units[row] for row in rows]
        make = _layer_objective if isinstance(members[0].at, Layer) else _output_objective
        found.append(make(members, np.array(rows), engine, tensor, of))
    return found


def _output_objective(units: Sequence[Goal], rows: Array, engine: Engine, tensor: Input, of: Of) -> Objective:
    output = units[0].at
    assert isinstance(output, Output)
    seeds = np.stack(np.broadcast_arrays(*(unit.weights[0] for unit in units)))

    def build() -> Sketch:
        sketch = cut(engine.graph, [output.logits, grad_name(tensor.value)], live=[seed_name(output.name)])
        add_seed(sketch, output, of, top=False, dtype=helper.np_dtype_to_tensor_dtype(seeds.dtype))
        return sketch

    return Objective(rows, ("output", output.name, of), build, {f"{seed_name(output.name)}#given": seeds})


def _layer_objective(units: Sequence[Goal], rows: Array, engine: Engine, tensor: Input, of: Of) -> Objective:
    layer = units[0].at
    assert isinstance(layer, Layer)
    if of != "logits":
        raise OptionError(f"of={of!r} is for classes: {units[0].label!r} is a unit of a layer")
    fed = {CHANNELS: np.stack([unit.weights for unit in units])}
    if units[0].place is not None:
        fed[PLACES] = np.array([unit.place for unit in units], np.int64)

    def cotangent(sketch: Sketch) -> str:
        return _cotangent(sketch, layer, placed=PLACES in fed)

    key = ("layer", layer.value, PLACES in fed)
    return Objective(rows, key, lambda: _layer_graph(engine, layer, tensor, cotangent), fed)


def square_objective(layer: Layer, engine: Engine, tensor: Input) -> Objective:
    """The sum of a layer's squares, for however many images are fed, and half of its gradient."""
    key = ("square", layer.value)
    return Objective(np.array([0]), key, lambda: _layer_graph(engine, layer, tensor, lambda _: layer.value), {})


# ----- the same in the graph -----


def _layer_graph(engine: Engine, layer: Layer, tensor: Input, cotangent: Callable[[Sketch], str]) -> Sketch:
    """The stored graph with ``grad/<layer>`` replaced by a cotangent; the score is the sum of cotangent · value."""
    gradient, given = grad_name(tensor.value), grad_name(layer.value)
    sketch = cut(engine.graph, [layer.value, gradient], given=[given])
    if given not in sketch.inputs:
        raise LayerError(f"layer {layer.name!r} does not depend on input {tensor.name!r}, which is what is changed")
    del sketch.inputs[given]
    flowing = cotangent(sketch)
    sketch.seeding.append(helper.make_node("Identity", [flowing], [given], name=given))
    rest = np.array([i for i in range(len(layer.shape)) if i != layer.axes.batch])
    wide = [sketch.add("Cast", name, to=onnx.TensorProto.FLOAT) for name in (flowing, layer.value)]
    score = sketch.add("ReduceSum", sketch.add("Mul", *wide), rest, keepdims=0)
    sketch.output(score, SCORE)
    return sketch


def _cotangent(sketch: Sketch, layer: Layer, *, placed: bool) -> str:
    """The channels' weights at the given places, or at all places, divided by their number."""
    into, value, channel = sketch.seeding, layer.value, channel_axis(layer)
    fed = sketch.input(CHANNELS, onnx.TensorProto.FLOAT, None)
    weights = _laid(sketch, sketch.add("CastLike", fed, value, into=into), channel, layer)
    shape = sketch.add("Shape", value, into=into)
    if not placed:
        spread = sketch.add("Expand", weights, shape, into=into)
        places = sketch.add("Div", sketch.add("Size", value, into=into), sketch.add("Size", fed, into=into), into=into)
        return sketch.add("Div", spread, sketch.add("CastLike", places, value, into=into), into=into)
    fed = sketch.input(PLACES, onnx.TensorProto.INT64, None)
    others = [i for i in range(len(layer.shape)) if i not in (channel, layer.axes.batch)]
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    for k, axis in enumerate(others):
        size = sketch.add("Gather", shape, np.array(axis), into=into)
        wanted = sketch.add("Mod", sketch.add("Gather", fed, np.array([k]), into=into, axis=1), size, into=into)
        here = sketch.add("Equal", sketch.add("Range", zero, size, one, into=into), wanted, into=into)
        mask = _laid(sketch, sketch.add("CastLike", here, value, into=into), axis, layer)
        weights = sketch.add("Mul", weights, mask, into=into)
    return sketch.add("Expand", weights, shape, into=into)


def _laid(sketch: Sketch, table: str, axis: int, layer: Layer) -> str:
    """A table (N, n) as a value that broadcasts over the layer, its n along an axis."""
    batch, into = layer.axes.batch or 0, sketch.seeding
    if batch > axis:
        table = sketch.add("Transpose", table, into=into, perm=[1, 0])
    rest = np.array([i for i in range(len(layer.shape)) if i not in (axis, batch)], np.int64)
    return sketch.add("Unsqueeze", table, rest, into=into) if len(rest) else table
