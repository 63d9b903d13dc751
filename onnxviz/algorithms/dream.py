"""DeepDream: what a layer sees in a picture, shown to it again and again, at growing sizes (Mordvintsev 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from onnxviz.algorithms.ascent import Ascent, Ask, Rule, Trace
from onnxviz.algorithms.maximize import Regularizer, Subject, result, sorted_out
from onnxviz.algorithms.objectives import Objective, square_objective
from onnxviz.algorithms.parameterization import Images, Pixels
from onnxviz.algorithms.transforms import Transforms
from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import array
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.room import first_empty
from onnxviz.errors import InputError, OptionError
from onnxviz.image import read_pixels, resize_linear
from onnxviz.manifest import Layer
from onnxviz.maximization import Maximization
from onnxviz.source import Array


def deep_dream(
    engine: Engine,
    image: Any,
    layer: str | int,
    *,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 20,
    learning_rate: float | None = None,
    jitter: int = 32,
    regularizers: Sequence[Regularizer] = (),
    snapshots: int = 0,
    seed: int = 0,
) -> Maximization:
    """A picture in which a layer's activations are strengthened; see :meth:`onnxviz.Explainer.deep_dream`."""
    subject = Subject.of(engine)
    spatial = subject.units.axes.spatial
    at = LayerTable(engine.bundle.manifest.layers).explainable(layer)
    if not spatial:
        raise InputError(f"input {subject.tensor.name!r} has no (known) spatial axes: there are no octaves")
    if octaves < 1 or steps < 1 or not octave_scale > 1:
        raise OptionError(
            f"octaves={octaves!r}, octave_scale={octave_scale!r}, steps={steps!r}: expected at least 1, more than 1, "
            f"and at least 1"
        )
    rate = 2 * subject.units.level if learning_rate is None else learning_rate
    ascent = Ascent(
        subject.units, Pixels(subject.units.limits), Rule("normalized", rate),
        *sorted_out(regularizers, subject.units), Transforms(jitter),
    )  # fmt: skip
    objective = square_objective(at, engine, subject.tensor)
    pictures = _octaves(_picture(image, subject), spatial, octaves, octave_scale)
    _require_room(pictures[0], subject, at)
    total = steps * len(pictures)
    kept = sorted({int(step) for step in np.linspace(0 if snapshots > 1 else total, total, snapshots).round()})
    with tqdm(total=total, delay=2, disable=None, leave=False, desc="dreaming", unit="step") as bar:
        trace, ask = _dreamt(ascent, pictures, subject, objective, steps, np.random.default_rng(seed), kept, bar)
    options = {
        "octaves": octaves, "octave_scale": octave_scale, "steps": steps, "learning_rate": rate, "jitter": jitter,
        "regularizers": [repr(one) for one in regularizers], "seed": seed,
    }  # fmt: skip
    return result(subject, trace.numbers, trace, ask(trace.numbers)[0], [at.name], kept, options)


def _dreamt(
    ascent: Ascent,
    pictures: list[Images],
    subject: Subject,
    objective: Objective,
    steps: int,
    random: np.random.Generator,
    kept: Sequence[int],
    bar: tqdm,
) -> tuple[Trace, Ask]:
    """From the smallest octave to the largest; what was dreamt at one is added to the next."""
    spatial, largest = subject.units.axes.spatial, pictures[-1].shape
    dreamt = np.zeros_like(pictures[0])
    scores, frames, moved = [], [], np.zeros(1, bool)
    for k, picture in enumerate(pictures):
        dreamt = resize_linear(dreamt, [picture.shape[axis] for axis in spatial], spatial)
        ask = _ask(subject, objective, picture)
        last = k == len(pictures) - 1
        here = frozenset(s - k * steps for s in kept if k * steps <= s < (k + 1) * steps + last)
        trace = ascent.climb(picture + dreamt, ask, steps, random, keep=here, bar=bar)
        dreamt = trace.numbers - picture
        scores.append(trace.scores)
        moved |= trace.moved
        frames += [resize_linear(one, [largest[axis] for axis in spatial], spatial) for one in trace.kept]
    return replace(trace, scores=np.concatenate(scores), moved=moved, kept=frames), ask


