"""Convolutions and pools over many combinations of their attributes, several to a graph.

The expected gradient of each sample is its full Jacobian by differences: exact for what is linear, and for MaxPool and
LpPool on inputs whose elements are further apart, and further from 0, than the differences.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.gradient.harness import Differentiated, N, normal, parse, relative_error, spaced, weights

PER_GRAPH = 12
SIZES = {1: (8,), 2: (7, 6), 3: (4, 5, 4)}
PADS = [(0, 0), (1, 1), (0, 1), (1, 0), (2, 1)]


@dataclass(frozen=True)
class Window:
    """What a window operator may be told, drawn at random: an entry per axis."""

    size: tuple[int, ...]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    group: int
    flags: tuple[int, int]

    @classmethod
    def draw(cls, rng: random.Random, rank: int) -> Window:
        pads = rng.choices(PADS, k=rank)
        return cls(
            SIZES[rank],
            *(rng.choices(values, k=rank) for values in ((1, 2, 3), (1, 2, 3), (1, 2))),
            [p[0] for p in pads],
            [p[1] for p in pads],
            rng.choice((1, 2)),
            (rng.choice((0, 1)), rng.choice((0, 1))),
        )

    def reach(self) -> list[int]:
        return [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]

    def fits(self) -> bool:
        axes = zip(self.reach(), self.size, self.begin, self.end, strict=True)
        return all(r < n + b + e for r, n, b, e in axes)

    def pads_are_smaller_than_the_kernel(self) -> bool:
        return all(max(b, e) < k for b, e, k in zip(self.begin, self.end, self.kernel, strict=True))

    def last_starts_in_the_image(self) -> bool:
        """With ceil_mode; where it does not, onnx and onnxruntime disagree about whether it is there."""
        axes = zip(self.size, self.strides, self.reach(), self.begin, self.end, strict=True)
        return all(-(-(n + b + e - r - 1) // s) * s < n + b for n, s, r, b, e in axes)


def convolution(w: Window) -> str | None:
    weight = "_".join(map(str, (6, 4 // w.group, *w.kernel)))
    call = f"strides={w.strides}, pads={w.begin + w.end}, dilations={w.dilations}, group={w.group}>(x, w{weight})"
    return f"Conv<{call}" if w.fits() else None


def transposed_convolution(w: Window) -> str | None:
    weight, extra = "_".join(map(str, (4, 6 // w.group, *w.kernel))), [w.flags[0] * (s - 1) for s in w.strides]
    axes = zip(w.size, w.strides, w.reach(), extra, w.begin, w.end, strict=True)
    call = f"strides={w.strides}, pads={w.begin + w.end}, dilations={w.dilations}, group={w.group}"
    fits = all((n - 1) * s + r + 1 + o - b - e > 0 for n, s, r, o, b, e in axes)
    return f"ConvTranspose<{call}, output_padding={extra}>(x, w{weight})" if fits else None


def average_pool(w: Window) -> str | None:
    call = f"kernel_shape={w.kernel}, strides={w.strides}, pads={w.begin + w.end}"
    flags = f"ceil_mode={w.flags[0]}, count_include_pad={w.flags[1]}"
    w = replace(w, dilations=[1] * len(w.kernel))
    fits = w.pads_are_smaller_than_the_kernel() and (not w.flags[0] or w.last_starts_in_the_image())
    return f"AveragePool<{call}, {flags}>(x)" if fits else None


def max_pool(w: Window) -> str | None:
    call = f"kernel_shape={w.kernel}, strides={w.strides}, pads={w.begin + w.end}, dilations={w.dilations}"
    fits = w.fits() and w.pads_are_smaller_than_the_kernel() and (not w.flags[0] or w.last_starts_in_the_image())
    return f"MaxPool<{call}, ceil_mode={w.flags[0]}>(x)" if fits else None


def lp_pool(w: Window) -> str | None:
    """With p = 1, linear as long as no element changes its sign."""
    call = f"kernel_shape={w.kernel}, strides={w.strides}, pads={w.begin + w.end}, dilations={w.dilations}"
    fits = w.fits() and w.pads_are_smaller_than_the_kernel() and (not w.flags[0] or w.last_starts_in_the_image())
    return f"LpPool<p=1, {call}, ceil_mode={w.flags[0]}>(x)" if fits else None


def graphs() -> Iterator[pytest.param]:
    for write in (convolution, transposed_convolution, average_pool, max_pool, lp_pool):
        for rank, how_many in {1: 60, 2: 72, 3: 36}.items():
            rng, calls = random.Random(rank), []
            while len(calls) < how_many:
                call = write(Window.draw(rng, rank))
                calls += [call] if call is not None and call not in calls else []
            for start in range(0, how_many, PER_GRAPH):
                yield pytest.param(calls[start : start + PER_GRAPH], rank, id=f"{write.__name__} {rank}-D {start}")


@pytest.mark.parametrize(("calls", "rank"), list(graphs()))
def test_window(calls: list[str], rank: int):
    draw, eps = (spaced, 0.25) if calls[0].startswith(("MaxPool", "LpPool")) else (normal, 1.0)
    shape = (4 if "Conv" in calls[0] else 2, *SIZES[rank])
    names = {call: f"x{i}" for i, call in enumerate(calls)}
    used = {call.split(", ")[-1][:-1] for call in calls if "Conv" in call}
    gradients = Differentiated(
        parse(
            " ".join(f"y{i} = {call.replace('(x', f'(x{i}')}" for i, call in enumerate(calls)),
            dict.fromkeys(names.values(), (N, *shape)),
            {name: weights(*map(int, name[1:].split("_"))) for name in used},
            outputs=[f"y{i}" for i in range(len(calls))],
        ),
        lambda batch: {name: draw(np.random.default_rng(i), (batch, *shape)) for i, name in enumerate(names.values())},
    )
    for batch in (1, 3):
        rng = np.random.default_rng(batch)
        feeds = {name: draw(rng, (batch, *shape)) for name in names.values()}
        _, seeds, found = gradients(feeds)
        for n in range(batch):
            jacobians = moved_outputs(gradients, {name: x[n] for name, x in feeds.items()}, eps)
            for i, (call, name) in enumerate(names.items()):
                expected = np.tensordot(jacobians[f"y{i}"], seeds[f"y{i}"][n], rank + 1).reshape(shape)
                assert relative_error(found[name][n], expected) < 1e-5, call


def moved_outputs(gradients: Differentiated, sample: dict[str, np.ndarray], eps: float) -> dict[str, np.ndarray]:
    """Each output's Jacobian at one sample; the inputs move together, since each output has its own."""
    moved = {}
    for name, x in sample.items():
        steps = eps * np.eye(x.size, dtype=np.float32).reshape(x.size, *x.shape)
        moved[name] = np.concatenate([x + steps, x - steps])
    halves = {y: np.split(v.astype(np.float64), 2) for y, v in gradients.forward(moved).items()}
    return {y: (high - low) / (2 * eps) for y, (high, low) in halves.items()}
