"""Random transformations that an image must survive: a unit's preference, not a trick at single pixels.

Each is a linear map of the image, with its adjoint, so that gradients come back exactly. What leaves the image at one
side comes in at the other. The maps are nodes of the ascent's graph; what is drawn anew at each step is a few numbers
that are fed to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.canvas import Add, Canvas, piece
from onnxviz.errors import OptionError
from onnxviz.source import Array

ROLL, ROLL_END, UNROLL, UNROLL_END = "step/roll", "step/roll_end", "step/unroll", "step/unroll_end"
"""(spatial axes,) where the window of the rolled image begins and ends in the image with its margins, and back."""
MATRIX = "step/matrix"
"""(spatial axes, spatial axes) float64: from places of the resampled image to places of the image."""


Adjoint = Callable[[Add, str], str]
"""Appends the gradient with respect to images, given that with respect to what became of them."""


class Linear(Protocol):
    """A linear map of images, as nodes of a graph."""

    def apply(self, add: Add, images: str) -> tuple[str, Adjoint]:
        """The transformed images, and what appends the map's adjoint."""


class Roll:
    """A shift along each spatial axis, by up to ``most`` places: a window of the image with margins from around."""

    def __init__(self, canvas: Canvas, most: int) -> None:
        self.canvas = canvas
        self.margins = np.array([min(most, n // 2) for n in canvas.space])

    def fed(self, shifts: Array) -> dict[str, Array]:
        """The inputs for these shifts, (spatial axes,): ``y[i] = x[i − shift]``."""
        sizes = np.array(self.canvas.space)
        near = (shifts + sizes // 2) % sizes - sizes // 2  # the same shift, −n/2 … n/2
        ahead, back = self.margins - near, self.margins + near
        return {ROLL: ahead, ROLL_END: ahead + sizes, UNROLL: back, UNROLL_END: back + sizes}

    def apply(self, add: Add, images: str) -> tuple[str, Adjoint]:
        """See :class:`Linear`."""

        def adjoint(add: Add, gradient: str) -> str:
            return self._window(add, gradient, UNROLL, UNROLL_END)

        return self._window(add, images, ROLL, ROLL_END), adjoint

    def _window(self, add: Add, x: str, start: str, end: str) -> str:
        for axis, n, margin in zip(self.canvas.axes, self.canvas.space, self.margins, strict=True):
            if margin:
                x = add("Concat", piece(add, x, axis, n - margin, n), x, piece(add, x, axis, 0, margin), axis=axis)
        return add("Slice", x, start, end, np.array(self.canvas.axes))


class Resample:
    """Multilinear interpolation at ``matrix · place``, where places are counted from the centre, in pixels.

    Places and weights are computed in float64, as an error of a place is an error of all values around it. The adjoint
    adds with ScatterElements: ScatterND's additions race on several threads of a CPU. On CUDA they are atomic, in no
    fixed order, so that two runs may differ in the last bit.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def apply(self, add: Add, images: str) -> tuple[str, Adjoint]:
        """See :class:`Linear`."""
        count, shape = math.prod(self.canvas.space), np.array([-1, *self.canvas.shape])
        places, weights = self._sources(add)

        def adjoint(add: Add, gradient: str) -> str:
            rows = add("Reshape", gradient, np.array([-1, 1, count]))
            parts = add("Reshape", add("Mul", rows, weights), np.array([0, -1]))
            where = add("Expand", add("Reshape", places, np.array([1, -1])), add("Shape", parts))
            zeros = add("ConstantOfShape", add("Shape", add("Squeeze", rows, np.array([1]))))
            return add("Reshape", add("ScatterElements", zeros, where, parts, axis=1, reduction="add"), shape)

        by_place = add("Transpose", add("Reshape", images, np.array([-1, count])), perm=[1, 0])
        corners = add("Transpose", add("Gather", by_place, places, axis=0), perm=[2, 0, 1])
        return add("Reshape", add("ReduceSum", add("Mul", corners, weights), np.array([1])), shape), adjoint

    def _sources(self, add: Add) -> tuple[str, str]:
        """For each corner around each place's source, which place it is and how much it counts: (corners, places)."""
        sizes = self.canvas.space
        centre = (np.array(sizes, np.float64)[:, None] - 1) / 2
        from_centre = np.indices(sizes).reshape(len(sizes), -1) - centre
        sources = add("Add", add("MatMul", MATRIX, from_centre), centre)
        low = add("Floor", sources)
        part = add("Sub", sources, low)
        shares = add("Sub", np.array(1.0), part), part
        whole = add("Cast", low, to=7)
        column = np.array(sizes)[:, None]
        strides = np.array([math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))])[:, None]
        ends = [add("Mul", add("Mod", add("Add", whole, np.array(up)), column), strides) for up in (0, 1)]
        places, weights = [], []
        for corner in product((0, 1), repeat=len(sizes)):
            place, weight = "", ""
            for axis, up in enumerate(corner):
                here = add("Gather", ends[up], np.array([axis]), axis=0)
                share = add("Gather", shares[up], np.array([axis]), axis=0)
                place = add("Add", place, here) if place else here
                weight = add("Mul", weight, share) if weight else share
            places.append(place)
            weights.append(weight)
        return add("Concat", *places, axis=0), add("Cast", add("Concat", *weights, axis=0), to=1)


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

    @property
    def resamples(self) -> bool:
        """Whether images are scaled or turned."""
        return bool(self.rotation) or self.scale != (1.0, 1.0)

    def maps(self, canvas: Canvas) -> list[Linear]:
        """In the order in which they are applied.

        Raises:
            OptionError: rotation of an input that has not two spatial axes.
        """
        if self.rotation and len(canvas.space) != 2:
            raise OptionError(
                f"rotation={self.rotation}: the input has {len(canvas.space)} spatial axes, rotation needs two"
            )
        maps: list[Linear] = []
        if canvas.space and self.jitter:
            maps.append(Roll(canvas, self.jitter))
        if canvas.space and self.resamples:
            maps.append(Resample(canvas))
        return maps

    def draw(self, random: np.random.Generator | None, canvas: Canvas) -> Mapping[str, Array]:
        """What the maps are fed at one step; None for one at which they change nothing."""
        count, fed = len(canvas.space), dict[str, Array]()
        if count and self.jitter:
            shifts = random.integers(-self.jitter, self.jitter + 1, count) if random else np.zeros(count, np.int64)
            fed |= Roll(canvas, self.jitter).fed(shifts)
        if count and self.resamples:
            fed[MATRIX] = self._matrix(random, count) if random else np.eye(count)
        return fed

    def _matrix(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        angle = math.radians(random.uniform(-self.rotation, self.rotation))
        matrix = np.eye(count) / random.uniform(*self.scale)
        if self.rotation:
            cos, sin = math.cos(angle), math.sin(angle)
            matrix = matrix @ np.array([[cos, sin], [-sin, cos]])
        return matrix
