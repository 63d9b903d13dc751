"""Priors of activation maximisation: what an image must not be, however much a unit likes it.

A prior is a penalty, whose gradient is subtracted from the score's, or a projection, which replaces the image every few
steps. Both see the image as the ascent does: where the file describes its pictures (:class:`onnxviz.ImageInput`) in
grey levels around mid-grey, −128 … 127, so that a weight means the same for every network; else in the model's units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnxviz.errors import OptionError

Images = npt.NDArray[np.float32]


@runtime_checkable
class Penalty(Protocol):
    """What is taken from the score. Both functions take images (N, …) and the axes that are space."""

    def value(self, images: Images, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The penalty of each image, (N,)."""

    def gradient(self, images: Images, spatial: tuple[int, ...]) -> Images:
        """Its derivative with respect to the images."""


@runtime_checkable
class Projection(Protocol):
    """What is done to the images between steps."""

    def project(self, images: Images, spatial: tuple[int, ...], step: int) -> Images | None:
        """The images to go on with after this step (counted from 1); None where it leaves them alone."""


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

    def value(self, images: Images, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:  # noqa: ARG002 - everywhere alike
        """See :class:`Penalty`."""
        with np.errstate(over="ignore"):
            return np.float64(self.weight / images[0].size) * _summed(np.abs(images, dtype=np.float64) ** self.p)

    def gradient(self, images: Images, spatial: tuple[int, ...]) -> Images:  # noqa: ARG002
        """See :class:`Penalty`."""
        with np.errstate(over="ignore", invalid="ignore"):
            slope = np.abs(images) ** np.float32(self.p - 1) * np.sign(images)
            return slope * np.float32(self.p * self.weight / images[0].size)


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

    def value(self, images: Images, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """See :class:`Penalty`."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = sum(_difference(images, axis).astype(np.float64) ** 2 for axis in spatial)
            return np.float64(self.weight / images[0].size) * _summed(squares ** (self.beta / 2))

    def gradient(self, images: Images, spatial: tuple[int, ...]) -> Images:
        """See :class:`Penalty`."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steps = {axis: _difference(images, axis) for axis in spatial}
            if self.beta != 2:
                squares = sum(step * step for step in steps.values())
                factor = np.where(squares > 0, squares ** np.float32(self.beta / 2 - 1), np.float32(0))
                steps = {axis: step * factor for axis, step in steps.items()}
            total = np.zeros_like(images)
            for axis, step in steps.items():  # each difference pulls at the two places that it is between
                total -= step
                behind, ahead = _next(axis)
                total[ahead] += step[behind]
            return total * np.float32(self.beta * self.weight / images[0].size)


@dataclass(frozen=True)
class L2:
    """weight · Σ x² : the prior of the first class images (Simonyan 2013, arXiv:1312.6034, eq. 1). Not divided."""

    weight: float

    def __post_init__(self) -> None:
        _at_least("L2.weight", self.weight, 0)

    def value(self, images: Images, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:  # noqa: ARG002
        """See :class:`Penalty`."""
        with np.errstate(over="ignore"):
            return self.weight * _summed(images.astype(np.float64) ** 2)

    def gradient(self, images: Images, spatial: tuple[int, ...]) -> Images:  # noqa: ARG002
        """See :class:`Penalty`."""
        with np.errstate(over="ignore"):
            return images * np.float32(2 * self.weight)


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

    def project(self, images: Images, spatial: tuple[int, ...], step: int) -> Images | None:
        """See :class:`Projection`."""
        if step % self.every or not self.sigma:
            return None
        radius = max(1, round(3 * self.sigma))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        for axis in spatial:
            images = _convolved(images, (kernel / kernel.sum()).astype(np.float32), axis)
        return images


def _convolved(images: Images, kernel: Images, axis: int) -> Images:
    """Along one axis, with the edges repeated."""
    radius, length = len(kernel) // 2, images.shape[axis]
    padded = np.pad(images, [(radius, radius) if i == axis else (0, 0) for i in range(images.ndim)], mode="edge")
    whole = (slice(None),) * axis
    total = np.zeros_like(images)
    for offset, weight in enumerate(kernel):
        total += weight * padded[(*whole, slice(offset, offset + length))]
    return total


def _summed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = values.reshape(len(values), -1).sum(1)
    return total


def _next(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Each place but the last along an axis, and each but the first."""
    whole = (slice(None),) * axis
    return (*whole, slice(None, -1)), (*whole, slice(1, None))


def _difference(images: Images, axis: int) -> Images:
    """To the next place along an axis; 0 at the last."""
    behind, ahead = _next(axis)
    step = np.zeros_like(images)
    np.subtract(images[ahead], images[behind], out=step[behind])
    return step


def _at_least(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < least:
        raise OptionError(f"{name}={value!r}: expected a number of at least {least}")
