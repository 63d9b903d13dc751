"""How faithful a map is to the network: one function per metric, each a number for each sample."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError
from onnxviz.source import Array
from onnxviz.trust.case import Case, Numbers, Trial
from onnxviz.trust.filling import blurred, imputed

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A metric: its name, whether more is better, which score it looks at, its options with their defaults.

    Attributes:
        needs: ``"masks"``; ``"again"``, maps of other inputs; or nothing.
        function: from a case, a trial, the kind of score and options to one number for each sample.
    """

    name: str
    better: Better
    of: Of
    function: Callable[..., Numbers]
    needs: Literal["masks", "again", ""] = ""

    @property
    def summary(self) -> str:
        """What it measures, in one sentence."""
        return (self.function.__doc__ or "").partition("\n\n")[0].strip()

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {p.name: p.default for p in list(inspect.signature(self.function).parameters.values())[3:]}


def deletion(case: Case, trial: Trial, of: Of, *, n_steps: int = 50) -> Numbers:
    """Area under the score's curve while places are deleted, the most important first; lower is better.

    Petsiuk 2018 (arXiv:1806.07421), section 4.1: deleted places become the baseline. The curve runs over the share of
    deleted places, 0 … 1, in ``n_steps`` equal steps (the paper deletes a row's worth of pixels at a time), and the
    area is the trapezoids'. Of a probability it lies within 0 … 1.
    """
    return _area(case, trial, of, n_steps, case.x, np.broadcast_to(case.baseline, case.x.shape))


def insertion(case: Case, trial: Trial, of: Of, *, n_steps: int = 50) -> Numbers:
    """Area under the score's curve while places are put in, the most important first; higher is better.

    Petsiuk 2018 (arXiv:1806.07421), section 4.1: from a blurred input (σ = 5 within 11 entries, as in the authors'
    program), or from the baseline where the input has no axes of space. Steps and area are those of deletion.
    """
    space = case.at.axes.spatial
    start = blurred(case.x, space) if space else np.broadcast_to(case.baseline, case.x.shape)
    return _area(case, trial, of, n_steps, start, case.x)


def average_drop(case: Case, trial: Trial, of: Of) -> Numbers:
    """By how much the score falls when the input is seen through the map, in percent; lower is better.

    100·max(0, Y − O)/Y (Chattopadhay 2018, arXiv:1710.11063, section 4.1.1); the mean over samples is the paper's
    average. O is the score of baseline + m·(x − baseline), with m what is positive in the map over its largest value.
    """
    whole, seen = _seen_through(case, trial, of)
    if (whole <= 0).any():
        raise InputError("average_drop divides by the score, which is not positive for some sample: of='probability'")
    return np.asarray(100 * np.maximum(0, whole - seen) / whole, np.float64)


def average_increase(case: Case, trial: Trial, of: Of) -> Numbers:
    """Whether the score rises when the input is seen through the map, 100 or 0; higher is better.

    The mean over samples is the percentage of Chattopadhay 2018 (arXiv:1710.11063), section 4.1.2; the input is changed
    as for average_drop.
    """
    whole, seen = _seen_through(case, trial, of)
    return np.where(seen > whole, 100.0, 0.0)


def pointing_game(case: Case, trial: Trial, of: Of, *, tolerance: float = 15.0) -> Numbers:
    """Whether the map's largest value lies on the object, 1 or 0; higher is better.

    Zhang 2018 (arXiv:1608.00507), section 4.1: hits/(hits + misses) is the mean over samples. Within ``tolerance``
    places of the mask counts as on it (the paper's 15 pixels). It looks at no score.
    """
    del of
    masks, ranks = case.masks, trial.ranks(case.seed)
    assert masks is not None
    if tolerance < 0:
        raise OptionError(f"tolerance={tolerance!r}: expected at least 0")
    found = np.zeros(len(ranks))
    for i, mask in enumerate(masks):
        place = np.unravel_index(int(ranks[i].argmin()), case.sizes)
        found[i] = np.sqrt(((np.argwhere(mask) - place) ** 2).sum(1).min()) <= tolerance
    return found


