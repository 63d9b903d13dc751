"""Rearranging elements: each goes back to where it came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, constant_ints, dims, static_dims


@vjp("Reshape")
def reshape(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, shape: ir.Value, *, allowzero: int = 0) -> Gradients:
    """The same elements in another shape."""
    return op.reshape_like(dy, x)


@vjp("Flatten")
def flatten(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, axis: int = 1) -> Gradients:
    """The axes before ``axis`` and those from it on, each as one."""
    return op.reshape_like(dy, x)


@vjp("Squeeze", "Unsqueeze")
def unit_axes(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: ir.Value | None = None) -> Gradients:
    """Axes of size 1, taken away or put in."""
    return op.reshape_like(dy, x)


@vjp("Transpose")
def transpose(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, perm: list[int] | None = None) -> Gradients:
    """Axis i of y is axis perm[i] of x."""
    order = perm or list(reversed(range(len(dims(x)))))
    return op.Transpose(dy, perm=[order.index(axis) for axis in range(len(order))])


@vjp("DepthToSpace")
def depth_to_space(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, blocksize: int, mode: str = "DCR") -> Gradients:
    """Channels become blocks of b × b pixels: (b, b, C) → C in mode DCR, (C, b, b) → C in mode CRD."""
    if mode == "DCR":
        return op.SpaceToDepth(dy, blocksize=blocksize)
    (channels,), b = static_dims(y, 1, 2), blocksize
    blocks = op.arranged(dy, [-1, channels, op.size(x, 2), b, op.size(x, 3), b])
    return op.reshape_like(op.Transpose(blocks, perm=[0, 1, 3, 5, 2, 4]), x)


@vjp("SpaceToDepth")
def space_to_depth(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, *, blocksize: int) -> Gradients:
    """Blocks of b × b pixels become channels."""
    return op.DepthToSpace(dy, blocksize=blocksize)


@vjp("ReverseSequence")
def reverse_sequence(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, lengths: ir.Value, *, batch_axis: int = 1, time_axis: int = 0
) -> Gradients:
    """The first elements of each sample, turned round."""
    return op.ReverseSequence(dy, lengths, batch_axis=batch_axis, time_axis=time_axis)


@vjp("Col2Im")
def col2im(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    image_shape: ir.Value,
    block_shape: ir.Value,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Gradients:
    """Columns are added up to an image: each of their elements gets what its pixel got, and nothing from a pad."""
    kernel, n = constant_ints(block_shape), len(dims(y)) - 2
    if kernel is None:
        raise unsupported(y, f"needs a constant block_shape, but {block_shape.name!r} is computed when the model runs")
    sizes, pads = static_dims(y, 2), pads or [0] * 2 * n
    steps = zip(sizes, kernel, pads[:n], pads[n:], strides or [1] * n, dilations or [1] * n, strict=True)
    padded = op.margins(dy, n + 2, {axis + 2: (pads[axis], pads[n + axis]) for axis in range(n)})
    for i, (size, k, begin, end, stride, dilation) in enumerate(steps):
        blocks = (size + begin + end - dilation * (k - 1) - 1) // stride + 1
        pixels = np.arange(k)[:, None] * dilation + np.arange(blocks) * stride
        padded = op.Gather(padded, op.constant(pixels.astype(np.int64)), axis=2 + 2 * i)
    perm = [0, 1, *(2 + 2 * i for i in range(n)), *(3 + 2 * i for i in range(n))]
    return op.reshape_like(op.Transpose(padded, perm=perm), x)


# ----- parts and wholes -----


@vjp("Concat")
def concat(op: Ops, dy: ir.Value, y: ir.Value, *xs: ir.Value, axis: int) -> Gradients:
    """Each part gets its piece of dy."""
    if len(xs) == 1:
        return dy
    sizes = [dims(x)[axis] for x in xs]
    if all(isinstance(size, int) for size in sizes):
        lengths = op.constant(np.array(sizes, np.int64))
    else:
        lengths = op.Concat(*(op.Gather(op.shape_of(x), [axis]) for x in xs), axis=0)
    return op.several("Split", len(xs), dy, lengths, axis=axis)


@vjp("Split", multiple=True)
def split(
    op: Ops,
    dys: Sequence[ir.Value | None],
    ys: Sequence[ir.Value],
    x: ir.Value,
    lengths: ir.Value | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
) -> Gradients:
    """The pieces' gradients side by side, zeros where a piece is not used."""
    parts = [op.zeros_like(y) if dy is None else dy for dy, y in zip(dys, ys, strict=True)]
    return op.Concat(*parts, axis=axis)


@vjp("Expand")
def expand(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, shape: ir.Value) -> Gradients:
    """Copies of x along some axes: their gradients add up."""
    return op.unbroadcast(dy, x, y)


@vjp("Tile")
def tile(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, repeats: ir.Value) -> Gradients:
    """Copies of x side by side along each axis: their gradients add up."""
    copies, sizes = constant_ints(repeats), dims(x)
    if copies is None or sum(not isinstance(size, int) for size in sizes) > 1:
        return op.scatter_back(dy, op.Tile(op.positions(x), repeats), x)
    split: list[int] = []
    for n, size in zip(copies, sizes, strict=True):
        split += [n, size if isinstance(size, int) else -1]
    return op.ReduceSum(op.Reshape(dy, split), [2 * i for i in range(len(sizes))], keepdims=0)


@vjp("Trilu")
def trilu(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, k: ir.Value | None = None, *, upper: int = 1) -> Gradients:
    """The upper or lower triangle of each matrix, zeros elsewhere."""
    return op.Trilu(dy, k, upper=upper)


@vjp("CenterCropPad")
def center_crop_pad(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, shape: ir.Value, *, axes: list[int] | None = None
) -> Gradients:
    """The middle of x, or x in the middle of zeros: the same back to the size of x."""
    size = op.shape_of(x)
    return op.CenterCropPad(dy, size if axes is None else op.Gather(size, axes), axes=axes)
