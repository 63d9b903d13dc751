"""Where things lie: arrays at another size, and which part of a picture a network saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The part of a picture that is all of it."""


@dataclass(frozen=True)
class View:
    """The part of a picture that a network saw: a rectangle between edges of pixels.

    Attributes:
        picture: (height, width) of the picture.
        part: top, left, bottom and right, as shares of the picture's height and width.
    """

    picture: tuple[int, int]
    part: tuple[float, float, float, float] = WHOLE

    @property
    def covered(self) -> tuple[slice, slice]:
        """The rows and columns of the picture whose centres lie within."""
        (height, width), (top, left, bottom, right) = self.picture, self.part
        return _between(top * height, bottom * height, height), _between(left * width, right * width, width)

    def place(self, values: npt.ArrayLike, axes: Sequence[int]) -> npt.NDArray[np.float32]:
        """Values of the network's places at the picture's size along ``axes`` (rows, columns), 0 outside of the part.

        Linear between the centres of the network's places; the outermost are repeated up to the edges of the part.
        """
        result = np.asarray(values, np.float32)
        for axis, n, low, high, seen in zip(
            axes, self.picture, self.part[:2], self.part[2:], self.covered, strict=True
        ):
            length = result.shape[axis]
            centres = (np.arange(n)[seen] + 0.5 - low * n) / ((high - low) * n) * length - 0.5
            inner = _sampled(result, centres, axis)
            shape = list(inner.shape)
            shape[axis] = n
            result = np.zeros(shape, np.float32)
            np.moveaxis(result, axis, 0)[seen] = np.moveaxis(inner, axis, 0)
        return result


def resize_linear(values: npt.ArrayLike, size: Sequence[int], axes: Sequence[int]) -> npt.NDArray[np.float32]:
    """Values at another ``size`` along ``axes``, linear in each: half-pixel centres, edges repeated, no antialiasing.

    The same as ONNX's ``Resize(mode="linear", coordinate_transformation_mode="half_pixel")``.
    """
    result = np.asarray(values, np.float32)
    for n, axis in zip(size, axes, strict=True):
        length = result.shape[axis]
        if n != length:
            result = _sampled(result, (np.arange(n) + 0.5) * length / n - 0.5, axis)
    return result


def _sampled(values: npt.NDArray[np.float32], places: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    """Values at fractional places of an axis, linear between its entries, the outermost repeated."""
    length = values.shape[axis]
    places = np.clip(places, 0, length - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, length - 1)
    part = (places - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1 - axis % values.ndim))
    return np.asarray(np.take(values, low, axis) * (1 - part) + np.take(values, high, axis) * part, np.float32)


def _between(low: float, high: float, length: int) -> slice:
    """The entries whose centres lie within; at least one. Edges at half a pixel count as within."""
    start = min(max(math.ceil(low - 0.5 - 1e-6), 0), length - 1)
    return slice(start, max(min(math.floor(high - 0.5 + 1e-6) + 1, length), start + 1))
