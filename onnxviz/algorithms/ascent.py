"""Gradient ascent on images: from step to step, and what stops it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from onnxviz.algorithms.objectives import Objective
from onnxviz.algorithms.parameterization import Images
from onnxviz.algorithms.regularizers import PenaltyHead, Projection, ProjectionHead
from onnxviz.algorithms.steps import (
    ENERGIES,
    GRADIENT,
    IMAGES,
    NUMBERS,
    SCORES,
    SQUARES,
    Steps,
    after,
    pull_name,
)  # fmt: skip
from onnxviz.engine.core import Run
from onnxviz.engine.cut import Graph
from onnxviz.errors import NotFiniteError
from onnxviz.source import Array

Values = Mapping[str, Any]
"""Arrays, or OrtValues where they were computed."""


@dataclass(frozen=True)
class Trace:
    """What an ascent left behind.

    Attributes:
        images: (N, …) after the last step, as the model lays them out, in the units of the ascent.
        score: (N,) of these; not a number where nobody asked.
        scores: (steps, N), each of the image before its step, as it was transformed.
        moved: (N,) whether a score had a gradient at any step.
        kept: (k, N, …) the images at the steps that were asked for.
    """

    images: Images
    score: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    moved: npt.NDArray[np.bool_]
    kept: Images

    @classmethod
    def joined(cls, traces: Sequence[Trace], rows: Array) -> Trace:
        """Traces of some of the images each as one of all; ``rows`` tells which image is which of all."""
        order = np.argsort(rows)
        axes = {"images": 0, "score": 0, "scores": 1, "moved": 0, "kept": 1}
        return cls(**{
            name: np.concatenate([getattr(trace, name) for trace in traces], axis).take(order, axis)
            for name, axis in axes.items()
        })  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Where some images ascend.

    Attributes:
        graph: of the file.
        run: where graphs are run.
        objective: what is ascended.
        held: the other inputs of the model's graph and of the objective's, a row for each image.
        parts: what is fed in each of the runs of a step: one, or several where a picture's tiles take several.
    """

    graph: Graph
    run: Run
    objective: Objective
    held: Mapping[str, Array]
    parts: Sequence[Mapping[str, Array]] = ({},)


