"""From what a user passes as ``x`` to the arrays that the graph takes, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxviz.arguments import as_array
from onnxviz.engine.pictures import Pictures, pictures_of
from onnxviz.errors import InputError, nearest
from onnxviz.manifest import Input, Manifest
from onnxviz.source import Array


def as_feeds(x: Any, manifest: Manifest) -> tuple[dict[str, Array], int]:
    """The inputs by name, and how many samples they hold.

    Args:
        x: the array of a model with one input; a dict by name or a tuple in order for several. Whatever numpy or
            DLPack can read counts as an array; so do pictures, where the file says how they are prepared.
        manifest: of the file.

    Raises:
        InputError: an input is missing or unknown, has the wrong rank, shape or dtype, or is not finite.
    """
    given, inputs = named(x, manifest), {t.name: t for t in manifest.inputs}
    feeds = {name: _checked(_array_of(given[name], tensor), tensor) for name, tensor in inputs.items()}
    sizes = {name: len(a) for name, a in feeds.items() if inputs[name].axes.batch == 0}
    if len(set(sizes.values())) > 1:
        raise InputError(f"the inputs differ in their number of samples: {sizes}")
    return feeds, next(iter(sizes.values()), 1)


def opened(x: Any, manifest: Manifest) -> tuple[Any, Pictures | None]:
    """Inputs with the pictures among them prepared, and the first input's pictures, where there are any.

    Raises:
        InputError: as :func:`as_feeds`, or a picture cannot be read.
    """
    given = named(x, manifest)
    read = {t.name: found for t in manifest.inputs if (found := pictures_of(given[t.name], t))}
    if not read:
        return x, None
    return {**given, **{name: found.x for name, found in read.items()}}, next(iter(read.values()))


def named(x: Any, manifest: Manifest) -> dict[str, Any]:
    """What was given, by the inputs' names; InputError where one is missing or unknown."""
    inputs = [t.name for t in manifest.inputs]
    if isinstance(x, Mapping):
        given = dict(x)
    elif isinstance(x, tuple) or (isinstance(x, list) and len(inputs) > 1):
        if len(x) != len(inputs):
            raise InputError(f"{len(x)} inputs were given, the model takes {len(inputs)}: {', '.join(inputs)}")
        given = dict(zip(inputs, x, strict=True))
    elif len(inputs) == 1:
        given = {inputs[0]: x}
    else:
        raise InputError(f"the model takes {len(inputs)} inputs ({', '.join(inputs)}): give a dict by name, or a tuple")
    if unknown := given.keys() - set(inputs):
        name = min(map(str, unknown))
        raise InputError(f"there is no input {name!r}; inputs: {', '.join(inputs)}{nearest(name, inputs)}")
    if missing := set(inputs) - given.keys():
        raise InputError(f"input {min(missing)!r} is missing; inputs: {', '.join(inputs)}")
    return given


def _array_of(value: Any, tensor: Input) -> Array:
    pictures = pictures_of(value, tensor)
    return array(value) if pictures is None else pictures.x


def array(x: Any, called: str = "the input") -> Array:
    """Anything that holds numbers as a numpy array: without a copy where numpy or DLPack allows."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "detach"):  # a tensor that requires grad refuses to be exported
        x = x.detach()
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == 1:  # in host memory
        return np.from_dlpack(x)
    if hasattr(x, "cpu"):
        x = x.cpu()
    return as_array(x, called)


def _checked(x: Array, tensor: Input) -> Array:
    where, expected = f"input {tensor.name!r}", [d if d is not None else "?" for d in tensor.shape]
    want = np.dtype(tensor.dtype) if tensor.dtype != "bfloat16" else x.dtype
    floats = np.issubdtype(want, np.floating)
    if x.ndim != len(expected):
        hint = ". Add the batch axis: x[None]" if x.ndim == len(expected) - 1 else ""
        raise InputError(f"{where} has {x.ndim} axes (shape {list(x.shape)}), the model takes {expected}{hint}")
    free = tensor.axes.batch  # a fixed batch is filled up by the engine
    if any(
        isinstance(d, int) and d != n and i != free for i, (d, n) in enumerate(zip(tensor.shape, x.shape, strict=True))
    ):
        raise InputError(f"{where} has shape {list(x.shape)}, the model takes {expected}{_layout_hint(x, tensor)}")
    if x.size == 0:
        raise InputError(f"{where} is empty (shape {list(x.shape)})")
    if floats and not np.issubdtype(x.dtype, np.floating):
        raise InputError(
            f"{where} has dtype {x.dtype}, the model takes {want}: preprocess the pixels as the model was trained "
            f"(ex.read_image does, if convert was given input=ImageInput(…)), or pass x.astype({want.name!r})"
        )
    if not floats and x.dtype != want and not (np.issubdtype(want, np.integer) and np.issubdtype(x.dtype, np.integer)):
        raise InputError(f"{where} has dtype {x.dtype}, the model takes {want}")
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(x, dtype=want)
    if floats and not np.isfinite(cast).all():
        bad = int((~np.isfinite(cast)).sum())
        raise InputError(f"{where} contains NaN or infinity, or numbers too large for {want} ({bad} of {x.size})")
    return cast


def _layout_hint(x: Array, tensor: Input) -> str:
    """Channels last where they are expected first, or the other way round, is the usual mistake."""
    shape, rank = tensor.shape, x.ndim
    for perm, name in (((0, rank - 1, *range(1, rank - 1)), "first"), ((0, *range(2, rank), 1), "last")):
        moved = [x.shape[i] for i in perm]
        if rank > 2 and all(
            not isinstance(d, int) or d == n or not i for i, (d, n) in enumerate(zip(shape, moved, strict=True))
        ):
            return f". Channels stand {name} in this model: x.transpose({', '.join(map(str, perm))})"
    return ""
