"""Random transformations that an image must survive: a unit's preference, not a trick at single pixels.

Each is a linear map of the image, with its adjoint, so that gradients come back exactly. What leaves the image at one
side comes in at the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnxviz.errors import OptionError

Images = npt.NDArray[np.float32]


class Linear(Protocol):
    """A linear map of images (N, …)."""

    def forward(self, images: Images) -> Images:
        """The transformed images."""

    def adjoint(self, gradient: Images) -> Images:
        """The gradient with respect to the images, from that with respect to the transformed ones."""


@dataclass(frozen=True)
class Roll:
    """A shift along each spatial axis."""

    shifts: tuple[int, ...]
    spatial: tuple[int, ...]

    def forward(self, images: Images) -> Images:
        """See :class:`Linear`."""
        return np.roll(images, self.shifts, self.spatial)

    def adjoint(self, gradient: Images) -> Images:
        """See :class:`Linear`."""
        return np.roll(gradient, [-shift for shift in self.shifts], self.spatial)


class Resample:
    """Multilinear interpolation at ``matrix · place``, where places are counted from the centre, in pixels."""

    def __init__(self, matrix: npt.NDArray[np.float64], shape: Sequence[int], spatial: tuple[int, ...]) -> None:
        self.spatial = spatial
        sizes = [shape[axis] for axis in spatial]
        centre = (np.array(sizes)[:, None] - 1) / 2
        places = np.indices(sizes).reshape(len(sizes), -1)
        sources = matrix @ (places - centre) + centre
        low = np.floor(sources).astype(np.int64)
        part = sources - low
        corners, weights = [], []
        for corner in product((0, 1), repeat=len(sizes)):
            up = np.array(corner)[:, None]
            corners.append(np.ravel_multi_index(tuple(low + up), sizes, mode="wrap"))
            weights.append(np.where(up, part, 1 - part).prod(0))
        self.corners = np.stack(corners)
        self.weights = np.stack(weights).astype(np.float32)

    def forward(self, images: Images) -> Images:
        """See :class:`Linear`."""
        rows, shape = self._rows(images)
        return self._back(np.einsum("rkp,kp->rp", rows[:, self.corners], self.weights), shape)

    def adjoint(self, gradient: Images) -> Images:
        """See :class:`Linear`."""
        rows, shape = self._rows(gradient)
        flat, count = self.corners.ravel(), rows.shape[1]
        sums = [np.bincount(flat, (self.weights * row).ravel(), count) for row in rows]
        return self._back(np.stack(sums).astype(np.float32), shape)

    def _rows(self, images: Images) -> tuple[Images, tuple[int, ...]]:
        """One row for each sample and channel, its places in order; and the shape to come back to."""
        moved = np.moveaxis(images, self.spatial, range(-len(self.spatial), 0))
        return moved.reshape(-1, self.corners.shape[1]), moved.shape

    def _back(self, rows: Images, shape: tuple[int, ...]) -> Images:
        moved = rows.reshape(shape)
        return np.ascontiguousarray(np.moveaxis(moved, range(-len(self.spatial), 0), self.spatial))


@dataclass(frozen=True)
class Transforms:
    """What is drawn anew at each step.

    Args:
        jitter: shifts of −jitter … jitter pixels along each spatial axis.
        scale: (smallest, largest) factor of the size.
        rotation: angles of −rotation … rotation degrees; of inputs with two spatial axes.

    Raises:
        OptionError: an impossible value.
    """

    jitter: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int) or self.jitter < 0:
            raise OptionError(f"jitter={self.jitter!r}: expected a number of pixels, at least 0")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] < math.inf):
            raise OptionError(f"scale={self.scale!r}: expected the smallest and the largest factor, such as (0.9, 1.1)")
        if not 0 <= self.rotation <= 180:
            raise OptionError(f"rotation={self.rotation!r}: expected the largest angle in degrees, 0 … 180")

    def draw(self, random: np.random.Generator, shape: Sequence[int], spatial: tuple[int, ...]) -> list[Linear]:
        """The maps of one step, in the order in which they are applied.

        Raises:
            OptionError: rotation of an input that has not two spatial axes.
        """
        if self.rotation and len(spatial) != 2:
            raise OptionError(
                f"rotation={self.rotation}: the input has {len(spatial)} spatial axes, rotation needs two"
            )
        maps: list[Linear] = []
        if not spatial:
            return maps
        if self.jitter:
            shifts = random.integers(-self.jitter, self.jitter + 1, len(spatial))
            maps.append(Roll(tuple(map(int, shifts)), spatial))
        if self.rotation or self.scale != (1.0, 1.0):
            angle = math.radians(random.uniform(-self.rotation, self.rotation))
            matrix = np.eye(len(spatial)) / random.uniform(*self.scale)
            if self.rotation:
                cos, sin = math.cos(angle), math.sin(angle)
                matrix = matrix @ np.array([[cos, sin], [-sin, cos]])
            maps.append(Resample(matrix, shape, spatial))
        return maps
