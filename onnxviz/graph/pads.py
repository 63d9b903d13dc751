"""Padding: ``pads`` of windows are the only way to say it, and what Pads say onnxruntime cannot mistake.

Shapes must be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.errors import OpenSizeError, UnsupportedOperatorError
from onnxviz.gradient.tape import Ops, constant_ints
from onnxviz.graph.normalise import called

Shapes = Mapping[str, Sequence[int | str | None]]
"""Value name → dimensions: a number where static, a symbol or None where open."""

_POOLS = ("MaxPool", "AveragePool", "LpPool")


def explicit_pads(model: ir.Model, shapes: Shapes) -> None:
    """Replace ``auto_pad`` (and ConvTranspose's ``output_shape``) by explicit ``pads``, in place.

    Args:
        model: a normalised model at opset 18.
        shapes: value name → dimensions. Where a SAME node takes steps along an axis whose size is open, a Pad before it
            computes the padding when the model runs.

    Raises:
        UnsupportedOperatorError: a shape is not known, or an ``output_shape`` cannot be reached.
        OpenSizeError: a size is open that decides a padding which no Pad can stand for.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain != "" or node.op_type not in ("Conv", "ConvTranspose", *_POOLS):
            continue
        mode = node.attributes.get_string("auto_pad", "NOTSET")
        node.attributes.pop("auto_pad", None)
        if node.op_type == "ConvTranspose":
            _pad_transposed(node, mode, shapes)
        elif mode != "NOTSET":
            node.attributes.pop("pads", None)
            if mode != "VALID":
                _pad_same(node, mode, shapes)


def _pad_same(node: ir.Node, mode: str, shapes: Shapes) -> None:
    """SAME: ``ceil(size / stride)`` windows, the padding that they need split evenly, the odd one at the end (UPPER)
    or the beginning (LOWER), never less than none. ONNX operator specification, Conv and AveragePool; it decides where
    ONNX Runtime itself has no answer (dilated Conv, pools whose window is smaller than the stride).
    """
    if node.op_type in _POOLS and any(step > 1 for step in node.attributes.get_ints("dilations", ())):
        raise UnsupportedOperatorError(
            f"{node.op_type} {called(node)} has dilations and pads by {mode}: ONNX Runtime pads it as if it were not "
            "dilated, against the specification; export it with explicit pads"
        )
    sizes, extents, strides = _window(node, shapes, mode)
    node.attributes.pop("ceil_mode", None)  # the number of windows is settled; ceil_mode could add another
    more_at_end = mode == "SAME_UPPER"
    if any(not isinstance(size, int) and stride > 1 for size, stride in zip(sizes, strides, strict=True)):
        _pad_when_run(node, extents, strides, more_at_end=more_at_end)
        return
    totals = [
        max((math.ceil(size / stride) - 1) * stride + extent - size, 0) if isinstance(size, int) else extent - 1
        for size, extent, stride in zip(sizes, extents, strides, strict=True)
    ]
    node.attributes["pads"] = ir.AttrInt64s("pads", _halves(totals, more_at_end=more_at_end))


def _pad_when_run(node: ir.Node, extents: Sequence[int], strides: Sequence[int], *, more_at_end: bool) -> None:
    """The same, computed from the size that the input has: a Pad of its own, by what counts as nothing.

    A mean that leaves the padding out is the mean with it, divided by that of ones.
    """
    data, graph, result = node.inputs[0], node.graph, node.outputs[0]
    assert data is not None
    assert isinstance(graph, ir.Graph)
    op, before, n = Ops(graph, prefix=f"{result.name}/same/"), set(graph), len(strides)
    size = op.Shape(data, start=2)
    steps = op.Mul(op.Div(op.Sub(size, [1] * n), list(strides)), list(strides))  # from the first window to the last
    total = op.Max(op.Sub(op.Add(steps, list(extents)), size), [0] * n)
    less = op.Div(total, [2] * n)
    more = op.Sub(total, less)
    none = op.constant(np.array([0, 0], np.int64))
    pads = op.Concat(none, less if more_at_end else more, none, more if more_at_end else less, axis=0)

    def padded(x: ir.Value) -> ir.Value:
        nothing = op.number(-np.inf if node.op_type == "MaxPool" else 0.0, data)
        wide = op.Pad(x, pads, nothing)
        wide.shape = ir.Shape([*list(x.shape or ())[:2], *[None] * n])
        return wide

    replaced: list[ir.Value] = [padded(data), *(x for x in node.inputs[1:] if x is not None)]
    if node.op_type == "AveragePool" and not node.attributes.get_int("count_include_pad", 0):
        ones = op.Expand(op.number(1.0, data), op.Concat(op.constant(np.array([1, 1])), size, axis=0))
        ones.shape = ir.Shape([1, 1, *[None] * n])
        windows = {name: attribute.value for name, attribute in node.attributes.items()}
        mean, share = (op.AveragePool(x, **windows) for x in (replaced[0], padded(ones)))
        mean.shape, share.shape = result.shape, ir.Shape([1, 1, *list(result.shape or ())[2:]])
        replaced = [mean, share]
        node.op_type = "Div"
        node.attributes.clear()
    for each in [added for added in graph if added not in before]:
        graph.remove(each)
        graph.insert_before(node, each)
    node.resize_inputs(len(replaced))
    for i, value in enumerate(replaced):
        node.replace_input_with(i, value)


def _pad_transposed(node: ir.Node, mode: str, shapes: Shapes) -> None:
    """ConvTranspose: pads such that the output has ``size · stride`` (SAME) or ``output_shape`` elements per axis;
    where the output is larger than what unpadded windows cover, ``output_padding`` adds the rest.
    """
    wanted = list(node.attributes.get_ints("output_shape", ()))
    node.attributes.pop("output_shape", None)
    if mode == "VALID":
        node.attributes.pop("pads", None)
    if not wanted and mode in ("NOTSET", "VALID"):
        return
    sizes, extents, strides = _window(node, shapes, mode if mode != "NOTSET" else "output_shape")
    extra = list(node.attributes.get_ints("output_padding", [0] * len(sizes)))
    totals = [added + extent - stride for stride, added, extent in zip(strides, extra, extents, strict=True)]
    if targets := wanted[-len(sizes) :]:
        if not all(isinstance(size, int) for size in sizes):
            raise OpenSizeError(
                f"ConvTranspose {called(node)} asks for an output of {targets} at any size of its input"
            )
        totals = [
            total + int(size or 0) * stride - target
            for total, size, stride, target in zip(totals, sizes, strides, targets, strict=True)
        ]
    extra = [added - min(total, 0) for added, total in zip(extra, totals, strict=True)]
    dilations = node.attributes.get_ints("dilations", [1] * len(sizes))
    if any(added >= max(step) for added, step in zip(extra, zip(strides, dilations, strict=True), strict=True)):
        raise UnsupportedOperatorError(
            f"ConvTranspose {called(node)} asks for an output of {targets or mode}, more than its windows and "
            "output_padding (less than the stride) can reach; export it with explicit pads"
        )
    pads = _halves([max(total, 0) for total in totals], more_at_end=mode == "SAME_UPPER")
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    if any(extra):
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", extra)


def _window(node: ir.Node, shapes: Shapes, mode: str) -> tuple[list[int | str | None], list[int], list[int]]:
    """Per spatial axis: the input's size (no number where it is open), the extent of the dilated window, the stride."""
    data = node.inputs[0]
    assert data is not None
    assert data.name is not None
    sizes = list(shapes.get(data.name, ()))[2:]
    if not sizes:
        raise UnsupportedOperatorError(
            f"{node.op_type} {called(node)} pads by {mode}, which depends on the size of its input {data.name!r}, "
            f"which is not known; export with explicit pads"
        )
    ones = [1] * len(sizes)
    dilations = node.attributes.get_ints("dilations", ones)
    extents = [(k - 1) * d + 1 for k, d in zip(_kernel(node, shapes), dilations, strict=True)]
    return sizes, extents, list(node.attributes.get_ints("strides", ones))


def _kernel(node: ir.Node, shapes: Shapes) -> list[int]:
    if "kernel_shape" in node.attributes:
        return list(node.attributes.get_ints("kernel_shape"))
    weight = node.inputs[1]
    assert weight is not None
    assert weight.name is not None
    dims = weight.const_value.shape if weight.const_value is not None else shapes.get(weight.name, ())
    kernel = [size for size in list(dims)[2:] if isinstance(size, int)]
    if not kernel:
        raise UnsupportedOperatorError(
            f"{node.op_type} {called(node)}: the shape of its weight {weight.name!r} is unknown; export it with "
            "kernel_shape"
        )
    return kernel


def _halves(totals: Sequence[int], *, more_at_end: bool) -> list[int]:
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*less, *more] if more_at_end else [*more, *less]


