"""What may be added to a random graph: each takes one of its values, and adds nothing where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.gradient.random_graph import Graph

Draw = Callable

UNARY = {
    "Relu({0})": F.relu,
    "LeakyRelu<alpha=0.2>({0})": lambda x: F.leaky_relu(x, 0.2),
    "Identity({0})": lambda x: x.clone(),
    "Neg({0})": torch.neg,
    "Tanh({0})": torch.tanh,
    "Sigmoid({0})": torch.sigmoid,
    "Sin({0})": torch.sin,
    "Cos({0})": torch.cos,
    "Atan({0})": torch.atan,
    "Erf({0})": torch.erf,
    "Softplus({0})": F.softplus,
    "Softsign({0})": F.softsign,
    "Mish({0})": F.mish,
    "Elu<alpha=0.7>({0})": lambda x: F.elu(x, 0.7),
    "Selu({0})": F.selu,
    "Celu<alpha=0.6>({0})": lambda x: F.celu(x, 0.6),
    "HardSigmoid<alpha=0.16666667>({0})": F.hardsigmoid,
    "HardSwish({0})": F.hardswish,
    "Abs({0})": torch.abs,
}
BINARY = {
    "Add({0}, {1})": torch.add,
    "Sub({0}, {1})": torch.sub,
    "Mul({0}, {1})": torch.mul,
    "Max({0}, {1})": torch.maximum,
    "Min({0}, {1})": torch.minimum,
    "Mean({0}, {1})": lambda a, b: (a + b) / 2,
}
REDUCTIONS = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d}
LARGEST = {1: F.max_pool1d, 2: F.max_pool2d}


def unary(draw: Draw, g: Graph, x: str) -> None:
    text = draw(st.sampled_from(list(UNARY)))
    g.add(text, UNARY[text], x)


def composed(draw: Draw, g: Graph, x: str) -> None:
    """Functions that are not everywhere defined, of 1 + x²."""
    name, function = draw(st.sampled_from([("Log", torch.log), ("Sqrt", torch.sqrt), ("Reciprocal", torch.reciprocal)]))
    square = g.add("Mul({0}, {0})", lambda x: x * x, x)
    above = g.add("Add({0}, {1})", torch.add, square, g.constant(np.array(1, np.float32)))
    g.add(f"{name}({{0}})", function, above)


def binary(draw: Draw, g: Graph, x: str) -> None:
    """With a value that it can be broadcast to, or that can be broadcast to it, or with a constant."""
    fitting = [y for y in g.shapes if broadcasts(g.shapes[x], g.shapes[y])]
    text = draw(st.sampled_from(list(BINARY)))
    if draw(st.booleans()):
        g.add(text, BINARY[text], x, draw(st.sampled_from(fitting)))
    else:
        sizes = g.shapes[x][draw(st.integers(0, len(g.shapes[x]))) :]
        g.add(text, BINARY[text], x, g.weights(*(draw(st.sampled_from([1, size])) for size in sizes)))


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return len(a) == len(b) and all(m == n or 1 in {m, n} for m, n in zip(a, b, strict=True))


def chosen(draw: Draw, g: Graph, x: str) -> None:
    """Where one value is above another."""
    fitting = [y for y in g.shapes if broadcasts(g.shapes[x], g.shapes[y])]
    y = draw(st.sampled_from(fitting))
    above = f"b{len(g.statements)}"
    g.statements.append(f"{above} = Greater({x}, {y})")
    g.add(f"Where({above}, {{0}}, {{1}})", lambda a, b: torch.where(a > b, a, b), x, y)


def product(draw: Draw, g: Graph, x: str) -> None:
    *_, k = g.shapes[x]
    m = draw(st.integers(1, 4))
    if len(g.shapes[x]) == 1 and draw(st.booleans()):
        g.add("Gemm<transB=1>({0}, {1}, {2})", F.linear, x, g.weights(m, k), g.weights(m))
    elif len(g.shapes[x]) == 2 and draw(st.booleans()):
        turned = g.add("Transpose<perm=[0, 2, 1]>({0})", lambda x: x.mT, x)
        g.add("MatMul({0}, {1})", torch.matmul, x, turned)
    else:
        g.add("MatMul({0}, {1})", torch.matmul, x, g.weights(k, m))


def convolution(draw: Draw, g: Graph, x: str) -> None:
    sizes = g.shapes[x][1:]
    channels, n = g.shapes[x][0], len(sizes)
    kernel = [draw(st.integers(1, min(3, size))) for size in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, k // 2)) for k in kernel]
    group = draw(st.sampled_from([1, channels]))
    how = f"strides={strides}, pads={pads + pads}, group={group}"
    if draw(st.booleans()):
        w = g.weights(group * draw(st.integers(1, 2)), channels // group, *kernel)
        g.add(f"Conv<{how}>({{0}}, {{1}})", lambda x, w: CONVOLUTIONS[n](x, w, None, strides, pads, 1, group), x, w)
    elif all((size - 1) * s + k - 2 * p > 0 for size, s, k, p in zip(sizes, strides, kernel, pads, strict=True)):
        w = g.weights(channels, draw(st.integers(1, 2)), *kernel)
        call = f"ConvTranspose<{how}>({{0}}, {{1}})"
        g.add(call, lambda x, w: TRANSPOSED[n](x, w, None, strides, pads, 0, group), x, w)


def pool(draw: Draw, g: Graph, x: str) -> None:
    sizes = g.shapes[x][1:]
    n = len(sizes)
    kernel = [draw(st.integers(1, min(3, size))) for size in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, k // 2)) for k in kernel]
    how = f"kernel_shape={kernel}, strides={strides}, pads={pads + pads}"
    if draw(st.booleans()):
        g.add(f"MaxPool<{how}>({{0}})", lambda x: LARGEST[n](x, kernel, strides, pads), x)
    else:
        include = draw(st.booleans())
        call = f"AveragePool<{how}, count_include_pad={int(include)}>({{0}})"
        g.add(call, lambda x: AVERAGES[n](x, kernel, strides, pads, False, include), x)


def resized(draw: Draw, g: Graph, x: str) -> None:
    sizes = g.shapes[x][1:]
    mode = draw(st.sampled_from(["nearest", "linear"]))
    called = mode if mode == "nearest" or len(sizes) == 1 else "bilinear"
    scales = g.constant(np.array([1, 1, *[2] * len(sizes)], np.float32))
    where = "asymmetric" if mode == "nearest" else "half_pixel"
    call = f'Resize<mode="{mode}", nearest_mode="floor", coordinate_transformation_mode="{where}">({{0}}, , {scales})'
    g.add(call, lambda x: F.interpolate(x, scale_factor=2, mode=called), x)


def reshaped(draw: Draw, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    cut = draw(st.integers(0, len(shape)))
    new = [prod(shape[:cut]), prod(shape[cut:])] if draw(st.booleans()) else [prod(shape)]
    target = g.numbers(0, *new[:-1], -1)
    g.add(f"Reshape({{0}}, {target})", lambda x: x.reshape(len(x), *new), x)


def transposed(draw: Draw, g: Graph, x: str) -> None:
    order = [0, *draw(st.permutations(range(1, len(g.shapes[x]) + 1)))]
    g.add(f"Transpose<perm={order}>({{0}})", lambda x: x.permute(order), x)


def axis_of(draw: Draw, g: Graph, x: str) -> tuple[int, int]:
    """An axis behind the batch, and its size."""
    axis = draw(st.integers(1, len(g.shapes[x])))
    return axis, g.shapes[x][axis - 1]


def sliced(draw: Draw, g: Graph, x: str) -> None:
    axis, size = axis_of(draw, g, x)
    start = draw(st.integers(0, size - 1))
    stop, step = draw(st.integers(start + 1, size)), draw(st.integers(1, 2))
    parts = [g.numbers(each) for each in (start, stop, axis, step)]
    rows = torch.arange(start, stop, step)
    g.add(f"Slice({{0}}, {', '.join(parts)})", lambda x: x.index_select(axis, rows), x)


def turned_round(draw: Draw, g: Graph, x: str) -> None:
    axis, _ = axis_of(draw, g, x)
    parts = [g.numbers(each) for each in (-1, -(2**31), axis, -1)]
    g.add(f"Slice({{0}}, {', '.join(parts)})", lambda x: x.flip(axis), x)


def joined(draw: Draw, g: Graph, x: str) -> None:
    axis, _ = axis_of(draw, g, x)
    rest = without(g.shapes[x], axis)
    fitting = [y for y, s in g.shapes.items() if len(s) == len(g.shapes[x]) and without(s, axis) == rest]
    y = draw(st.sampled_from(fitting))
    g.add(f"Concat<axis={axis}>({{0}}, {{1}})", lambda a, b: torch.cat([a, b], axis), x, y)


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[: axis - 1] + shape[axis:]


def split(draw: Draw, g: Graph, x: str) -> None:
    """Of two parts the second is used."""
    axis, size = axis_of(draw, g, x)
    first = draw(st.integers(0, size - 1))
    parts = g.numbers(first, size - first)
    name = g.add(f"Split<axis={axis}>({{0}}, {parts})", lambda x: x.narrow(axis, first, size - first), x)
    g.statements[-1] = f"u{name}, {g.statements[-1]}"


def padded(draw: Draw, g: Graph, x: str) -> None:
    """With margins along the last axis."""
    *_, size = g.shapes[x]
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    most = size - 1 if mode == "reflect" else 2
    begin, end = (draw(st.integers(0, min(most, 2))) for _ in range(2))
    rank = len(g.shapes[x]) + 1
    none = [0] * (rank - 1)
    pads, axes = g.numbers(*none, begin, *none, end), g.numbers(*range(rank))  # onnxruntime mistakes others
    index = np.pad(np.arange(size), (begin, end), mode="constant" if mode == "constant" else mode)

    def in_torch(x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (begin, end)) if mode == "constant" else x[..., index]

    g.add(f'Pad<mode="{mode}">({{0}}, {pads}, , {axes})', in_torch, x)


def reduced(draw: Draw, g: Graph, x: str) -> None:
    rank = len(g.shapes[x])
    axes = sorted(draw(st.sets(st.integers(1, rank), min_size=1)))
    keep = draw(st.booleans())
    name = draw(st.sampled_from(list(REDUCTIONS)))
    call = f"{name}<keepdims={int(keep)}>({{0}}, {g.numbers(*axes)})"
    g.add(call, lambda x: REDUCTIONS[name](x, axes, keep), x)


def normalised(draw: Draw, g: Graph, x: str) -> None:
    axis, _ = axis_of(draw, g, x)
    kind = draw(st.sampled_from(["Softmax", "LogSoftmax", "LayerNormalization", "CumSum"]))
    if kind == "LayerNormalization":
        shape = g.shapes[x][axis - 1 :]
        call = f"LayerNormalization<axis={axis}, epsilon=0.1>({{0}}, {{1}}, {{2}})"
        g.add(call, lambda x, s, b: F.layer_norm(x, shape, s, b, 0.1), x, g.weights(*shape), g.weights(*shape))
    elif kind == "CumSum":
        g.add(f"CumSum({{0}}, {g.constant(np.array(axis))})", lambda x: x.cumsum(axis), x)
    else:
        function = torch.softmax if kind == "Softmax" else torch.log_softmax
        g.add(f"{kind}<axis={axis}>({{0}})", lambda x: function(x, axis), x)


def by_channel(draw: Draw, g: Graph, x: str) -> None:
    """What looks at an image channel by channel."""
    channels, rest = g.shapes[x][0], tuple(range(2, len(g.shapes[x]) + 1))
    kind = draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "BatchNormalization"]))
    if kind == "GlobalAveragePool":
        g.add("GlobalAveragePool({0})", lambda x: x.mean(rest, keepdim=True), x)
    elif kind == "GlobalMaxPool":
        g.add("GlobalMaxPool({0})", lambda x: x.amax(rest, keepdim=True), x)
    elif kind == "InstanceNormalization":
        call = "InstanceNormalization<epsilon=0.1>({0}, {1}, {2})"
        parts = [g.weights(channels), g.weights(channels)]
        g.add(call, lambda x, s, b: F.group_norm(x, channels, s, b, 0.1), x, *parts)
    else:
        spread = g.constant(np.linspace(0.5, 2, channels, dtype=np.float32))
        parts = [g.weights(channels), g.weights(channels), g.weights(channels), spread]
        function = lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b)  # noqa: E731
        g.add("BatchNormalization({0}, {1}, {2}, {3}, {4})", function, x, *parts)


def gathered(draw: Draw, g: Graph, x: str) -> None:
    axis, size = axis_of(draw, g, x)
    rows = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
    g.add(f"Gather<axis={axis}>({{0}}, {g.numbers(*rows)})", lambda x: x.index_select(axis, torch.tensor(rows)), x)


def repeated(draw: Draw, g: Graph, x: str) -> None:
    axis, size = axis_of(draw, g, x)
    rank, times = len(g.shapes[x]) + 1, draw(st.integers(1, 3))
    many = [times if i == axis else 1 for i in range(rank)]
    if size == 1 and draw(st.booleans()):
        wide = [times if i == axis else -1 for i in range(rank)]
        g.add(f"Expand({{0}}, {g.numbers(*many)})", lambda x: x.expand(wide), x)
    else:
        g.add(f"Tile({{0}}, {g.numbers(*many)})", lambda x: x.repeat(many), x)


def with_another_axis(draw: Draw, g: Graph, x: str) -> None:
    axis = draw(st.integers(1, len(g.shapes[x]) + 1))
    if axis <= len(g.shapes[x]) and g.shapes[x][axis - 1] == 1:
        g.add(f"Squeeze({{0}}, {g.numbers(axis)})", lambda x: x.squeeze(axis), x)
    else:
        g.add(f"Unsqueeze({{0}}, {g.numbers(axis)})", lambda x: x.unsqueeze(axis), x)


ANYWHERE = (unary, composed, binary, chosen, with_another_axis)
BEHIND_THE_BATCH = (
    *(product, reshaped, transposed, sliced, turned_round, joined, split, padded, reduced, normalised, gathered),
    repeated,
)
OF_IMAGES = (convolution, pool, resized, by_channel)