def max_sensitivity(case: Case, trial: Trial, of: Of, *, radius: float = 0.02, n_samples: int = 10) -> Numbers:
    """How much the map changes at most when the input hardly does; lower is better.

    max_j ‖Φ(x_j) − Φ(x)‖ / ‖Φ(x)‖ (Yeh 2019, arXiv:1901.09392, definition 3, of explanations of norm 1), over
    ``n_samples`` inputs with noise from U(−r, r) in each entry, r = radius·(max x − min x) of the sample: 0.02 and 10
    are Captum's. The target is that of x itself. A map that is 0 everywhere counts 0 where it stays so, else infinity.
    """
    del of
    assert trial.again is not None
    whole = _positive("n_samples", n_samples)
    worst = np.zeros(len(case.x))
    original = trial.values.reshape(len(case.x), -1).astype(np.float64)
    size = np.linalg.norm(original, axis=1)
    for j in range(whole):
        noise = np.random.default_rng([case.seed, j]).uniform(-radius, radius, case.x.shape)
        changed = trial.again((case.x + case.span * noise).astype(case.x.dtype))
        moved = np.linalg.norm(changed.reshape(len(original), -1) - original, axis=1)
        share = np.divide(moved, size, out=np.where(moved > 0, np.inf, 0.0), where=size > 0)
        worst = np.maximum(worst, share)
    return worst


def infidelity(
    case: Case, trial: Trial, of: Of, *, n_samples: int = 50, window: float = 0.25, scale: bool = True
) -> Numbers:
    """How badly the map foretells by how much the score falls where the input is covered; lower is better.

    E[(β·Iᵀ·Φ − (f(x) − f(x − I)))²] (Yeh 2019, arXiv:1901.09392, equation 1). Covered is a square at random (section
    3.2), of ``window`` of each axis, or without axes of space each entry with probability 1/2. Of a gradient Φ the
    prediction is Iᵀ·Φ with I = x − baseline there; of other maps, whose values are parts of the score, their sum there.

    Args:
        case: what was explained.
        trial: its map.
        of: the kind of score.
        n_samples: squares.
        window: the square's side as a part of the axis.
        scale: choose β such that the number is smallest (section 5 and Captum's ``normalize``), for maps have no unit
            of the score. Else β is 1.
    """
    count = _positive("n_samples", n_samples)
    if not 0 < window <= 1:
        raise OptionError(f"window={window!r}: expected a part of the axis, 0 … 1")
    covers = np.stack([_cover(case, window, np.random.default_rng([case.seed, j])) for j in range(count)])
    fall = case.once(("falls", of, count, window), lambda: _falls(case, covers, of))
    inside = trial.parts * (case.x - case.baseline) if trial.slopes else trial.parts
    places = np.broadcast_to(inside, np.broadcast_shapes(inside.shape, (1, *_once(case))))
    rest = tuple(axis for axis in range(1, places.ndim) if axis not in case.space)
    predicted = places.sum(rest).reshape(len(places), -1) @ covers.reshape(count, -1).T
    beta = np.ones((len(fall), 1))
    if scale:
        power = (predicted**2).mean(1, keepdims=True)
        beta = np.divide((predicted * fall).mean(1, keepdims=True), power, out=np.zeros_like(power), where=power > 0)
    return np.asarray(((beta * predicted - fall) ** 2).mean(1), np.float64)