def _ask(subject: Subject, objective: Objective, picture: Images) -> Ask:
    """The layer's L2 norm of pictures of this size, as a whole where the file takes any size, else tile by tile."""
    spatial, sizes = subject.units.axes.spatial, subject.tensor.shape
    windows = {axis: size for axis in spatial if isinstance(size := sizes[axis], int) and size != picture.shape[axis]}
    tiles = Tiles(windows, picture.shape)
    parts = tiles.cut(picture)
    whole = replace(objective, rows=np.arange(len(parts)))
    asked = subject.ask([whole], subject.feeds(subject.units.input(parts), None))

    def ask(images: Images) -> tuple[Array, Images]:
        squares, gradient = asked(tiles.cut(images))
        return np.sqrt(squares.sum(keepdims=True)), tiles.join(gradient)

    return ask


def _require_room(picture: Images, subject: Subject, layer: Layer) -> None:
    """OptionError where something on the way to the layer is empty."""
    tensor, spatial = subject.tensor, subject.units.axes.spatial
    if all(isinstance(tensor.shape[axis], int) for axis in spatial):
        return
    if first_empty(subject.engine.graph, [layer.value], {tensor.name: picture.shape}):
        raise OptionError(
            f"layer {layer.name!r} sees nothing of the smallest octave, {[picture.shape[axis] for axis in spatial]}: "
            f"take fewer octaves, a smaller octave_scale, or a larger picture"
        )


class Tiles:
    """A picture (1, …) in windows of a network that takes one size only, (tiles, …), around the edges where need be.

    Args:
        windows: axis → the network's size.
        shape: of the picture.
    """

    def __init__(self, windows: dict[int, int], shape: Sequence[int]) -> None:
        self.places = {
            axis: (np.arange(-(-shape[axis] // window) * window) % shape[axis]).reshape(-1, window)
            for axis, window in windows.items()
        }
        self.shape = tuple(shape)

    def cut(self, picture: Images) -> Images:
        """The tiles."""
        for axis, places in self.places.items():
            taken = np.take(picture, places, axis)  # (batch, …, tiles, window, …)
            moved = np.moveaxis(taken, axis, 1)
            picture = moved.reshape(-1, *moved.shape[2:])
        return picture

    def join(self, tiles: Images) -> Images:
        """The mean of what the tiles say about each place of the picture."""
        for axis, places in reversed(self.places.items()):
            split = tiles.reshape(-1, len(places), *tiles.shape[1:])
            flat = np.moveaxis(split, 1, axis)
            flat = flat.reshape(*flat.shape[:axis], -1, *flat.shape[axis + 2 :])
            tiles = np.zeros((*flat.shape[:axis], self.shape[axis], *flat.shape[axis + 1 :]), np.float32)
            np.add.at(np.moveaxis(tiles, axis, 0), places.ravel(), np.moveaxis(flat, axis, 0))
            count = np.bincount(places.ravel(), minlength=self.shape[axis]).astype(np.float32)
            tiles /= count.reshape(-1, *[1] * (tiles.ndim - axis - 1))
        return tiles


def _picture(image: Any, subject: Subject) -> Images:
    """A picture of any size in the units of the ascent, (1, …)."""
    known = subject.image_input
    if isinstance(image, str) or hasattr(image, "__fspath__") or getattr(image, "dtype", None) == np.uint8:
        if known is None:
            raise InputError("this file does not say how pictures are prepared: give an array as the model takes it")
        pixels = read_pixels(image)
        x = replace(known, size=pixels.shape[:2], resize=None).encode(pixels)
    else:
        x = np.asarray(array(image), np.float32)
    shape, spatial = subject.tensor.shape, subject.units.axes.spatial
    fixed = [i for i in range(1, len(shape)) if i not in spatial]
    if x.ndim != len(shape) or len(x) != 1 or any(x.shape[i] != shape[i] for i in fixed):
        raise InputError(
            f"image has shape {list(x.shape)}: expected one picture as the model takes it, {[1, *shape[1:]]}, of any "
            f"spatial size, or uint8 pixels (height, width, 3)"
        )
    if not np.isfinite(x).all():
        raise InputError("image contains NaN or infinity")
    return subject.units.images(x)


def _octaves(picture: Images, spatial: tuple[int, ...], count: int, scale: float) -> list[Images]:
    """The picture at sizes that grow by ``scale``, up to its own."""
    found = [picture]
    for _ in range(count - 1):
        size = [round(found[0].shape[axis] / scale) for axis in spatial]
        if min(size) < 2:
            raise OptionError(f"octaves={count}: the picture {list(picture.shape)} becomes too small")
        found.insert(0, resize_linear(found[0], size, spatial))
    return found
