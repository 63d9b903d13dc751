"""What the fields of an ImageInput may hold: brought into one form, or refused by name (OptionError)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeGuard

import numpy as np

from onnxviz.errors import OptionError

MOST_PIXELS = 2**28
"""Of a picture that is made: a description, or a picture of one row, could ask for more than the memory holds."""


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def height_and_width(name: str, size: object) -> tuple[int, int]:
    """Two positive whole numbers, from these or from one that holds for both."""
    sides = (size, size) if _is_whole(size) else size
    if isinstance(sides, Sequence) and len(sides) == 2 and all(_is_whole(n) and n > 0 for n in sides):
        height, width = int(sides[0]), int(sides[1])
        if height * width > MOST_PIXELS:
            raise OptionError(f"{name} is at most {MOST_PIXELS} pixels; got {height} × {width}")
        return height, width
    raise OptionError(f"{name} is a positive number or (height, width); got {size!r}")


def resize_to(resize: object, size: tuple[int, int]) -> int | tuple[int, int] | None:
    """``resize``, if ``size`` can be cut out of what it leaves."""
    if resize is None:
        return None
    if _is_whole(resize) or (isinstance(resize, Sequence) and not isinstance(resize, str)):
        height, width = height_and_width("ImageInput.resize", resize)
        if height >= size[0] and width >= size[1]:
            return resize if _is_whole(resize) else (height, width)
    raise OptionError(f"ImageInput.resize is None, or at least the size {size} on both sides; got {resize!r}")


def number(name: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        with suppress(OverflowError):  # an integer that no float can hold
            if math.isfinite(found := float(value)):
                return found
    raise OptionError(f"{name} is a finite number; got {value!r}")


def per_channel(name: str, value: object, channels: int) -> tuple[float, ...]:
    """One number per channel, from as many or from one that holds for all."""
    values = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value,) * channels
    if len(values) != channels:
        raise OptionError(f"{name} has one number, or one for each of {channels} channels; got {value!r}")
    return tuple(number(name, v) for v in values)
