"""Where a class activation map is taken: a layer's channels and its places in space.

Transformers keep their places in a row of tokens, behind some that stand for no place (class, registers). Their grid is
that of the patches: the shape of the map from which the row was made, or of one that is 2, 4, 8 … times smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.engine.cut import Graph, Sketch
from onnxviz.engine.layers import LayerTable
from onnxviz.errors import LayerError, OptionError
from onnxviz.manifest import Layer

MOST_OTHER_TOKENS = 16
"""Rows have at most so many tokens that stand for no place: one for the class, one for a teacher, 4 or 8 registers."""


@dataclass(frozen=True)
class Site:
    """A layer, and which of its axes are channels and space.

    Attributes:
        layer: the layer.
        channel: the axis of its channels.
        space: the axes of its places, one for tokens.
        grid: the rows and columns of tokens; None where the axes are space's own.
        others: how many tokens before the grid stand for no place.
    """

    layer: Layer
    channel: int
    space: tuple[int, ...]
    grid: tuple[int, int] | None = None
    others: int = 0

    @property
    def dimensions(self) -> int:
        """How many axes the map has, beside the batch."""
        return 2 if self.grid else len(self.space)

    def places(self, sketch: Sketch, value: str) -> str:
        """The layer's values (or their gradient) without tokens that stand for no place."""
        if not self.others or self.grid is None:
            return value
        axis, stop = self.space[0], self.others + math.prod(self.grid)
        return sketch.add("Slice", value, np.array([self.others]), np.array([stop]), np.array([axis]))

    def heat(self, sketch: Sketch, weighted: str) -> str:
        """From weighted channels (N, …) to the map (N, *spatial): summed and rectified."""
        summed = sketch.add("ReduceSum", weighted, np.array([self.channel]), keepdims=0)
        rest = [i for i in range(len(self.layer.shape)) if i != self.channel]
        order = [rest.index(i) for i in (self.layer.axes.batch or 0, *self.space)]
        if order != sorted(order):
            summed = sketch.add("Transpose", summed, perm=order)
        if self.grid:
            summed = sketch.add("Reshape", summed, np.array([0, *self.grid]))
        return sketch.add("Relu", summed)


def site_of(table: LayerTable, graph: Graph, layer: str | int, grid: Sequence[int] | None = None) -> Site:
    """The site of a layer by name, index, or ``"auto"``.

    Args:
        table: the file's layers.
        graph: of the file.
        layer: ``"auto"`` is the last layer with gradient and more than one place in space, before the spatial axes
            collapse, that is not pooling, dropout, padding or reshaping. Of a transformer whose classifier reads one
            token it is the last normalisation before tokens are mixed for the last time: behind it the score depends on
            that token alone.
        grid: rows and columns of the tokens, where they cannot be told from the layers' shapes.

    Raises:
        LayerError: the layer has no gradient, or no known channels and places.
        OptionError: ``grid`` does not fit.
    """
    if layer == "auto" and "auto" not in {each.name for each in table}:
        return _last(table, graph, grid)
    chosen = table.explainable(layer)
    found = _of(chosen, table, grid)
    if found is None:
        wanted = "pass grid=(rows, columns) if its tokens are the patches of an image, or take "
        raise LayerError(
            f"layer {chosen.name!r} (shape {list(chosen.shape)}) has no known channel and spatial axes, so no class "
            f"activation map can be taken there: {wanted}{_last(table, graph, None).layer.name!r}, the last that has"
        )
    return found


def _of(layer: Layer, table: LayerTable, grid: Sequence[int] | None = None) -> Site | None:
    axes = layer.axes
    roles = {axes.batch, axes.channel, *axes.spatial}
    if axes.channel is not None and axes.spatial and roles == set(range(len(layer.shape))) and grid is None:
        return Site(layer, axes.channel, axes.spatial)
    if len(layer.shape) != 3 or axes.batch != 0 or axes.channel not in (1, 2):
        return None
    row = 3 - axes.channel
    tokens = layer.shape[row]
    if not isinstance(tokens, int):
        return None
    found = _checked(grid, tokens, layer) if grid is not None else _patches(layer, table, tokens)
    return Site(layer, axes.channel, (row,), found, tokens - math.prod(found)) if found else None


def _checked(grid: Sequence[int], tokens: int, layer: Layer) -> tuple[int, int]:
    sizes = tuple(int(n) for n in grid)
    if len(sizes) != 2 or min(sizes) < 1 or math.prod(sizes) > tokens:
        raise OptionError(
            f"grid={tuple(grid)!r}: expected rows and columns of the {tokens} tokens of layer {layer.name!r}"
        )
    return sizes[0], sizes[1]


def _patches(layer: Layer, table: LayerTable, tokens: int) -> tuple[int, int] | None:
    """The grid of an image-like layer before this one, or one that is a power of 2 smaller, that has as many places."""
    for before in table[: list(table).index(layer)]:
        sizes = [before.shape[axis] for axis in before.axes.spatial]
        if len(sizes) != 2:
            continue
        height, width = sizes
        while isinstance(height, int) and isinstance(width, int) and height * width > 1:
            if 0 <= tokens - height * width <= min(MOST_OTHER_TOKENS, height * width - 1):
                return height, width
            height, width = -(-height // 2), -(-width // 2)
    return None


def _last(table: LayerTable, graph: Graph, grid: Sequence[int] | None) -> Site:
    try:
        axes = table.cam("auto")
    except LayerError:
        axes = None
    rows = [site for each in table if each.has_gradient and (site := _of(each, table, grid)) and site.grid]
    reached = graph.needed(_mixed(graph), ())
    before = {name for i in reached for name in graph.nodes[i].output}
    mixed = [site for site in rows if site.layer.value in before]
    norms = [site for site in mixed if site.layer.operator == "LayerNormalization"]
    if found := (norms or mixed):
        position = list(table).index
        if axes is None or position(found[-1].layer) > position(axes):
            return found[-1]
    chosen = _of(table.cam("auto"), table)
    assert chosen is not None
    return chosen


def _mixed(graph: Graph) -> list[str]:
    """What the last product of two values reads that both depend on the input: there tokens meet for the last time."""
    for node in reversed(graph.nodes):
        varying = [x for x in node.input if x in graph.varying and x not in graph.cotangents]
        if node.op_type in ("MatMul", "Einsum") and len(varying) > 1 and graph.cotangents.isdisjoint(node.output):
            return varying
    return []
