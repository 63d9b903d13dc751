"""Priors of activation maximisation: what an image must not be, however much a unit likes it.

A prior is a penalty, whose gradient is subtracted from the score's, or a projection, which replaces the image every few
steps. Both see the image as the ascent does: where the file describes its pictures (:class:`onnxviz.ImageInput`) in
grey levels around mid-grey, −128 … 127, so that a weight means the same for every network; else in the model's units.

The priors of this module append their formulas to the graph of the ascent, so that the image stays where it is computed
(:class:`PenaltyHead`, :class:`ProjectionHead`). One of your own may do the same, or be written in numpy
(:class:`Penalty`, :class:`Projection`): then the images come to the host for it, at each step of a penalty, and at each
step at which a projection is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.canvas import Add, Canvas, number, padded, piece, total
from onnxviz.errors import OptionError

Images = npt.NDArray[np.float32]


@runtime_checkable
class Penalty(Protocol):
    """What is taken from the score, in numpy. Both functions take images (N, …), as the model lays them out, and the
    axes that are space; an image's penalty may depend on that image alone.
    """

    def value(self, images: Images, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The penalty of each image, (N,)."""

    def gradient(self, images: Images, spatial: tuple[int, ...]) -> Images:
        """Its derivative with respect to the images."""


@runtime_checkable
class PenaltyHead(Hashable, Protocol):
    """What is taken from the score, as nodes of a graph. Equal objects append equal nodes."""

    def slope(self, add: Add, images: str, canvas: Canvas) -> str:
        """Append the penalty's derivative with respect to the images, which lie as ``canvas`` says."""


@runtime_checkable
class Projection(Protocol):
    """What is done to the images between steps, in numpy."""

    def project(self, images: Images, spatial: tuple[int, ...], step: int) -> Images | None:
        """The images to go on with after this step (counted from 1); None where it leaves them alone."""


@runtime_checkable
class ProjectionHead(Hashable, Protocol):
    """What is done to the images between steps, as nodes of a graph. Equal objects append equal nodes."""

    def due(self, step: int) -> bool:
        """Whether anything is done after this step, counted from 1."""

    def replacement(self, add: Add, images: str, canvas: Canvas) -> str:
        """Append the images to go on with."""


@dataclass(frozen=True)
class LpNorm:
    """weight · Σ |x|ᵖ / (number of elements): keeps values from running away (Mahendran 2016, arXiv:1512.02017, eq. 6).

    Args:
        p: the power, at least 1. A high one, such as 6, leaves values alone up to a bound and stops them there.
        weight: how much it counts.
    """

    p: float = 6
    weight: float = 10

    def __post_init__(self) -> None:
        _at_least("LpNorm.p", self.p, 1)
        _at_least("LpNorm.weight", self.weight, 0)

    def slope(self, add: Add, images: str, canvas: Canvas) -> str:
        """See :class:`PenaltyHead`."""
        if self.p > 1 and self.p == int(self.p):
            slope = _power(add, images, int(self.p) - 1)
            slope = slope if self.p % 2 == 0 else add("Mul", slope, add("Sign", images))
        else:
            slope = add("Mul", add("Pow", add("Abs", images), number(self.p - 1)), add("Sign", images))
        return add("Mul", slope, number(self.p * self.weight / canvas.size))


@dataclass(frozen=True)
class TotalVariation:
    """weight · Σ ((Δy)² + (Δx)²)^(β/2) / (number of elements): smooth images (Mahendran 2016, arXiv:1512.02017, eq. 7).

    The sum runs over channels and places; Δ is the difference to the next place along a spatial axis, 0 past the last.
    Series and volumes have one and three such terms.

    Args:
        weight: how much it counts.
        beta: 2 smooths edges away; 1 keeps them, and is not differentiable where all differences are 0: there the
            gradient is taken as 0.
    """

    weight: float = 10
    beta: float = 2

    def __post_init__(self) -> None:
        _at_least("TotalVariation.weight", self.weight, 0)
        _at_least("TotalVariation.beta", self.beta, 1)

    def slope(self, add: Add, images: str, canvas: Canvas) -> str:
        """See :class:`PenaltyHead`."""
        steps = {}
        for axis, n in zip(canvas.axes, canvas.space, strict=True):
            step = add("Sub", piece(add, images, axis, 1, n), piece(add, images, axis, 0, n - 1))
            steps[axis] = padded(add, step, axis, (0, 1))
        if self.beta != 2:
            squares = total(add, [add("Mul", step, step) for step in steps.values()])
            factor = add("Pow", squares, number(self.beta / 2 - 1))
            factor = add("Where", add("Greater", squares, number(0)), factor, number(0))
            steps = {axis: add("Mul", step, factor) for axis, step in steps.items()}
        pulls = []
        for (axis, step), n in zip(steps.items(), canvas.space, strict=True):  # at the two places that it is between
            before = padded(add, piece(add, step, axis, 0, n - 1), axis, (1, 0))
            pulls.append(add("Sub", before, step))
        return add("Mul", total(add, pulls), number(self.beta * self.weight / canvas.size))


@dataclass(frozen=True)
class L2:
    """weight · Σ x² : the prior of the first class images (Simonyan 2013, arXiv:1312.6034, eq. 1). Not divided."""

    weight: float

    def __post_init__(self) -> None:
        _at_least("L2.weight", self.weight, 0)

    def slope(self, add: Add, images: str, canvas: Canvas) -> str:  # noqa: ARG002 - any layout
        """See :class:`PenaltyHead`."""
        return add("Mul", images, number(2 * self.weight))


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur every few steps, which takes away high frequencies (Yosinski 2015, arXiv:1506.06579, section 4).

    Args:
        sigma: of the kernel, in pixels; it is cut at 3·sigma, and edges are repeated.
        every: how many steps lie between two blurs.
    """

    sigma: float = 0.6
    every: int = 4

    def __post_init__(self) -> None:
        _at_least("Blur.sigma", self.sigma, 0)
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise OptionError(f"Blur.every={self.every!r}: expected a positive integer")

    def due(self, step: int) -> bool:
        """See :class:`ProjectionHead`."""
        return step % self.every == 0 and self.sigma > 0

    def replacement(self, add: Add, images: str, canvas: Canvas) -> str:
        """See :class:`ProjectionHead`."""
        radius = max(1, round(3 * self.sigma))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        kernel = (kernel / kernel.sum()).astype(np.float32)
        planes = add("Reshape", images, np.array([-1, 1, *canvas.space]))
        for axis in range(2, 2 + len(canvas.space)):
            planes = padded(add, planes, axis, (radius, radius), mode="edge")
            shape = [len(kernel) if i == axis else 1 for i in range(2 + len(canvas.space))]
            planes = add("Conv", planes, kernel.reshape(shape))
        return add("Reshape", planes, np.array([-1, *canvas.shape]))


def _power(add: Add, x: str, exponent: int) -> str:
    """A whole power by multiplications, which are many times faster than Pow."""
    if exponent == 1:
        return x
    half = _power(add, x, exponent // 2)
    square = add("Mul", half, half)
    return add("Mul", square, x) if exponent % 2 else square


def _at_least(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= sys.float_info.max:
        raise OptionError(f"{name}={value!r}: expected a number of at least {least}")