@dataclass(frozen=True)
class Ascent:
    """An ascent; see :func:`onnxviz.algorithms.maximize.maximize`.

    Attributes:
        steps: what each is made of.
        projections: in order.
        draws: what the transformations are fed at each step.
        keep: before which steps (from 0) the images are kept, ``len(draws)`` for the last.
        bar: is told of each step of each image.
    """

    steps: Steps
    projections: tuple[Projection | ProjectionHead, ...]
    draws: Sequence[Mapping[str, Array]]
    keep: Sequence[int]
    bar: tqdm

    def climb(self, site: Site, numbers: Any, count: int, *, scored: bool = True) -> Trace:
        """Ascend.

        Args:
            site: where.
            numbers: that stand for the first images, (N, …) on the steps' canvas.
            count: of the images that are wanted; the others fill up the batch of a file that takes no fewer.
            scored: whether the last images' score is wanted.

        Raises:
            NotFiniteError: a gradient is infinite or not a number.
        """
        canvas, total = self.steps.canvas, len(self.draws)
        zeros = np.zeros((len(_host(numbers)), *canvas.shape))
        state = {NUMBERS: numbers, **dict.fromkeys(self.steps.rule.moments, zeros)}
        scores, kept, moved = [], [], np.zeros(count, bool)
        for step, drawn in enumerate(self.draws, 1):
            found = self._step(site, state, drawn, step)
            energies = _host(found[ENERGIES])[:, :count]
            self._require_finite(energies, step, found)
            if step - 1 in self.keep:
                kept.append(self._images(found)[:count])
            scores.append(_host(found[SCORES])[:count])
            moved |= energies[0] > 0
            state = self._projected(site, {name: found[after(name)] for name in state}, step)
            self.bar.update(count)
        if scored:
            last = self._step(site, state, self.steps.transforms.draw(None, canvas), total + 1)
            images, score = self._images(last)[:count], _host(last[SCORES])[:count]
        else:
            images, score = self._decoded(site, state)[:count], np.full(count, np.nan, np.float32)
        kept += [images] if total in self.keep else []
        return Trace(
            images, score, np.array(scores), moved,
            np.array(kept, np.float32).reshape(len(kept), *images.shape),
        )  # fmt: skip

    def encoded(self, site: Site, images: Images) -> Any:
        """The numbers of images on the steps' canvas."""
        return site.run(self._key("encode"), partial(self.steps.encoding, site.graph), {IMAGES: images})[NUMBERS]

    def _step(self, site: Site, state: Values, drawn: Mapping[str, Array], step: int) -> dict[str, Any]:
        fed = {**site.held, **state, **drawn, **self.steps.rule.fed(step), **self._pulls(site, state)}
        several, key, objective = len(site.parts) > 1, self.steps.key(site.objective), site.objective
        if several:
            fed[GRADIENT] = np.zeros((1, *self.steps.canvas.shape), np.float32)
            fed[SQUARES] = np.zeros(1, np.float32)
        for part in site.parts[:-1]:
            found = site.run((key, "look"), partial(self.steps.look, objective), {**fed, **part})
            fed |= {name: found[after(name)] for name in (GRADIENT, SQUARES)}
        last = {**fed, **site.parts[-1]}
        return site.run((key, several), partial(self.steps.step, objective, carried=several), last)

    def _pulls(self, site: Site, state: Values) -> dict[str, Array]:
        """The slopes of penalties that are no graphs, which see the images on the host."""
        canvas = self.steps.canvas
        own = [(i, one) for i, one in enumerate(self.steps.penalties) if not isinstance(one, PenaltyHead)]
        images = self._decoded(site, state) if own else np.empty(0, np.float32)
        slopes = {i: np.asarray(one.gradient(images, canvas.spatial), np.float32) for i, one in own}
        return {pull_name(i): canvas.inward(np.broadcast_to(slope, images.shape)) for i, slope in slopes.items()}

    def _projected(self, site: Site, state: dict[str, Any], step: int) -> dict[str, Any]:
        canvas = self.steps.canvas
        for one in self.projections:
            if not isinstance(one, ProjectionHead):
                images = one.project(self._decoded(site, state), canvas.spatial, step)
                if images is not None:
                    state[NUMBERS] = self.encoded(site, canvas.inward(np.asarray(images, np.float32)))
            elif one.due(step):
                build = partial(self.steps.projecting, site.graph, one)
                state[NUMBERS] = site.run(self._key(one), build, {NUMBERS: state[NUMBERS]})[after(NUMBERS)]
        return state

    def _decoded(self, site: Site, state: Values) -> Images:
        fed = {NUMBERS: state[NUMBERS]}
        return self._images(site.run(self._key("decode"), partial(self.steps.decoding, site.graph), fed))

    def _key(self, what: Hashable) -> Hashable:
        return "ascent", what, self.steps.parameterization.key, self.steps.canvas

    def _images(self, found: Mapping[str, Any]) -> Images:
        return self.steps.canvas.outward(_host(found[IMAGES]))

    def _require_finite(self, energies: Array, step: int, found: Mapping[str, Any]) -> None:
        penalties = self.steps.penalties
        pulls = [f"the gradient of the regulariser {one!r}" for one in penalties]
        for name, energy in zip(["the network's gradient", *pulls, "the image"], energies, strict=True):
            if not np.isfinite(energy).all():
                raise NotFiniteError(
                    f"step {step}: {name} is not finite; the image had reached "
                    f"{np.abs(self._images(found)).max():.3g}. Take smaller steps "
                    f"(learning_rate={self.steps.rule.learning_rate:g} now; optimizer='normalized' bounds them), give "
                    f"the regularisers ({', '.join(map(repr, penalties)) or 'none'}) smaller weights, or hold the "
                    f"image within bounds with clip=(low, high)"
                )


def _host(value: Any) -> Array:
    """Off the device."""
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
