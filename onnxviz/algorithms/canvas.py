"""How the graphs of an ascent hold its images, and what they are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np

from onnxviz.manifest import Axes
from onnxviz.source import Array


class Add(Protocol):
    """Appends a node to a graph: :meth:`onnxviz.engine.cut.Sketch.add` with its list of nodes chosen."""

    def __call__(self, op_type: str, *inputs: str | Array, **attributes: Any) -> str:
        """The name of the node's output; arrays among the inputs become constants."""


@dataclass(frozen=True)
class Canvas:
    """The axes of images in these graphs: samples first, space last, whatever the model's layout is.

    Attributes:
        rest: sizes of the axes that are neither samples nor space, such as the channels.
        space: sizes of the spatial axes.
        order: the model's axes in this order.
    """

    rest: tuple[int, ...]
    space: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], axes: Axes) -> Canvas:
        """For images of a model, (N, …)."""
        rest = tuple(axis for axis in range(1, len(shape)) if axis not in axes.spatial)
        order = (0, *rest, *axes.spatial)
        return cls(tuple(shape[i] for i in rest), tuple(shape[i] for i in axes.spatial), order)

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(1 + len(self.rest), len(self.order)))

    @property
    def spatial(self) -> tuple[int, ...]:
        """The spatial axes in the model's layout."""
        return self.order[1 + len(self.rest) :]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.rest + self.space

    @property
    def size(self) -> int:
        """The number of elements of one image."""
        return math.prod(self.shape)

    def inward(self, images: Array) -> Array:
        """From the model's layout."""
        return np.ascontiguousarray(images.transpose(self.order))

    def outward(self, images: Array) -> Array:
        """To the model's layout."""
        return np.ascontiguousarray(images.transpose(np.argsort(self.order)))


def number(value: float) -> Array:
    """A constant of the images' type."""
    return np.array(value, np.float32)


def along(add: Add, x: str, matrix: Array, *, axis: int, rank: int) -> str:
    """A matrix (m, n) times each line of n along an axis."""
    if axis == rank - 1:
        return add("MatMul", x, np.ascontiguousarray(matrix.T))
    if axis == rank - 2:
        return add("MatMul", matrix, x)
    swapped = [*range(axis), rank - 2, *range(axis + 1, rank - 2), axis, rank - 1]
    return add("Transpose", add("MatMul", matrix, add("Transpose", x, perm=swapped)), perm=swapped)


def piece(add: Add, x: str, axis: int, start: int, end: int) -> str:
    """The places from ``start`` to before ``end`` along an axis."""
    return add("Slice", x, np.array([start]), np.array([end]), np.array([axis]))


def padded(add: Add, x: str, axis: int, ends: tuple[int, int], *, mode: str = "constant") -> str:
    """With so many zeros, or repetitions of the edge, before and behind along an axis."""
    return add("Pad", x, np.array(ends), "", np.array([axis]), mode=mode)


def total(add: Add, terms: Sequence[str]) -> str:
    """The sum of values."""
    return reduce(partial(add, "Add"), terms)
