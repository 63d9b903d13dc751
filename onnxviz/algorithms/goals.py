"""From what a user wants to see maximised to units of the network, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.engine.layers import LayerTable
from onnxviz.engine.targets import called, choose_output, class_index, resolve
from onnxviz.errors import LayerError, TargetError, nearest
from onnxviz.manifest import Layer, Manifest, Output
from onnxviz.source import Array

_AT = r"(@(?P<place>-?\d+(,-?\d+)*))"
_PLACE = re.compile(rf"(?P<layer>.+){_AT}")
_UNIT = re.compile(rf"(?P<layer>.+):(?P<channel>-?\d+){_AT}?")


@dataclass(frozen=True)
class Goal:
    """One target: where it is in the network, and what counts there.

    Attributes:
        at: the layer, or the output whose logits (or probabilities) are meant.
        weights: of a layer (C,) its channels'; of an output (1, …) the seed.
        place: of a layer along the axes that are neither batch nor channel; None is the mean over all places.
        label: for titles.
    """

    at: Layer | Output
    weights: Array
    place: tuple[int, ...] | None
    label: str


def goals_of(targets: Any, manifest: Manifest, output: str | None) -> list[Goal]:
    """One unit for a target, or one for each of a list.

    Raises:
        TargetError: a target is not understood, or out of range.
        LayerError: its layer is unknown, has no gradient, or its axes are not known.
    """
    several = targets if isinstance(targets, list) else [targets]
    if not several:
        raise TargetError("targets is an empty list: name at least one unit")
    return [_unit(target, manifest, output) for target in several]


def _unit(target: Any, manifest: Manifest, output: str | None) -> Goal:
    layers = LayerTable(manifest.layers)
    if isinstance(target, tuple):
        if len(target) != 2 or not isinstance(target[0], str):
            raise TargetError(f"target {target!r}: a direction is a pair of a layer's name and an array")
        return _direction(layers, target[0], np.asarray(target[1]))
    if isinstance(target, str) and (match := _UNIT.fullmatch(target)) and target not in (manifest.classes or ()):
        layer = layers.explainable(match["layer"])
        axis = channel_axis(layer)
        count, channel = layer.shape[axis], int(match["channel"])
        if not isinstance(count, int) or not -count <= channel < count:
            most = f"0 … {count - 1}" if isinstance(count, int) else "no fixed number"
            raise TargetError(f"target {target!r} is out of range: layer {layer.name!r} has channels {most}")
        direction = (np.arange(count) == channel % count).astype(np.float32)
        return Goal(layer, direction, _place(layer, match["place"], target), target)
    return _class(target, layers, manifest, output)


def _class(target: Any, layers: LayerTable, manifest: Manifest, output: str | None) -> Goal:
    chosen, label = choose_output(manifest, output), str(target)
    if isinstance(target, str):
        target = _class_index(target, layers, manifest.classes or ())
    array = np.asarray(target)
    weighting = array.dtype.kind == "f" or array.dtype == bool
    if not weighting and (array.dtype.kind not in "iu" or array.ndim):
        raise TargetError(
            f"target {target!r}: expected a class (index or name), 'layer:channel', 'layer:channel@y,x', a pair "
            f"(layer, direction), a float array that weighs the logits, or a list of these"
        )
    seeds = resolve(array if weighting else int(array), chosen, 1, np.dtype(chosen.dtype)).seeds
    if weighting:
        label = f"weighting {list(array.shape)}"
    elif manifest.classes is not None:
        label = manifest.classes[int(array)]
    return Goal(chosen, (seeds or [])[0], None, label)


def _class_index(name: str, layers: LayerTable, classes: Sequence[str]) -> int:
    if not called(name, classes):
        if name in [layer.name for layer in layers]:
            raise TargetError(
                f"target {name!r} is a layer: name a channel too, '{name}:0', or a pair ({name!r}, direction)"
            )
        close = nearest(name, [*classes, *(layer.name for layer in layers)]) or "."
        known = "" if classes else " This file has no class names: give the index, or convert with classes=[…]."
        raise TargetError(f"there is no class {name!r}{close}{known} A channel is 'layer:channel', such as 'conv1:17'")
    return class_index(name, classes)


def _direction(layers: LayerTable, where: str, direction: Array) -> Goal:
    place = None
    if (match := _PLACE.fullmatch(where)) and where not in [layer.name for layer in layers]:
        where, place = match["layer"], match["place"]
    layer = layers.explainable(where)
    axis = channel_axis(layer)
    if direction.shape != (layer.shape[axis],) or not np.isfinite(direction).all() or not direction.any():
        raise TargetError(
            f"direction of shape {list(direction.shape)} at layer {layer.name!r}: expected finite numbers, not all 0, "
            f"one for each of {layer.shape[axis]} channels"
        )
    label = f"direction at {where}" + (f"@{place}" if place else "")
    return Goal(layer, direction.astype(np.float32), _place(layer, place, label), label)


def channel_axis(layer: Layer) -> int:
    """The axis that a layer's channels are counted along.

    Raises:
        LayerError: it is not known, or no axis counts samples.
    """
    axes = layer.axes
    if axes.batch is None or layer.per_sample != 1:
        raise LayerError(f"layer {layer.name!r} (shape {list(layer.shape)}) has no axis that counts samples")
    if axes.channel is not None:
        return axes.channel
    if len(layer.shape) == 2:
        return 1 - axes.batch
    raise LayerError(
        f"which axis of layer {layer.name!r} (shape {list(layer.shape)}) holds the channels is not known from the graph"
    )


def _place(layer: Layer, text: str | None, target: str) -> tuple[int, ...] | None:
    """The coordinates along the axes that are neither batch nor channel; negative ones count from the end."""
    if text is None:
        return None
    place = tuple(int(number) for number in text.split(","))
    sizes = [size for i, size in enumerate(layer.shape) if i not in (channel_axis(layer), layer.axes.batch)]
    if len(place) != len(sizes):
        raise TargetError(
            f"target {target!r} gives {len(place)} coordinates; layer {layer.name!r} (shape {list(layer.shape)}) has "
            f"{len(sizes)} axes beside batch and channels"
        )
    for at, size in zip(place, sizes, strict=True):
        if isinstance(size, int) and not -size <= at < size:
            raise TargetError(f"target {target!r}: {at} is out of range, layer {layer.name!r} has {size} places there")
    return place
