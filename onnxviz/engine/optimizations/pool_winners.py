"""The winners of max pools, found by operators that onnxruntime computes in the layout of its convolutions.

MaxPool with Indices is a scalar loop there, many times slower than MaxPool without. But the winners follow from the
largest values: a convolution with −1 at one place of the window and 0 elsewhere gives −x_k, each window's value at that
place, and y − x_k is 0 where it won, else positive. So u_k = HardSigmoid(∞·(y − x_k)) is 0 or 1, the product
u_0·…·u_(k−1) tells whether none of the first k places won, and the sum of these products over k is the number of the
first place that did. All of it is exact, ties included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, product

import numpy as np
import onnx
from onnx import helper

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations.blocks import BLOCK, STEEP
from onnxviz.engine.optimizations.masks import MAX_POOL_GRAD, RELU_GRAD, pooled_values, window_of
from onnxviz.source import Array

MOST_PLACES = 49
"""Of a window: the graph grows with each."""

LOWEST = np.float32(np.finfo(np.float32).min)

Add = Callable[..., str]


@dataclass(frozen=True)
class Windows:
    """Where the windows of a pool over images (N, channels, rows, columns) lie."""

    channels: int
    image: tuple[int, int]
    count: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    begin: tuple[int, int]

    @property
    def end(self) -> tuple[int, ...]:
        """How far the last windows reach beyond the image."""
        axes = zip(self.count, self.strides, self.kernel, self.begin, self.image, strict=True)
        return tuple(max(0, (n - 1) * s + k - b - size) for n, s, k, b, size in axes)

    @property
    def first(self) -> Array:
        """The number in the image of each window's first place, (1, 1, rows, columns)."""
        rows, columns = (np.arange(n) * s - b for n, s, b in zip(self.count, self.strides, self.begin, strict=True))
        numbers: Array = (rows[:, None] * self.image[1] + columns)[None, None].astype(np.float32)
        return numbers

    def picking(self, row: int, column: int) -> Array:
        """The kernels, one for each channel, that give a place of each window, negated."""
        kernels = np.zeros((self.channels, 1, *self.kernel), np.float32)
        kernels[:, 0, row, column] = -1
        return kernels


def rewrite(sketch: Sketch) -> None:
    """Replace the gradients of max pools whose sizes are known and whose channels fill blocks."""
    pooled = pooled_values(sketch)
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        is_pool = (node.domain, node.op_type) == MAX_POOL_GRAD
        y = pooled.get(window_of(node, node.input[1])) if is_pool else None
        windows = _windows(sketch, node, y) if is_pool else None
        if windows is None:
            nodes.append(node)
        else:
            _replace(sketch, node, windows, y, nodes)
    sketch.backward[:] = nodes


def _windows(sketch: Sketch, node: onnx.NodeProto, largest: str | None) -> Windows | None:
    """None where the node stays as it is."""
    x, y = (sketch.graph.sizes(name) for name in (node.input[1], largest or node.input[0]))
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel, strides, pads = given["kernel_shape"], given["strides"], given["pads"]
    if y is None or x is None or len(x) != 3 or {*given["dilations"]} != {1}:
        return None
    if not 1 < np.prod(kernel) <= MOST_PLACES:
        return None
    if x[0] % BLOCK or np.prod(x[1:]) >= 2**24:  # places are numbered in float32
        return None
    if given["ceil_mode"] and any(pads):  # onnx and onnxruntime disagree on whether a window may lie in the pads
        return None
    return Windows(x[0], (x[1], x[2]), (y[1], y[2]), tuple(kernel), tuple(strides), (pads[0], pads[1]))


def _replace(
    sketch: Sketch, node: onnx.NodeProto, windows: Windows, largest: str | None, into: list[onnx.NodeProto]
) -> None:
    """dy goes to the winners; where windows overlap it adds up."""

    def add(op_type: str, *inputs: str | Array, **attributes: object) -> str:
        return sketch.add(op_type, *inputs, into=into, **attributes)

    dy, x = node.input
    channels, pixels, rows = np.array([windows.channels]), np.array([np.prod(windows.image)]), np.array([0, 0, -1])
    # Where a ReLU's mask stands before the pool nothing is negative, and where all is 0 nothing is passed back.
    positive = any((n.domain, n.op_type) == RELU_GRAD and n.output[0] == dy and n.input[1] == largest for n in into)
    winners = add("Reshape", _winners(add, x, largest, windows, padded=not positive), rows)
    nothing = add("ConstantOfShape", add("Concat", add("Shape", dy, end=1), channels, pixels, axis=0))
    spread = add("ScatterElements", nothing, winners, add("Reshape", dy, rows), axis=2, reduction="add")
    shape = sketch.constant(np.array([0, 0, *windows.image]))
    into.append(helper.make_node("Reshape", [spread, shape], node.output, name=node.name))


def _winners(add: Add, x: str, y: str | None, windows: Windows, *, padded: bool) -> str:
    """The number in the image of each window's winner, (N, channels, rows, columns).

    Args:
        add: appends a node.
        x: the image.
        y: the largest values, where they are known.
        windows: of the pool.
        padded: make the image larger by values that never win; else by 0.
    """
    pads = (*windows.begin, *windows.end)
    if padded and any(pads):
        x, pads = add("Pad", x, np.array([0, 0, *windows.begin, 0, 0, *windows.end]), LOWEST), (0, 0, 0, 0)
    shape = {"kernel_shape": windows.kernel, "strides": windows.strides, "pads": pads}
    y = y or add("MaxPool", x, **shape)
    places = list(product(*map(range, windows.kernel)))
    lost = []
    for place in places[:-1]:  # where all others lost, the last one won
        value = add("Conv", x, windows.picking(*place), group=windows.channels, **shape)
        lost.append(add("HardSigmoid", add("Add", value, y), alpha=STEEP, beta=0.0))
    so_far = list(accumulate(lost, lambda a, b: add("Mul", a, b)))
    columns, skipped = windows.kernel[1], windows.image[1] - windows.kernel[1]
    number = reduce(lambda a, b: add("Add", a, b), so_far)
    if row_ends := so_far[columns - 1 :: columns]:  # the next place is a row further down
        number = add("Add", number, add("Mul", reduce(lambda a, b: add("Add", a, b), row_ends), np.float32(skipped)))
    return add("Cast", add("Add", number, windows.first), to=onnx.TensorProto.INT64)
