"""Averages over variants of the input within one run: the variants are further samples of the batch.

The batch of N becomes (1 + S)·N: first the inputs as they are, of which the prediction is made and the class on top is
found, then the S variants of each, of which the gradients are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.algorithms.sampling import noise_of
from onnxviz.engine.inputs import array
from onnxviz.errors import OptionError
from onnxviz.export.plan import Plan
from onnxviz.manifest import Input

Add = Callable[..., str]
"""Appends a node and returns the name of its output, as :meth:`onnxviz.engine.cut.Sketch.add` does."""


@dataclass(frozen=True)
class Samples:
    """How an average is made.

    Attributes:
        at: the input that varies.
        count: S, how many variants each sample has.
        vary: from x as (1, N, …) to its variants (S, N, …).
        average: from the gradients (S, N, …) and x (N, …) to the result (N, …).
    """

    at: Input
    count: int
    vary: Callable[[Add, str], str]
    average: Callable[[Add, str, str], str]

    def spread(self, add: Add, x: str) -> str:
        """x (N, …) and behind it its variants: ((1 + S)·N, …)."""
        shape = add("Concat", np.array([-1]), add("Shape", x, start=1), axis=0)
        variants = add("Reshape", self.vary(add, add("Unsqueeze", x, np.array([0]))), shape)
        return add("Concat", x, variants, axis=0)

    def repeated(self, add: Add, value: str, rank: int) -> str:
        """A value (N, …) for each variant: ((1 + S)·N, …)."""
        return add("Tile", value, np.array([1 + self.count, *[1] * (rank - 1)]))

    def first(self, add: Add, value: str, axis: int, x: str) -> str:
        """Of a value of all variants what belongs to x itself."""
        return add("Slice", value, np.array([0]), add("Shape", x, start=0, end=1), np.array([axis]))

    def gathered(self, add: Add, gradients: str, x: str) -> str:
        """From the gradients ((1 + S)·N, …) to the result (N, …)."""
        shape = add("Concat", np.array([1 + self.count, -1]), add("Shape", gradients, start=1), axis=0)
        apart = add("Reshape", gradients, shape)
        variants = add("Slice", apart, np.array([1]), np.array([1 + self.count]), np.array([0]))
        return self.average(add, variants, x)


def samples_of(plan: Plan, at: Input) -> Samples:
    """The variants and the average of a plan's method."""
    return (_smooth_grad if plan.method == "smooth_grad" else _integrated_gradients)(plan.options, at)


def _smooth_grad(options: Any, at: Input) -> Samples:
    """The noise is stored: what it is of a seed is the same on every runtime, as random operators are not."""
    count, kind = options["n_samples"], options["kind"]
    shape = [size for size in at.shape[1:] if isinstance(size, int)]
    if len(shape) != len(at.shape) - 1:
        raise OptionError(
            f"smooth_grad's noise stands in the file and needs to know the sizes of input {at.name!r}, which are open "
            f"({list(at.shape)}): convert with open_sizes=False"
        )
    noise = np.stack([noise_of(options["seed"], j, shape, np.dtype(at.dtype)) for j in range(count)])[:, None]
    axes = np.arange(2, len(at.shape) + 1)

    def vary(add: Add, x: str) -> str:
        extent = add("Sub", add("ReduceMax", x, axes, keepdims=1), add("ReduceMin", x, axes, keepdims=1))
        sigma = add("Mul", extent, np.array(options["noise"], at.dtype))
        return add("Add", x, add("Mul", sigma, noise))

    def average(add: Add, gradients: str, _: str) -> str:
        def mean(value: str) -> str:
            return add("ReduceMean", value, np.array([0]), keepdims=0)

        if kind == "mean":
            return mean(gradients)
        square = mean(add("Mul", gradients, gradients))
        if kind == "square":
            return square
        middle = mean(gradients)
        return add("Relu", add("Sub", square, add("Mul", middle, middle)))

    return Samples(at, count, vary, average)


def _integrated_gradients(options: Any, at: Input) -> Samples:
    count, start = options["n_steps"], array(options["baseline"]).astype(at.dtype)  # the method has looked at both
    nodes, weights = np.polynomial.legendre.leggauss(count)
    along = [-1, *[1] * len(at.shape)]
    steps, parts = (each.astype(at.dtype).reshape(along) for each in ((nodes + 1) / 2, weights / 2))

    def vary(add: Add, x: str) -> str:
        return add("Add", start, add("Mul", steps, add("Sub", x, start)))

    def average(add: Add, gradients: str, x: str) -> str:
        mean = add("ReduceSum", add("Mul", gradients, parts), np.array([0]), keepdims=0)
        return add("Mul", mean, add("Sub", x, start))

    return Samples(at, count, vary, average)
