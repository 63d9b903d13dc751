"""From what a user gives to single inputs, each with what is drawn of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.engine.inputs import as_feeds, opened
from onnxviz.errors import InputError
from onnxviz.image import ImageInput, Pixels
from onnxviz.image.geometry import WHOLE
from onnxviz.manifest import Input, Manifest
from onnxviz.report.encoding import TINY, curve, picture
from onnxviz.source import Array

CURVES = 8
"""How many channels of a series are drawn."""


@dataclass(frozen=True)
class Sample:
    """One input.

    Attributes:
        name: a file's name, or empty.
        x: as the network takes it, a batch of one.
        drawing: what the page draws of it.
        notes: what must be known of the drawing.
    """

    name: str
    x: Array
    drawing: dict[str, Any]
    notes: tuple[str, ...] = ()


def samples_of(manifest: Manifest, inputs: Any, name: str = "") -> Iterator[Sample]:
    """The inputs, one by one: of a list each when it is its turn, so that a long list of files takes no memory.

    Args:
        manifest: of the file.
        inputs: as :meth:`onnxviz.Explainer.report` says.
        name: of a single one; those that are paths have the names of their files. Several samples of one name are
            ``name[0]``, ``name[1]`` and so on.

    Raises:
        InputError: the model takes what is neither a picture nor a series, or the inputs are not what it takes.
    """
    tensor = _drawable(manifest)
    if isinstance(inputs, list) and not inputs:
        raise InputError("a report needs at least one input; got an empty list")
    for one in inputs if isinstance(inputs, list) else [inputs]:
        x, pictures = opened(one, manifest)
        feeds, count = as_feeds(x, manifest)
        label = Path(one).name if isinstance(one, str | os.PathLike) else name
        for i in range(count):
            named = f"{label}[{i}]" if label and count > 1 else label
            batch = feeds[tensor.name] if tensor.axes.batch is None else feeds[tensor.name][i : i + 1]
            if pictures is not None:
                yield _of_picture(named, batch, pictures.pixels[i], pictures.image_input)
            else:
                yield _of_array(named, batch, tensor)


def spatial_rank(manifest: Manifest) -> int:
    """2 of pictures, 1 of series."""
    return len(_drawable(manifest).axes.spatial)


def _drawable(manifest: Manifest) -> Input:
    """The model's only input, if it is a batch of pictures or series."""
    tensor, axes = manifest.inputs[0], manifest.inputs[0].axes
    roles = {axes.batch, axes.channel, *axes.spatial} - {None}
    channels = 1 if axes.channel is None else tensor.shape[axes.channel]
    fits = roles == set(range(len(tensor.shape))) and len(axes.spatial) in {1, 2}
    if len(axes.spatial) == 2 and isinstance(channels, int) and channels not in {1, 3}:
        fits = False
    if len(manifest.inputs) > 1 or not fits:
        shapes = ", ".join(f"{t.name!r} of shape {list(t.shape)}" for t in manifest.inputs)
        raise InputError(
            f"the model takes {shapes}; a report draws one input: pictures of 1 or 3 channels, or series. "
            "ex.explain(…).save('maps.npz') keeps any result"
        )
    return tensor


def _of_picture(name: str, x: Array, pixels: Pixels, image_input: ImageInput) -> Sample:
    """The whole picture, with the part that the network saw of it."""
    view = image_input.view((pixels.shape[0], pixels.shape[1]))
    notes = ("The network saw the framed part of the picture.",) if view.part != WHOLE else ()
    return Sample(name, x, _picture(pixels, view.part), notes)


def _of_array(name: str, x: Array, tensor: Input) -> Sample:
    channel, spatial = tensor.axes.channel, tensor.axes.spatial
    values = x if tensor.axes.batch is None else x[0]
    values = values[None] if channel is None else np.moveaxis(values, channel - (tensor.axes.batch is not None), 0)
    if len(spatial) == 1:
        return _of_series(name, x, values)
    if tensor.image is not None:
        return Sample(name, x, _picture(ImageInput.from_dict(tensor.image).pixels(x)[0]))
    low, high = float(values.min()), float(values.max())
    greys = np.rint(255 * (values - low) / ((high - low) or 1)).astype(np.uint8)
    pixels = np.repeat(greys, 3, axis=0) if len(greys) == 1 else greys
    note = f"Drawn from {low:.3g} (dark) to {high:.3g} (bright); the file does not describe its pictures."
    return Sample(name, x, _picture(np.moveaxis(pixels, 0, -1)), (note,))


def _of_series(name: str, x: Array, values: Array) -> Sample:
    curves = [{"values": curve(one), "low": float(one.min()), "high": float(one.max())} for one in values[:CURVES]]
    notes = (f"The first {CURVES} of {len(values)} channels are drawn.",) if len(values) > CURVES else ()
    return Sample(name, x, {"kind": "series", "curves": curves, "length": values.shape[1]}, notes)


def _picture(pixels: Pixels, part: tuple[float, float, float, float] = WHOLE) -> dict[str, Any]:
    height, width = pixels.shape[:2]
    tiny = max(width, height) <= TINY
    return {"kind": "picture", "image": picture(pixels), "width": width, "height": height, "tiny": tiny, "part": part}
