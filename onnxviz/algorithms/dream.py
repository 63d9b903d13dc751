"""DeepDream: what a layer sees in a picture, shown to it again and again, at growing sizes (Mordvintsev 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from onnxviz.algorithms.ascent import Ascent, Site, Trace
from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.maximize import Penalties, Projections, Regularizer, moments, result, sorted_out
from onnxviz.algorithms.objectives import Objective, square_objective
from onnxviz.algorithms.parameterization import Images, Pixels
from onnxviz.algorithms.rules import Rule
from onnxviz.algorithms.steps import Steps
from onnxviz.algorithms.subject import Subject
from onnxviz.algorithms.tiles import Tiles
from onnxviz.algorithms.transforms import Transforms
from onnxviz.engine.chunks import Chunk
from onnxviz.engine.core import Engine, Run
from onnxviz.engine.inputs import array
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.room import first_empty
from onnxviz.errors import InputError, OptionError
from onnxviz.image import read_pixels, resize_linear
from onnxviz.manifest import Layer
from onnxviz.maximization import Maximization


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
    dream = _Dream(
        subject, square_objective(at, engine, subject.tensor), Rule("normalized", rate), Transforms(jitter),
        *sorted_out(regularizers, subject.units),
    )  # fmt: skip
    pictures = _octaves(_picture(image, subject), spatial, octaves, octave_scale)
    _require_room(pictures[0], subject, at)
    total = steps * len(pictures)
    if snapshots < 0:
        raise OptionError(f"snapshots={snapshots}: expected 0 or more")
    kept = moments(snapshots, total)
    with tqdm(total=total, delay=2, disable=None, leave=False, desc="dreaming", unit="step") as bar:
        trace = dream.of(pictures, steps, np.random.default_rng(seed), kept, bar)
    options = {
        "octaves": octaves, "octave_scale": octave_scale, "steps": steps, "learning_rate": rate, "jitter": jitter,
        "regularizers": [repr(one) for one in regularizers], "seed": seed,
    }  # fmt: skip
    return result(subject, trace, [at.name], kept, options)


@dataclass(frozen=True)
class _Dream:
    """What is the same at all octaves."""

    subject: Subject
    objective: Objective
    rule: Rule
    transforms: Transforms
    penalties: Penalties
    projections: Projections

    def of(
        self, pictures: Sequence[Images], steps: int, random: np.random.Generator, kept: Sequence[int], bar: tqdm
    ) -> Trace:
        """From the smallest octave to the largest; what was dreamt at one is added to the next."""
        spatial, largest = self.subject.units.axes.spatial, pictures[-1].shape
        dreamt = np.zeros_like(pictures[0])
        scores, frames, moved = [], [], np.zeros(1, bool)
        for k, picture in enumerate(pictures):
            dreamt = resize_linear(dreamt, [picture.shape[axis] for axis in spatial], spatial)
            last = k == len(pictures) - 1
            here = [s - k * steps for s in kept if k * steps <= s < (k + 1) * steps + last]
            course = self._steps(picture)
            ascent = Ascent(course, self.projections, course.draws(steps, random), here, bar)
            trace = self._climbed(ascent, picture + dreamt, scored=last)
            dreamt = trace.images - picture
            scores.append(trace.scores)
            moved |= trace.moved
            frames += [resize_linear(one, [largest[axis] for axis in spatial], spatial) for one in trace.kept]
        whole = np.array(frames, np.float32).reshape(len(frames), *largest)
        return replace(trace, scores=np.concatenate(scores), moved=moved, kept=whole)

    def _steps(self, picture: Images) -> Steps:
        """The picture as a whole where the file takes any size, else tile by tile."""
        units, tensor = self.subject.units, self.subject.tensor
        canvas = Canvas.of(picture.shape, units.axes)
        windows = tuple(
            size if isinstance(size := tensor.shape[axis], int) and size != n else None
            for axis, n in zip(canvas.spatial, canvas.space, strict=True)
        )
        pixels = Pixels(units.limits)
        return Steps(
            tensor, units, canvas, pixels, self.rule, self.penalties, self.transforms, Tiles(canvas, windows)
        )  # fmt: skip

    def _climbed(self, ascent: Ascent, picture: Images, *, scored: bool) -> Trace:
        engine, canvas, tiles = self.subject.engine, ascent.steps.canvas, ascent.steps.tiles
        assert tiles is not None
        window = tiles.window
        feeds = self.subject.feeds(window.outward(np.zeros((1, *window.shape), np.float32)), None)
        most = engine.chunks.most(feeds, tiles.count)
        parts = list(tiles.runs(most, engine.bundle.manifest.static_batch))

        def work(_: Chunk, run: Run) -> Trace:
            site = Site(engine.graph, run, self.objective, {}, parts)
            return ascent.climb(site, canvas.inward(picture), 1, scored=scored)

        (trace,) = engine.iterate(feeds, work)
        return trace


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


def _picture(image: Any, subject: Subject) -> Images:
    """A picture of any size in the units of the ascent, (1, …)."""
    known = subject.image_input
    if isinstance(image, str) or hasattr(image, "__fspath__") or getattr(image, "dtype", None) == np.uint8:
        if known is None:
            raise InputError("this file does not say how pictures are prepared: give an array as the model takes it")
        pixels = read_pixels(image)
        x = replace(known, size=pixels.shape[:2], resize=None).encode(pixels)
    else:
        x = array(image)
        if not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
            raise InputError(f"image is {x.dtype}: expected real numbers, as the model takes them")
        x = x.astype(np.float32)
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
