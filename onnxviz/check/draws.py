"""The seeded inputs that a file is checked on, drawn like the example, and the recipe that repeats them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from onnxviz.source import Array, Feeds


def recipe(example: Feeds) -> dict[str, Any]:
    """How :func:`drawn` draws: per input its shape without batch, dtype, and mean and deviation, or range."""
    return {name: {"shape": list(x.shape[1:]), "dtype": x.dtype.name, **_statistics(x)} for name, x in example.items()}


def drawn(example: Feeds, seed: int, batch: int, batched: Collection[str]) -> dict[str, Array]:
    """Inputs like the example: floats normal with its mean and deviation, integers uniform in its range.

    ``batched`` inputs get ``batch`` samples; text and other inputs that cannot be drawn repeat the example's.
    """
    result = {}
    for index, (name, x) in enumerate(example.items()):
        rng, like = np.random.default_rng([seed, index]), _statistics(x)
        shape = (batch, *x.shape[1:]) if name in batched else x.shape
        if "std" in like:
            result[name] = np.asarray(rng.standard_normal(shape) * like["std"] + like["mean"], x.dtype)
        elif "max" in like:
            result[name] = np.asarray(rng.integers(int(like["min"]), int(like["max"]), shape, endpoint=True), x.dtype)
        else:
            result[name] = np.resize(x, shape)
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
