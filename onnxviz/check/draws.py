"""The seeded inputs that a file is checked on, drawn like the example, and the recipe that repeats them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from onnxviz.errors import FileFormatError
from onnxviz.limits import require_room
from onnxviz.source import Array, Feeds


def recipe(example: Feeds) -> dict[str, Any]:
    """How :func:`drawn` draws: per input its shape without batch, dtype, and mean and deviation, or range.

    ``length`` is that of the first axis in the example, which inputs without batch keep; None of a single number.
    """
    return {
        name: {
            "shape": list(x.shape[1:]), "length": len(x) if x.ndim else None, "dtype": x.dtype.name, **_statistics(x),
        }
        for name, x in example.items()
    }  # fmt: skip


def drawn(example: Feeds, seed: int, batch: int, batched: Collection[str]) -> dict[str, Array]:
    """Inputs like the example: floats normal with its mean and deviation, integers uniform in its range.

    ``batched`` inputs get ``batch`` samples; text and other inputs that cannot be drawn repeat the example's.
    """
    found = redrawn(recipe(example), seed, batch, batched)
    shapes = {name: (batch, *x.shape[1:]) if name in batched else x.shape for name, x in example.items()}
    return {name: found[name] if name in found else np.resize(x, shapes[name]) for name, x in example.items()}


def redrawn(said: Mapping[str, Any], seed: int, batch: int, batched: Collection[str]) -> dict[str, Array]:
    """The inputs of :func:`drawn` from their recipe; those that cannot be drawn are left out.

    Raises:
        FileFormatError: the recipe, which stands in a file, makes no sense.
        UnsupportedModelError: there is no room for what it describes.
    """
    result = {}
    for index, (name, like) in enumerate(said.items()):
        rng = np.random.default_rng([seed, index])
        first = [batch] if name in batched else [] if like["length"] is None else [like["length"]]
        shape = (*first, *like["shape"])
        require_room(shape, np.dtype(np.float64).itemsize, f"input {name!r} of the check")
        try:
            if "std" in like:
                result[name] = np.asarray(rng.standard_normal(shape) * like["std"] + like["mean"], like["dtype"])
            elif "max" in like:
                integers = rng.integers(int(like["min"]), int(like["max"]), shape, endpoint=True)
                result[name] = np.asarray(integers, like["dtype"])
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"how input {name!r} of the check is drawn is said wrongly: {error}") from error
    return result


def _statistics(x: Array) -> dict[str, float | int]:
    if np.issubdtype(x.dtype, np.floating):
        wide = x.astype(np.float64)
        return {"mean": float(wide.mean()), "std": float(wide.std()) or 1.0}
    if x.dtype == bool or np.issubdtype(x.dtype, np.integer):
        return {"min": int(x.min()), "max": int(x.max())}
    return {}


def two_batches(example: Feeds) -> tuple[int, int]:
    """Two batch sizes, small where a sample is large."""
    size = max((x.nbytes // max(len(x), 1) for x in example.values() if x.ndim), default=0)
    return (1, 2) if size > 2**18 else (2, 3)


def normal(rng: np.random.Generator, like: Array) -> Array:
    """N(0, 1) of the shape and type of ``like``."""
    return rng.standard_normal(like.shape).astype(like.dtype)


def flat(arrays: Sequence[Array]) -> Array:
    """All entries of several arrays in a row."""
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
