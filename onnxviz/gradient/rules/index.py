"""Taking, padding and replacing elements: each gradient goes back to the position that its element came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, constant_ints, dims

_UNBOUNDED = 2**31 - 1
"""Exporters write "to the end" as any number from here on."""

_BACKWARDS = -(2**31)


@vjp("Slice")
def slices(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    starts: ir.Value,
    ends: ir.Value,
    axes: ir.Value | None = None,
    steps: ir.Value | None = None,
) -> Gradients:
    """Of a slice in steps of 1 dy is padded with zeros to the size of x; of others each element is sent back."""
    pads = _left_out(x, starts, ends, axes, steps)
    if pads is None:
        return op.scatter_back(dy, op.Slice(op.positions(x), starts, ends, axes, steps), x)
    return op.Pad(dy, pads) if any(pads) else dy


def _left_out(
    x: ir.Value, starts: ir.Value, ends: ir.Value, axes: ir.Value | None, steps: ir.Value | None
) -> list[int] | None:
    """How much a slice leaves out before and after, as pads; None where it has steps or only the run can tell."""
    sizes = dims(x)
    first, last = constant_ints(starts), constant_ints(ends)
    along = list(range(len(sizes))) if axes is None else constant_ints(axes)
    by = [1] if steps is None else constant_ints(steps)
    if first is None or last is None or along is None or by is None or set(by) != {1}:
        return None
    before, after = [0] * len(sizes), [0] * len(sizes)
    for axis, start, end in zip(along, first, last, strict=False):
        size = sizes[axis]
        if isinstance(size, int):
            begin, stop, _ = slice(start, end).indices(size)
            before[axis], after[axis] = begin, size - max(begin, stop)
        elif start == 0 and (end >= _UNBOUNDED or end < 0):
            after[axis] = max(-end, 0)
        else:  # what is left out may be less than start and end say
            return None
    return before + after


@vjp("Pad")
def pad(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    pads: ir.Value,
    value: ir.Value | None = None,
    axes: ir.Value | None = None,
    *,
    mode: str = "constant",
) -> Gradients:
    """Constant margins are cut off again; reflected and repeated ones are folded back onto what they copy."""
    given = constant_ints(pads)
    if mode == "constant":
        return op.Pad(dy, op.Neg(pads) if given is None else [-p for p in given], None, axes)
    along = list(range(len(dims(x)))) if axes is None else constant_ints(axes)
    if mode not in {"reflect", "edge"}:
        raise unsupported(y, f"does not support mode={mode!r} (supported: 'constant', 'reflect', 'edge')")
    if given is None or along is None or min(given) < 0:
        return op.scatter_back(dy, op.Pad(op.positions(x), pads, None, axes, mode=mode), x)
    for i, axis in enumerate(along):
        dy = _folded(op, dy, axis % len(dims(x)), given[i], given[i + len(along)], mode)
    return dy


def _folded(op: Ops, dy: ir.Value, axis: int, begin: int, end: int, mode: str) -> ir.Value:
    """dy without its margins along one axis, what was there added to the elements that they copy."""

    def part(of: ir.Value, start: int, stop: int | None) -> ir.Value:
        return op.Slice(of, [start], [_UNBOUNDED if stop is None else stop], [axis])

    def margin(start: int, stop: int | None) -> ir.Value:
        """What was in a margin, in the order of the elements that it copies."""
        taken = part(dy, start, stop)
        if mode == "edge":
            return op.ReduceSum(taken, [axis], keepdims=1)
        return op.Slice(taken, [-1], [_BACKWARDS], [axis], [-1])

    def added(to: ir.Value, start: int, stop: int | None, extra: ir.Value) -> ir.Value:
        outside = [part(to, 0, start)] if start else []
        inside = op.Add(part(to, start, stop), extra)
        return op.Concat(*outside, inside, *([] if stop is None else [part(to, stop, None)]), axis=axis)

    dx = part(dy, begin, -end or None) if begin or end else dy
    reflect = mode == "reflect"  # the first and the last element have no copies then
    if begin:
        dx = added(dx, int(reflect), begin + 1 if reflect else 1, margin(0, begin))
    if end:
        dx = added(dx, -end - 1 if reflect else -1, -1 if reflect else None, margin(-end, None))
    return dx


@vjp("Gather")
def gather(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, indices: ir.Value, *, axis: int = 0) -> Gradients:
    """Rows of x by number. Around one constant row zeros are put; others add up where they were taken from."""
    sizes, rows = dims(x), constant_ints(indices)
    axis %= len(sizes)
    size = sizes[axis]
    symbolic = sum(not isinstance(each, int) for each in sizes)
    if rows is None or len(rows) != 1 or not isinstance(size, int) or symbolic > 1:
        return op.scatter_back(dy, op.Gather(op.positions(x), indices, axis=axis), x)
    row = rows[0] % size
    thin = [1 if i == axis else each if isinstance(each, int) else -1 for i, each in enumerate(sizes)]
    return op.margins(op.Reshape(dy, thin), len(sizes), {axis: (row, size - 1 - row)})


@vjp("GatherElements")
def gather_elements(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, indices: ir.Value, *, axis: int = 0) -> Gradients:
    """Elements of x by their number along the axis."""
    return op.scatter_back(dy, op.GatherElements(op.positions(x), indices, axis=axis), x)


@vjp("GatherND")
def gather_nd(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, indices: ir.Value, *, batch_dims: int = 0) -> Gradients:
    """Elements or slices of x by their coordinates."""
    return op.scatter_back(dy, op.GatherND(op.positions(x), indices, batch_dims=batch_dims), x)


@vjp("Compress")
def compress(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, condition: ir.Value, *, axis: int | None = None
) -> Gradients:
    """The elements, or the slices along an axis, for which the condition holds."""
    return op.scatter_back(dy, op.Compress(op.positions(x), condition, axis=axis), x)


@vjp("TopK", multiple=True)
def top_k(
    op: Ops,
    dys: Sequence[ir.Value],
    ys: Sequence[ir.Value],
    x: ir.Value,
    k: ir.Value,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002 - ONNX's name
) -> Gradients:
    """The k largest or smallest elements along the axis, each of which gets what its place got."""
    return op.ScatterElements(op.zeros_like(x), ys[1], dys[0], axis=axis)


@vjp("ScatterElements")
def scatter_elements(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    indices: ir.Value,
    updates: ir.Value,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> Gradients:
    """y is x with elements replaced by the updates, with these added, or the largest or smallest of both."""

    def back(given: ir.Value) -> ir.Value:
        return op.GatherElements(given, indices, axis=axis)

    def added(x: ir.Value, updates: ir.Value) -> ir.Value:
        return op.ScatterElements(x, indices, updates, axis=axis, reduction="add")

    if reduction in {"max", "min"}:
        return _won(op, dy, y, x, updates, back, added)
    given = op.GatherElements(dy, indices, axis=axis)
    kept = op.ScatterElements(dy, indices, op.zeros_like(updates), axis=axis)
    return _scattered(y, dy, kept, given, reduction)


@vjp("ScatterND")
def scatter_nd(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, indices: ir.Value, updates: ir.Value, *, reduction: str = "none"
) -> Gradients:
    """y is x with elements or slices replaced by the updates, with these added, or the largest or smallest of both."""

    def back(given: ir.Value) -> ir.Value:
        return op.GatherND(given, indices)

    def added(x: ir.Value, updates: ir.Value) -> ir.Value:  # ONNX Runtime's ScatterND loses sums on several threads
        return op.Add(x, op.scatter_back(updates, op.GatherND(op.positions(x), indices), x))

    if reduction in {"max", "min"}:
        return _won(op, dy, y, x, updates, back, added)
    kept = op.ScatterND(dy, indices, op.zeros_like(updates))
    return _scattered(y, dy, kept, op.GatherND(dy, indices), reduction)


def _won(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    updates: ir.Value,
    back: Callable[[ir.Value], ir.Value],
    added: Callable[[ir.Value, ir.Value], ir.Value],
) -> Gradients:
    """The gradients of x and of the updates where the largest or smallest of them is y; equal ones share it."""
    whole = op.Cast(op.Equal(x, y), to=ir.DataType.FLOAT)  # onnxruntime's CPU kernel adds no shorter floats
    given = op.Cast(op.Equal(updates, back(y)), to=ir.DataType.FLOAT)
    share = op.Div(dy, op.cast_like(added(whole, given), dy))
    return op.Mul(op.cast_like(whole, x), share), None, op.Mul(op.cast_like(given, updates), back(share))


def _scattered(y: ir.Value, dy: ir.Value, kept: ir.Value, given: ir.Value, reduction: str) -> Gradients:
    """The gradients of x and of the updates; where several updates meet, only their sum has one."""
    if reduction not in {"none", "add"}:
        raise unsupported(y, f"does not support reduction={reduction!r} (supported: 'none', 'add', 'max', 'min')")
    return dy if reduction == "add" else kept, None, given
