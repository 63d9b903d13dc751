"""Values of one layer over many samples, a part at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.targets import choose_output
from onnxviz.errors import InputError, LayerError, MissingDependencyError
from onnxviz.manifest import Axes, Manifest, Tensor
from onnxviz.source import Array, Feeds

SLICE = 256
"""How many samples of an array are looked at together; an array mapped from disk is then never read as a whole."""


@dataclass(frozen=True)
class Part:
    """Some consecutive samples.

    Attributes:
        first: the position of the first in the whole stream.
        feeds: the inputs.
        values: of the layer, as the framework lays them out, with the batch on its axis.
        labels: one for each sample, or None.
    """

    first: int
    feeds: Feeds
    values: Array
    labels: Array | None


def parts(engine: Engine, batches: Any, tensor: Tensor) -> Iterator[Part]:
    """The values of a layer over all samples of ``batches``.

    Args:
        engine: of the file.
        batches: an input as every method takes it, a pair (input, labels), or an iterable of either.
        tensor: the layer, see :func:`tensor_of`.

    Raises:
        InputError: no samples, an input that the model does not take, labels that do not fit their input.
        LayerError: no axis of the layer counts the samples, or its values are not finite.
    """
    if tensor.per_sample != 1:
        raise LayerError(
            f"layer {tensor.name!r} (shape {list(tensor.shape)}) has no axis that counts the samples one by one: "
            "choose another; ex.layers lists them"
        )
    manifest, first, labelled = engine.bundle.manifest, 0, None
    for x, labels in _pairs(batches, manifest):
        feeds, count = as_feeds(x, manifest)
        known = None if labels is None else _labels(labels, count)
        if labelled not in {None, known is not None}:
            raise InputError("some batches have labels and others have none: give all or none")
        labelled = known is not None
        size = manifest.static_batch or engine.chunks.most(feeds, count)
        for start in range(0, count, size):
            some = slice(start, min(start + size, count))
            fed = {name: a[some] if engine.chunks.is_batched(name) else a for name, a in feeds.items()}
            values = engine.values(fed, [tensor.value], some.stop - start, {tensor.value: tensor.axes.batch})
            _require_finite(values[tensor.value], tensor, first + start)
            yield Part(first + start, fed, values[tensor.value], None if known is None else known[some])
        first += count
    if not first:
        raise InputError("batches holds no samples (an iterator can be read once only)")


def tensor_of(manifest: Manifest, layer: str | int, output: str | None) -> Tensor:
    """A layer by name or index, or ``"logits"``: those of an output, unless a layer has that name.

    Raises:
        LayerError: there is no such layer.
        TargetError: there is no such output.
    """
    layers = LayerTable(manifest.layers)
    if layer != "logits" or any(t.name == layer for t in layers):
        return layers[layer]
    several = output is not None or any(o.has_gradient for o in manifest.outputs)
    chosen = choose_output(manifest, output) if several else manifest.outputs[0]
    return Tensor("logits", chosen.logits, chosen.dtype, chosen.logits_shape, chosen.logits_axes)


def by_unit(values: Array, axes: Axes) -> Array | None:
    """Values as (N, units, *places), whatever the places are; None where no axis is known to count the units."""
    batch = axes.batch or 0
    channel = axes.channel
    if channel is None and values.ndim == 2:
        channel = 1 - batch
    if channel is None:
        return values[:, None] if values.ndim == 1 else None
    return values.transpose(batch, channel, *(i for i in range(values.ndim) if i not in {batch, channel}))


def optional(module: str, *, purpose: str) -> Any:
    """A module of an optional dependency; MissingDependencyError says which extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "scipy": "SciPy"}[module.partition(".")[0]]
        raise MissingDependencyError(f"{purpose} needs {package}: pip install 'onnxviz[analysis]'") from error


def _pairs(batches: Any, manifest: Manifest) -> Iterator[tuple[Any, Any]]:
    """Each input with its labels or None; arrays in slices."""
    if _is_input(batches, manifest) or _is_pair(batches, manifest):
        yield from _sliced(*_pair(batches, manifest), manifest)
    elif isinstance(batches, Iterable) and not isinstance(batches, str | bytes):
        for item in batches:
            yield from _sliced(*_pair(item, manifest), manifest)
    else:
        raise InputError(
            f"batches is an array, a pair (array, labels), or an iterable of these; got {type(batches).__name__}"
        )


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") or hasattr(x, "__array__")


def _is_input(x: Any, manifest: Manifest) -> bool:
    """Whether it is one input as ``as_feeds`` takes it."""
    several = len(manifest.inputs) > 1 and isinstance(x, tuple) and len(x) == len(manifest.inputs)
    return isinstance(x, Mapping) or _is_array(x) or (several and all(map(_is_array, x)))


def _is_pair(x: Any, manifest: Manifest) -> bool:
    """Whether it is an input with its labels."""
    return isinstance(x, tuple) and len(x) == 2 and not _is_input(x, manifest) and _is_input(x[0], manifest)


def _pair(item: Any, manifest: Manifest) -> tuple[Any, Any]:
    """An input and its labels; loaders give lists as well as tuples."""
    found = tuple(item) if isinstance(item, list) else item
    return found if _is_pair(found, manifest) else (item, None)


def _sliced(x: Any, labels: Any, manifest: Manifest) -> Iterator[tuple[Any, Any]]:
    batched = manifest.inputs[0].axes.batch == 0 and _is_array(x) and len(getattr(x, "shape", ())) > 0
    if not batched or len(x) <= SLICE:
        yield x, labels
        return
    known = None if labels is None else _labels(labels, len(x))
    for start in range(0, len(x), SLICE):
        some = slice(start, start + SLICE)
        yield x[some], None if known is None else known[some]


def _labels(labels: Any, count: int) -> Array:
    found = array(labels)
    if found.shape == (count, 1):
        found = found[:, 0]
    if found.shape != (count,):
        hint = "; for one-hot labels give labels.argmax(1)" if found.ndim == 2 and len(found) == count else ""
        raise InputError(f"labels is one for each of the {count} samples; got shape {list(found.shape)}{hint}")
    return found


def _require_finite(values: Array, tensor: Tensor, first: int) -> None:
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        last = first + values.shape[tensor.axes.batch or 0] - 1
        raise LayerError(f"layer {tensor.name!r} gives NaN or infinity for one of the samples {first} … {last}")
