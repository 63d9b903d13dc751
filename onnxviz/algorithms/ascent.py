"""Gradient ascent on images: the steps, what they are scaled by, and what stops them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from onnxviz.algorithms.parameterization import Images, Parameterization, Units
from onnxviz.algorithms.regularizers import Penalty, Projection
from onnxviz.algorithms.transforms import Transforms
from onnxviz.errors import NotFiniteError, OptionError
from onnxviz.source import Array

Optimizer = Literal["normalized", "plain", "rmsprop", "adam"]
Ask = Callable[[Images], tuple[Array, Images]]
"""From images (N, …) to scores (N,) and gradients with respect to the images."""

State = npt.NDArray[np.float64]


@dataclass
class Rule:
    """How a gradient becomes a step, ``learning_rate`` times the

    * ``"normalized"`` gradient divided by its root mean square over each image;
    * ``"plain"`` gradient;
    * ``"rmsprop"`` gradient divided by the root of its running mean square (Hinton 2012), decay 0.9;
    * ``"adam"`` its running mean divided by that root, β = (0.9, 0.999), corrected for the start (arXiv:1412.6980).

    Raises:
        OptionError: an unknown name, or a learning rate that is no positive number.
    """

    name: str
    learning_rate: float
    step: int = 0
    mean: State = field(default_factory=lambda: np.zeros(()))
    square: State = field(default_factory=lambda: np.zeros(()))

    def __post_init__(self) -> None:
        if self.name not in ("normalized", "plain", "rmsprop", "adam"):
            raise OptionError(f"optimizer={self.name!r}: expected 'normalized', 'plain', 'rmsprop' or 'adam'")
        if not isinstance(self.learning_rate, int | float) or not 0 < self.learning_rate < np.inf:
            raise OptionError(f"learning_rate={self.learning_rate!r}: expected a positive number")

    def move(self, gradient: Images) -> Images:
        """What is added to the numbers."""
        self.step += 1
        if self.name == "plain":
            return np.float32(self.learning_rate) * gradient
        wide = gradient.astype(np.float64)
        if self.name == "normalized":
            direction = _over(wide, np.sqrt((wide**2).mean(tuple(range(1, wide.ndim)), keepdims=True)))
        elif self.name == "rmsprop":
            self.square = 0.9 * self.square + 0.1 * wide**2
            direction = _over(wide, np.sqrt(self.square))
        else:
            self.mean = 0.9 * self.mean + 0.1 * wide
            self.square = 0.999 * self.square + 0.001 * wide**2
            mean, square = self.mean / (1 - 0.9**self.step), self.square / (1 - 0.999**self.step)
            direction = _over(mean, np.sqrt(square))
        return (self.learning_rate * direction).astype(np.float32)


@dataclass(frozen=True)
class Trace:
    """What an ascent left behind.

    Attributes:
        numbers: of the parameterization, after the last step.
        scores: (steps, N), each of the image before its step, as it was transformed.
        moved: (N,) whether a score had a gradient at any step.
        kept: the images at the steps that were asked for.
    """

    numbers: Images
    scores: npt.NDArray[np.float32]
    moved: npt.NDArray[np.bool_]
    kept: list[Images]


@dataclass(frozen=True)
class Ascent:
    """The settings of an ascent; see :func:`onnxviz.algorithms.maximize.maximize`."""

    units: Units
    parameterization: Parameterization
    rule: Rule
    penalties: tuple[Penalty, ...] = ()
    projections: tuple[Projection, ...] = ()
    transforms: Transforms = field(default_factory=Transforms)

    def climb(
        self, numbers: Images, ask: Ask, steps: int, random: np.random.Generator, *, keep: frozenset[int], bar: tqdm
    ) -> Trace:
        """Ascend.

        Args:
            numbers: where to start.
            ask: the scores and gradients of images.
            steps: how many.
            random: draws the transformations.
            keep: before which steps (from 0) the images are kept, ``steps`` for the last.
            bar: is told of each step.

        Raises:
            NotFiniteError: a gradient is infinite or not a number.
        """
        spatial, images = self.units.axes.spatial, self.parameterization.decode(numbers)
        scores, kept = [], []
        moved = np.zeros(len(images), bool)
        for step in range(1, steps + 1):
            if step - 1 in keep:
                kept.append(images)
            score, gradient = self._transformed(images, ask, random)
            moved |= gradient.reshape(len(gradient), -1).any(1)
            self._require_finite(gradient, "the network's gradient", step, images)
            for penalty in self.penalties:
                pull = penalty.gradient(images, spatial)
                self._require_finite(pull, f"the gradient of the regulariser {penalty!r}", step, images)
                gradient = gradient - pull
            numbers = numbers + self.rule.move(self.parameterization.pull(images, gradient))
            self._require_finite(numbers, "the image", step, images)
            numbers, images = self._settled(numbers, step)
            scores.append(score)
            bar.update()
        if steps in keep:
            kept.append(images)
        return Trace(numbers, np.array(scores, np.float32).reshape(steps, len(images)), moved, kept)

    def _transformed(self, images: Images, ask: Ask, random: np.random.Generator) -> tuple[Array, Images]:
        maps = self.transforms.draw(random, images.shape, self.units.axes.spatial)
        for map in maps:
            images = map.forward(images)
        score, gradient = ask(images)
        for map in reversed(maps):
            gradient = map.adjoint(gradient)
        return score, gradient

    def _settled(self, numbers: Images, step: int) -> tuple[Images, Images]:
        """The numbers after bounds and projections, and their images."""
        images = self.parameterization.decode(numbers)
        changed = self.parameterization.bounded
        for projection in self.projections:
            projected = projection.project(images, self.units.axes.spatial, step)
            if projected is not None:
                images, changed = projected, True
        return (self.parameterization.encode(images) if changed else numbers), images

    def _require_finite(self, values: Images, what: str, step: int, images: Images) -> None:
        if np.isfinite(values).all():
            return
        raise NotFiniteError(
            f"step {step}: {what} is not finite; the image had reached {np.abs(images).max():.3g}. Take smaller steps "
            f"(learning_rate={self.rule.learning_rate:g} now; optimizer='normalized' bounds them), give the "
            f"regularisers ({', '.join(map(repr, self.penalties)) or 'none'}) smaller weights, or hold the image "
            f"within bounds with clip=(low, high)"
        )


def _over(values: State, scale: State) -> State:
    """Values divided by a scale; 0 where it is 0."""
    return np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
