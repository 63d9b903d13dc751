"""What metrics are told: the network with the inputs that were explained, and the map that is judged."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.perturbation import scores_of, varied_input
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.sampling import baseline_like
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, TargetError
from onnxviz.explanation import Explanation
from onnxviz.image import View, resize_linear
from onnxviz.manifest import Input
from onnxviz.source import Array

Numbers = npt.NDArray[np.float64]
Variant = Callable[[Array, Array], Array]
"""From the rows of samples (B,) and the numbers of variants (B,) to changed inputs (B, …)."""

DERIVATIVES = frozenset({"gradient", "guided_backprop", "deconvnet", "smooth_grad"})
"""Methods whose values are slopes, not parts of the score: what they mean by its sign depends on the input's."""


@dataclass(frozen=True)
class Case:
    """Inputs with what is asked of them.

    Attributes:
        question: with a definite target, one for each sample.
        at: the input that is changed.
        baseline: what stands for nothing, (1, …) or (N, …).
        masks: (N, *places), where the target is; None where that is not known.
        seed: of what a metric draws.
        denied: (N,), 1 where a single unit's decision is against, whose probability is 1 − p; else 0.
        known: what was computed of the inputs alone, which is the same for all maps.
    """

    question: Question
    at: Input
    baseline: Array
    masks: Array | None
    seed: int
    denied: Numbers
    known: dict[Hashable, Numbers] = field(default_factory=dict)

    @classmethod
    def of(cls, question: Question, baseline: Any, masks: Any, seed: int) -> Case:
        """Checked.

        Raises:
            TargetError: several targets of each sample.
            InputError: a baseline or masks that do not fit.
        """
        at = varied_input(question)
        settled, _ = question.settled()
        if settled.several:
            raise TargetError("maps are evaluated for one target of each sample: give one class each, (N,)")
        decided = question.target is None and settled.classes is None and settled.given is not None
        question = question.about(settled)
        x = as_feeds(question.x, question.engine.bundle.manifest)[0][at.name]
        denied = np.where(decided, settled.given == 0, np.zeros(len(x)))
        case = cls(question, at, baseline_like(baseline, x), None, seed, denied)
        return case if masks is None else replace(case, masks=case._checked_masks(masks))

    @cached_property
    def feeds(self) -> dict[str, Array]:
        """All inputs of the model by name."""
        return as_feeds(self.question.x, self.question.engine.bundle.manifest)[0]

    @property
    def x(self) -> Array:
        """The input that is changed, (N, …)."""
        return self.feeds[self.at.name]

    @property
    def space(self) -> tuple[int, ...]:
        """The axes of x whose entries are places: of space, or all but the first where it has none."""
        return self.at.axes.spatial or tuple(range(1, self.x.ndim))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many places there are along each of them."""
        return tuple(self.x.shape[axis] for axis in self.space)

    @cached_property
    def span(self) -> Array:
        """max x − min x of each sample, to be broadcast over x; where all are the same, their size, or 1 of zeros."""
        within = tuple(range(1, self.x.ndim))
        most = self.x.max(within, keepdims=True)
        wide = most - self.x.min(within, keepdims=True)
        return np.where(wide > 0, wide, np.where(most, np.abs(most), 1)).astype(self.x.dtype)

    def over(self, places: Array) -> Array:
        """What is said of places, (B, *places) or (B, P), to be broadcast over inputs (B, …)."""
        shape = [n if axis in self.space else 1 for axis, n in enumerate(self.x.shape)]
        return places.reshape(len(places), *shape[1:])

    def scores(self, variant: Variant, count: int, of: Of) -> Numbers:
        """The scores of ``count`` variants of each sample, (N, count), in as many runs as the engine needs."""
        found, question = np.zeros((len(self.x), count)), replace(self.question, of=of)
        for rows, variants, scores in scores_of(question, self.at, self.feeds, question.target, variant, count):
            found[rows, variants] = scores
        return found + self.denied[:, None] if of == "probability" else found

    def score(self, of: Of) -> Numbers:
        """The score of each sample as it is, (N,)."""
        return self.once(("score", of), lambda: self.scores(lambda rows, _: self.x[rows], 1, of)[:, 0])

    def once(self, key: Hashable, compute: Callable[[], Numbers]) -> Numbers:
        """What ``compute`` gives, computed once for all maps."""
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def _checked_masks(self, masks: Any) -> Array:
        found = array(masks, "masks")
        found = found[None] if found.shape == self.sizes else found
        if found.shape not in ((1, *self.sizes), (len(self.x), *self.sizes)):
            raise InputError(
                f"masks has one for each of {len(self.x)} samples, of shape {list(self.sizes)}; got {list(found.shape)}"
            )
        if not found.reshape(len(found), -1).any(1).all():
            raise InputError("masks has a sample without a single place")
        return np.broadcast_to(found.astype(bool), (len(self.x), *self.sizes))


@dataclass(frozen=True)
class Trial:
    """A map that is judged.

    Attributes:
        places: how much each place speaks for the target, (N, P).
        parts: attributions that broadcast over x.
        slopes: whether the parts are derivatives, which become parts of the score when they are multiplied by how much
            the input changes.
        values: as they were given, (N, …).
        again: what makes such values for other inputs; None if that is not known.
    """

    places: Numbers
    parts: Numbers
    slopes: bool
    values: Array
    again: Callable[[Array], Array] | None = None

    @classmethod
    def of(cls, case: Case, maps: Any, again: Callable[[Array], Array] | None = None) -> Trial:
        """From an Explanation or an array: (N, *places) or like x. Maps of another size are resized linearly.

        Raises:
            InputError: they do not fit the input.
        """
        slopes = isinstance(maps, Explanation) and maps.method in DERIVATIVES and maps.layer is None
        values = _values(case, maps)
        if not np.isfinite(values).all():
            raise InputError("maps holds NaN or infinity")
        if values.shape == case.x.shape:
            rest = tuple(axis for axis in range(1, values.ndim) if axis not in case.space)
            places = (np.abs(values) if slopes else values).sum(rest)
            parts = values
        else:
            places, parts = values, case.over(values)
        flat = places.reshape(len(places), -1)
        return cls(flat.astype(np.float64), parts.astype(np.float64), slopes, values, again)

    @classmethod
    def random(cls, case: Case) -> Trial:
        """A map that knows nothing: each place is uniform in 0 … 1; another one for other inputs."""

        def drawn(x: Array) -> Array:
            rng = np.random.default_rng([case.seed, crc32(x.tobytes())])
            return rng.random((len(x), *case.sizes)).astype(np.float32)

        return replace(cls.of(case, drawn(case.x)), again=drawn)

    def ranks(self, seed: int) -> npt.NDArray[np.int64]:
        """The rank of each place, (N, P): 0 says most for the target. Places that say the same are shuffled."""
        drawn = np.random.default_rng([seed, 1]).random(self.places.shape)
        order = np.lexsort((drawn, -self.places), axis=-1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), 1)
        return ranks


def _values(case: Case, maps: Any) -> Array:
    """As an array that is like x, or has a value for each place."""
    values, samples = array(maps, "maps"), len(case.x)
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise InputError(f"maps is {values.dtype} {list(values.shape)}: expected numbers, like x or one for each place")
    values = values.astype(np.float32, copy=False)
    if isinstance(maps, Explanation) and maps.image is not None:  # laid over pictures: back to what the network saw
        rows, columns = View(maps.image.shape[1:3], maps.covered).covered
        values = np.take(np.take(values, np.r_[rows], maps.spatial_axes[0]), np.r_[columns], maps.spatial_axes[1])
        values = resize_linear(values, case.sizes, maps.spatial_axes)
    if samples == 1 and (values.shape == case.x.shape[1:] or values.ndim == len(case.sizes)):
        values = values[None]
    if values.shape == case.x.shape:
        return values
    if len(values) != samples or values.ndim != 1 + len(case.sizes) or 0 in values.shape:
        raise InputError(
            f"maps has shape {list(values.shape)}: expected {[samples, *case.sizes]} (or another size of these "
            f"{len(case.sizes)} axes), or like the input, {list(case.x.shape)}"
        )
    return resize_linear(values, case.sizes, tuple(range(1, values.ndim)))
