"""Convolutions and pools over thousands of combinations of what they may be told, many to a graph.

In one dimension there are all combinations, in two and three dimensions the axes are drawn from them. What is expected
comes of plain indexing in PyTorch, in double precision: margins are put on, windows are cut out, and autograd does the
rest. For a transposed convolution PyTorch's own is asked without margins, which are then cut off.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional as F

from onnxviz.graph.pads import explicit_pads
from tests.gradient.harness import Differentiated, N, measure, normal, parse, relative_error, spaced, weights

PER_GRAPH = 80
DRAWN = {2: 600, 3: 300}
PADS = [(0, 0), (1, 1), (0, 1), (1, 0), (2, 1)]
AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@dataclass(frozen=True)
class Axis:
    """How windows lie along one axis of the image."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int

    @property
    def extent(self) -> int:
        """What a window reaches over."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def room(self) -> int:
        """How far the first window can be moved."""
        return self.size + self.begin + self.end - self.extent

    def count(self, rounded_up: int) -> int:
        return (ceil if rounded_up else int)(self.room / self.stride) + 1

    def padded(self, total: int, auto: str) -> Axis:
        """With margins of this much together, the odd one at the end or at the beginning."""
        less, more = total // 2, total - total // 2
        return replace(self, begin=less, end=more) if auto == "SAME_UPPER" else replace(self, begin=more, end=less)


AXES = [
    Axis(size, kernel, stride, dilation, *pads)
    for size, kernel, stride, dilation, pads in product((5, 6), (1, 2, 3), (1, 2, 3), (1, 2), PADS)
]


@dataclass(frozen=True)
class Told:
    """What an operator may be told beside."""

    group: int = 1
    auto: str = "NOTSET"
    ceil: int = 0
    include_pad: int = 0
    order: int = 2
    extra: int = 0
    """Of the output padding of a transposed convolution: 1 is the most that there can be."""
    sized: int = 0
    """Whether a transposed convolution is told the size of its output."""


OPERATORS = {
    "Conv": [Told(group, auto) for group, auto in product((1, 2), AUTO)],
    "ConvTranspose": [
        *(Told(group, auto, extra=extra) for group, auto, extra in product((1, 2), AUTO, (0, 1))),
        *(Told(auto=auto, extra=extra, sized=1) for auto, extra in product(("NOTSET", "SAME_UPPER"), (0, 1))),
    ],
    "AveragePool": [
        *(Told(ceil=up, include_pad=include) for up, include in product((0, 1), (0, 1))),
        *(Told(auto=auto, include_pad=include) for auto, include in product(AUTO[1:], (0, 1))),
    ],
    "MaxPool": [Told(), Told(ceil=1), *(Told(auto=auto) for auto in AUTO[1:])],
    "LpPool": [
        *(Told(order=order, ceil=up) for order, up in product((1, 2, 3), (0, 1))),
        *(Told(auto=auto) for auto in AUTO[1:]),
    ],
}


@dataclass(frozen=True)
class Call:
    """One operator on one image."""

    operator: str
    axes: tuple[Axis, ...]
    told: Told

    @property
    def channels(self) -> int:
        return 4 if "Conv" in self.operator else 2

    @property
    def weight(self) -> tuple[int, ...]:
        channels = (6, 4 // self.told.group) if self.operator == "Conv" else (4, 6 // self.told.group)
        return (*channels, *self.each("kernel"))

    def each(self, name: str) -> list[int]:
        return [getattr(axis, name) for axis in self.axes]

    def extra(self) -> list[int]:
        return [self.told.extra * (axis.stride - 1) for axis in self.axes]

    def __str__(self) -> str:
        """The call in ONNX text, of x."""
        told, given = self.told, {"kernel_shape": self.each("kernel"), "strides": self.each("stride")}
        if told.auto != "NOTSET":
            given["auto_pad"] = f'"{told.auto}"'
        elif not told.sized:
            given["pads"] = self.each("begin") + self.each("end")
        if self.operator != "AveragePool":
            given["dilations"] = self.each("dilation")
        if "Conv" in self.operator:
            given["group"] = told.group
        else:
            given["ceil_mode"] = told.ceil
        given |= {"count_include_pad": told.include_pad} if self.operator == "AveragePool" else {}
        given |= {"p": told.order} if self.operator == "LpPool" else {}
        given |= {"output_padding": self.extra()} if told.extra else {}
        given |= {"output_shape": [stretched(axis) for axis in self.axes]} if told.sized else {}
        attributes = ", ".join(f"{name}={value}" for name, value in given.items())
        operands = f"x, w{'_'.join(map(str, self.weight))}" if "Conv" in self.operator else "x"
        return f"{self.operator}<{attributes}>({operands})"

    def settled(self) -> Call:
        """With the margins that ``auto_pad`` and ``output_shape`` stand for by the specification."""
        auto, axes = self.told.auto, self.axes
        if auto == "NOTSET" and not self.told.sized:
            return self
        if self.operator == "ConvTranspose" and (self.told.sized or auto != "VALID"):
            totals = [
                (a.size - 1) * a.stride + a.extent + extra - (stretched(a) if self.told.sized else a.size * a.stride)
                for a, extra in zip(axes, self.extra(), strict=True)
            ]
        elif auto == "VALID":
            totals = [0] * len(axes)
        else:
            totals = [max((ceil(a.size / a.stride) - 1) * a.stride + a.extent - a.size, 0) for a in axes]
        return replace(self, axes=tuple(a.padded(total, auto) for a, total in zip(axes, totals, strict=True)))

    def is_meant(self) -> bool:
        """Whether the specification has an answer, and onnxruntime the same."""
        told, axes = self.told, self.settled().axes
        if self.operator == "ConvTranspose":
            sizes = [
                (a.size - 1) * a.stride + a.extent + extra - a.begin - a.end
                for a, extra in zip(axes, self.extra(), strict=True)
            ]
            return min(sizes) > 0 and min(min(a.begin, a.end) for a in axes) >= 0
        same = told.auto.startswith("SAME")
        if min(a.room for a in axes) < 0 or any(a.dilation > 1 and same for a in axes):
            return False
        if self.operator == "Conv":
            return True
        if any((a.dilation > 1 and self.operator == "AveragePool") or (a.kernel < a.stride and same) for a in axes):
            return False
        last = all((a.count(told.ceil) - 1) * a.stride < a.size + a.begin for a in axes)
        return last and all(max(a.begin, a.end) < a.kernel for a in axes)

    def in_torch(self, x: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        told, call = self.told, self.settled()
        if self.operator == "ConvTranspose":
            y = TRANSPOSED[len(self.axes) - 1](
                x, w, stride=call.each("stride"), dilation=call.each("dilation"), groups=told.group
            )
            y = F.pad(y, [size for extra in reversed(self.extra()) for size in (0, extra)])
            ends = [size - a.end for size, a in zip(y.shape[2:], call.axes, strict=True)]
            return y[..., *(slice(a.begin, end) for a, end in zip(call.axes, ends, strict=True))]
        if self.operator == "Conv":
            patches = call.windows(x).flatten(2 + len(self.axes))
            grouped = patches.unflatten(1, (told.group, -1))
            kernels = w.flatten(2).unflatten(0, (told.group, -1))
            return torch.einsum("ngc...k,gmck->ngm...", grouped, kernels).flatten(1, 2)
        if self.operator == "MaxPool":
            return call.windows(x, margin=-inf).flatten(2 + len(self.axes)).amax(-1)
        if self.operator == "LpPool":
            return call.windows(x).flatten(2 + len(self.axes)).abs().pow(told.order).sum(-1).pow(1 / told.order)
        counted = call.windows(torch.ones_like(x), margin=told.include_pad).flatten(2 + len(self.axes)).sum(-1)
        return call.windows(x).flatten(2 + len(self.axes)).sum(-1) / counted

    def windows(self, x: torch.Tensor, margin: float = 0) -> torch.Tensor:
        """The windows of x, (N, C, *windows, *kernel); what lies behind the margins, by rounding up, is nothing."""
        around = [size for a in reversed(self.axes) for size in (a.begin, a.end)]
        x = F.pad(x, around, value=margin)
        counts = [a.count(self.told.ceil) for a in self.axes]
        over = [
            max((n - 1) * a.stride + a.extent - (a.size + a.begin + a.end), 0)
            for n, a in zip(counts, self.axes, strict=True)
        ]
        x = F.pad(x, [size for each in reversed(over) for size in (0, each)], value=min(margin, 0))
        for i, (n, a) in enumerate(zip(counts, self.axes, strict=True)):
            places = torch.arange(n)[:, None] * a.stride + torch.arange(a.kernel) * a.dilation
            x = x[(slice(None),) * (2 + 2 * i) + (places,)]
        rank = len(self.axes)
        return x.permute(0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))


def stretched(axis: Axis) -> int:
    """A size that a transposed convolution is told."""
    return axis.size * axis.stride - axis.begin + axis.end


def calls(operator: str, rank: int) -> list[Call]:
    """All of one dimension, or as many of several as are to be drawn; those that say the same are there once."""
    if rank == 1:
        given = [Call(operator, (axis,), told) for axis, told in product(AXES, OPERATORS[operator])]
        return list({str(call): call for call in given if call.is_meant()}.values())
    rng, found = random.Random(rank), {}
    while len(found) < DRAWN[rank]:
        call = Call(operator, tuple(rng.choices(AXES, k=rank)), rng.choice(OPERATORS[operator]))
        if call.is_meant():
            found[str(call)] = call
    return list(found.values())


def graphs() -> Iterator[pytest.param]:
    for operator, rank in product(OPERATORS, (1, 2, 3)):
        given = calls(operator, rank)
        for start in range(0, len(given), PER_GRAPH):
            yield pytest.param(given[start : start + PER_GRAPH], id=f"{operator} {rank}-D {start}")


GRAPHS = list(graphs())


def test_there_are_thousands():
    assert sum(len(each.values[0]) for each in GRAPHS) > 6000


@pytest.mark.parametrize("given", GRAPHS)
def test_window(given: list[Call]):
    draw = spaced if given[0].operator in {"MaxPool", "LpPool"} else normal
    shapes = {f"x{i}": (call.channels, *call.each("size")) for i, call in enumerate(given)}
    kernels = {call.weight: weights(*call.weight) for call in given if "Conv" in call.operator}

    def feeds(batch: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(batch)
        return {name: draw(rng, (batch, *shape)) for name, shape in shapes.items()}

    model = parse(
        " ".join(f"y{i} = {str(call).replace('(x', f'(x{i}')}" for i, call in enumerate(given)),
        {name: (N, *shape) for name, shape in shapes.items()},
        {f"w{'_'.join(map(str, shape))}": kernel for shape, kernel in kernels.items()},
        outputs=[f"y{i}" for i in range(len(given))],
    )
    measure(model, feeds)
    explicit_pads(model, {x.name: [size if isinstance(size, int) else None for size in x.shape] for x in inputs(model)})
    xs = feeds(2)
    outputs, seeds, found = Differentiated(model, feeds)(xs)
    for i, call in enumerate(given):
        x = torch.tensor(xs[f"x{i}"], dtype=torch.float64, requires_grad=True)
        w = torch.tensor(kernels[call.weight], dtype=torch.float64) if call.weight in kernels else None
        y = call.in_torch(x, w)
        assert relative_error(outputs[f"y{i}"], y.detach().numpy()) < 1e-5, call
        y.backward(torch.tensor(seeds[f"y{i}"], dtype=torch.float64))
        assert relative_error(found[f"x{i}"], x.grad.numpy()) < 1e-5, call


def inputs(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *model.graph.initializers.values()]