def road(case: Case, trial: Trial, of: Of, *, shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)) -> Numbers:
    """How much more of the score is left without the least important places than without the most; higher is better.

    Remove and debias (Rong 2022, arXiv:2202.00449, sections 4.2 and 5): what is removed becomes what its neighbours
    let guess (noisy linear imputation, with noise of 0.01 of the range), so that the shape of what was removed tells
    nothing. The mean over ``shares`` of removed places of S(least important removed) − S(most important removed).
    A map that knows nothing has 0. For inputs with two axes of space.
    """
    if len(case.at.axes.spatial) != 2:
        raise InputError(
            f"road guesses pixels from their neighbours, and input {case.at.name!r} (shape {list(case.at.shape)}) has "
            f"not two axes of space: leave it out of metrics"
        )
    if not shares or not all(0 < share < 1 for share in shares):
        raise OptionError(f"shares={shares!r}: expected shares between 0 and 1")
    ranks, number = trial.ranks(case.seed), len(shares)
    limits = np.array([round(share * ranks.shape[1]) for share in shares])

    def without(rows: Array, variants: Array) -> Array:
        most = (variants < number)[:, None]
        orders = np.where(most, ranks[rows], ranks.shape[1] - 1 - ranks[rows])
        missing = orders < limits[variants % number][:, None]
        return np.stack([_imputed(case, row, gone) for row, gone in zip(rows, missing, strict=True)])

    left = case.scores(without, 2 * number, of)
    return np.asarray(left[:, number:].mean(1) - left[:, :number].mean(1), np.float64)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("deletion", "lower", "probability", deletion),
        Metric("insertion", "higher", "probability", insertion),
        Metric("average_drop", "lower", "probability", average_drop),
        Metric("average_increase", "higher", "probability", average_increase),
        Metric("pointing_game", "higher", "logits", pointing_game, needs="masks"),
        Metric("max_sensitivity", "lower", "logits", max_sensitivity, needs="again"),
        Metric("infidelity", "lower", "logits", infidelity),
        Metric("road", "higher", "probability", road),
    )
}


# ----- what they share -----


def _area(case: Case, trial: Trial, of: Of, n_steps: int, start: Array, end: Array) -> Numbers:
    """Under the score's curve from ``start`` to ``end``, which the most important places reach first."""
    steps, ranks = _positive("n_steps", n_steps), trial.ranks(case.seed)
    limits = np.linspace(0, ranks.shape[1], steps + 1).round()

    def moved(rows: Array, variants: Array) -> Array:
        return np.where(case.over(ranks[rows] < limits[variants][:, None]), end[rows], start[rows])

    return np.asarray(np.trapezoid(case.scores(moved, steps + 1, of), dx=1 / steps, axis=1), np.float64)


def _seen_through(case: Case, trial: Trial, of: Of) -> tuple[Numbers, Numbers]:
    """The scores of the inputs, and of the inputs through the map."""
    positive = np.maximum(trial.places, 0)
    share = positive / np.maximum(positive.max(1, keepdims=True), np.finfo(float).tiny)
    seen = (case.baseline + case.over(share) * (case.x - case.baseline)).astype(case.x.dtype)
    return case.score(of), case.scores(lambda rows, _: seen[rows], 1, of)[:, 0]


def _falls(case: Case, covers: Array, of: Of) -> Numbers:
    """By how much each sample's score falls where each of these places are covered, (N, covers)."""
    baseline = np.broadcast_to(case.baseline, case.x.shape)

    def covered(rows: Array, variants: Array) -> Array:
        return np.where(case.over(covers[variants]), baseline[rows], case.x[rows])

    return case.score(of)[:, None] - case.scores(covered, len(covers), of)


def _cover(case: Case, window: float, rng: np.random.Generator) -> Array:
    """Which places are covered, (*places)."""
    if not case.at.axes.spatial:
        return rng.random(case.sizes) < 0.5
    covered = np.zeros(case.sizes, bool)
    extents = [max(1, round(window * size)) for size in case.sizes]
    corner = [int(rng.integers(size - n + 1)) for size, n in zip(case.sizes, extents, strict=True)]
    covered[tuple(slice(a, a + n) for a, n in zip(corner, extents, strict=True))] = True
    return covered


def _once(case: Case) -> tuple[int, ...]:
    """The shape of one sample with its places alone."""
    return tuple(n if axis in case.space else 1 for axis, n in enumerate(case.x.shape))[1:]


def _imputed(case: Case, row: int, missing: Array) -> Array:
    order = (*case.space, *(axis for axis in range(1, case.x.ndim) if axis not in case.space))
    picture = case.x[row].transpose([axis - 1 for axis in order])
    flat = imputed(picture.reshape(*case.sizes, -1), missing.reshape(case.sizes))
    noise = np.random.default_rng([case.seed, 2]).normal(0, 0.01 * float(case.span[row].max()), flat.shape)
    noisy = np.where(missing.reshape(*case.sizes, 1), flat + noise, flat).reshape(picture.shape)
    back = np.argsort([axis - 1 for axis in order])
    return np.asarray(noisy.transpose(back), case.x.dtype)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name}={value!r}: expected a positive whole number")
    return int(value)
