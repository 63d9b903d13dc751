"""What the plot functions accept, brought into one form or refused by the argument's name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import as_array
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation

Pixels = npt.NDArray[np.uint8]
MapLike = npt.ArrayLike | Explanation


def numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """An array of finite numbers that is not empty.

    Raises:
        InputError: it is not.
    """
    array = as_array(values, name)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} holds numbers; got an array of {array.dtype}")
    array = array.astype(np.float64)
    if not array.size or not np.isfinite(array).all():
        raise InputError(f"{name} is not empty and holds finite numbers only; got shape {array.shape} with NaN or inf")
    return array


def maps_of(name: str, values: MapLike, rank: int) -> npt.NDArray[np.float64]:
    """Maps (N, T, spatial …) with ``rank`` spatial axes: N samples, T targets each.

    From an array (spatial …) or (N, spatial …), or from an Explanation, whose channels are summed.

    Raises:
        InputError: another rank.
    """
    if isinstance(values, Explanation):
        maps = numbers(name, values.maps())
        shape = values.values.shape
    else:
        maps = numbers(name, values)
        shape = maps.shape
        maps = maps.reshape(1, 1, *shape) if maps.ndim <= rank else maps[:, None]
    if maps.ndim != rank + 2:
        raise InputError(f"{name} has {rank} spatial axes, alone or after the batch axis; got shape {shape}")
    return maps


def images_of(name: str, image: npt.ArrayLike, samples: int) -> Pixels:
    """Pictures (N, H, W, 3), one for each sample; a single (H, W, 3) stands for all of them.

    Raises:
        InputError: not uint8 RGB, or another number of pictures.
    """
    images = as_array(image, name)
    images = images[None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise InputError(f"{name} is uint8 RGB (H, W, 3) or (N, H, W, 3); got {images.dtype} {np.shape(image)}")
    if len(images) not in {1, samples}:
        raise InputError(f"{name} holds {len(images)} pictures for {samples} samples")
    return np.broadcast_to(images, (samples, *images.shape[1:]))


def titles_of(name: str, titles: Sequence[str] | None, count: int) -> Sequence[str]:
    """The titles, or as many empty ones.

    Raises:
        OptionError: another number than ``count``.
    """
    if titles is None:
        return [""] * count
    if isinstance(titles, str) or len(titles) != count:
        raise OptionError(f"{name} has one title for each of the {count}; got {titles!r}")
    return titles


def positive(name: str, value: int) -> int:
    """The value, if it is a positive whole number.

    Raises:
        OptionError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name} is a positive whole number; got {value!r}")
    return int(value)