def separate_pads(model: ir.Model) -> None:
    """Name the axes of every Pad that a pool reads, in place; its rank must be known.

    ONNX Runtime makes a Pad by zeros the margin of the pool that reads it (its rewriting rule ``PadFusion``). The
    margin of a MaxPool counts as minus infinity, so that the result is wrong where a window holds negative numbers
    alone; a margin as wide as the window is refused. A Pad that names its axes is left alone.
    """
    for node in model.graph:
        source = node.inputs[0] if node.domain == "" and node.op_type in _POOLS else None
        pad = source.producer() if source is not None else None
        while pad is not None and pad.domain == "" and pad.op_type in ("Identity", "Transpose", "Cast"):
            pad = pad.inputs[0].producer() if pad.inputs[0] is not None else None
        rank = len(pad.outputs[0].shape or ()) if pad is not None else 0
        if pad is None or (pad.domain, pad.op_type) != ("", "Pad") or len(pad.inputs) > 3 or not rank:
            continue
        axes = ir.Value(name=f"{pad.name}/axes", const_value=ir.tensor(list(range(rank)), ir.DataType.INT64))
        axes.shape, axes.dtype = ir.Shape([rank]), ir.DataType.INT64
        model.graph.register_initializer(axes)
        pad.resize_inputs(4)
        pad.replace_input_with(3, axes)


def whole_pads(model: ir.Model) -> None:
    """Let every Pad give its pads for all axes, in place.

    ONNX Runtime moves Transposes past a Pad as if it named no axes, and fails where it names some.
    """
    op = Ops(model.graph, prefix="pads/")
    for node in list(model.graph):
        data = node.inputs[0] if (node.domain, node.op_type) == ("", "Pad") and len(node.inputs) > 3 else None
        axes = constant_ints(node.inputs[3]) if data is not None and node.inputs[3] is not None else None
        if data is None or data.shape is None or axes is None:
            continue
        rank, pads, before = len(data.shape), node.inputs[1], set(model.graph)
        named = [axis % rank for axis in axes]
        place = [named.index(axis) if axis in named else 2 * len(named) for axis in range(rank)]
        index = [*place, *(i + len(named) if i < len(named) else i for i in place)]
        given = None if pads is None else constant_ints(pads)
        if given is not None:
            whole = op.constant(np.array([[*given, 0][i] for i in index], np.int64))
        else:
            whole = op.Gather(op.Concat(pads, [0], axis=0), index)
        for each in [added for added in model.graph if added not in before]:
            model.graph.remove(each)
            model.graph.insert_before(node, each)
        node.replace_input_with(1, whole)
        node.resize_inputs(3)
