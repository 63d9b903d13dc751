"""Methods that average gradients over many variants of an input. The averages are made where the gradients are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from onnxviz.algorithms.gradients import BACKWARD
from onnxviz.algorithms.question import Question, roles
from onnxviz.engine.asked import Head
from onnxviz.engine.cut import Sketch
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.engine.session import available_cores
from onnxviz.engine.targets import Target
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.manifest import Input, grad_name
from onnxviz.source import Array

Kind = Literal["mean", "square", "variance"]
Variant = Callable[[Array, Array, Array], Array]
"""From samples (B, …), their rows in x (B,) and the numbers of the variants (B,) to the variants."""


def integrated_gradients(question: Question, *, baseline: Any = 0.0, n_steps: int = 50) -> Explanation:
    """(x − x₀)·∫₀¹ ∂S/∂x(x₀ + α(x − x₀)) dα (Sundararajan 2017, arXiv:1703.01365, eq. 1), by Gauss–Legendre.

    The attributions of a sample add up to S(x) − S(x₀); by how much they miss it stands in the result's options as
    ``completeness_gap`` (N,) or (N, T).

    Args:
        question: the input and the target.
        baseline: x₀: a number, or an array like one sample or like x. 0 is grey for inputs around 0, black for pixels.
        n_steps: gradients per sample; the rule is exact for polynomials of degree 2·n_steps − 1.
    """
    if not is_whole(n_steps) or n_steps < 1:
        raise OptionError(f"n_steps={n_steps!r}: expected a positive integer")
    at = question.input()
    x = _given(question, at)
    start = baseline_like(baseline, x)
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)

    def along(samples: Array, rows: Array, variants: Array) -> Array:
        from_ = start[rows] if len(start) > 1 else start
        step = ((nodes[variants] + 1) / 2).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        result: Array = from_ + step * (samples - from_)
        return result

    target, answer = question.settled()
    (mean,) = _summed(question, at, target, along, np.asarray(weights / 2, np.float32))
    several = target.several
    difference = (x - start)[:, None] if several else x - start
    values = (mean * difference).astype(np.float32)
    ends = question.about(target).settled({at.name: np.broadcast_to(start, x.shape)})[1]
    total = values.astype(np.float64).sum(tuple(range(1 + several, values.ndim)))
    gap = (answer.score.astype(np.float64) - ends.score) - total
    options = {"n_steps": n_steps, "baseline": baseline if np.isscalar(baseline) else "array", "completeness_gap": gap}
    return question.explanation(
        "integrated_gradients", replace(answer, values=values), at=at, axes=roles(at), options=options
    )


def smooth_grad(
    question: Question,
    *,
    n_samples: int = 50,
    noise: float = 0.15,
    kind: Kind = "mean",
    around: str = "gradient",
    seed: int = 0,
) -> Explanation:
    """The mean gradient at x + N(0, σ²), σ = noise·(max x − min x) of each sample (Smilkov 2017, arXiv:1706.03825).

    Args:
        question: the input and the target; a target left open is the class of x without noise.
        n_samples: gradients per sample; the paper's figures change little above 50.
        noise: σ as a part of the sample's range; the paper finds 0.1 to 0.2 best.
        kind: ``"mean"``; ``"square"``, the mean of the squares (Hooker 2019, arXiv:1806.10758, section 3.1);
            ``"variance"``, theirs around the mean (Adebayo 2018, arXiv:1810.03292, VarGrad).
        around: whose gradient: ``"gradient"``, ``"guided_backprop"`` or ``"deconvnet"``.
        seed: of the noise, which is the same for every sample of a batch and for any chunk size.
    """
    if not is_whole(n_samples) or n_samples < 1:
        raise OptionError(f"n_samples={n_samples!r}: expected a positive integer")
    if not isinstance(noise, int | float) or not noise >= 0 or not np.isfinite(noise):
        raise OptionError(f"noise={noise!r}: expected a number of at least 0, a part of the sample's range")
    if kind not in ("mean", "square", "variance"):
        raise OptionError(f"kind={kind!r}: expected 'mean', 'square' or 'variance'")
    if around not in BACKWARD:
        raise OptionError(f"around={around!r}: expected one of {', '.join(map(repr, BACKWARD))}")
    at = question.input()
    x = _given(question, at)
    space = tuple(range(1, x.ndim))
    sigma = noise * (x.max(space, keepdims=True) - x.min(space, keepdims=True))

    def drawn(variant: int) -> Array:
        return noise_of(seed, variant, x.shape[1:], x.dtype)

    def noisy(samples: Array, rows: Array, variants: Array) -> Array:
        names = sorted({int(j) for j in variants})
        with ThreadPoolExecutor(available_cores()) as pool:  # drawing is a good part of a small network's gradient
            table = dict(zip(names, pool.map(drawn, names), strict=True))
        result: Array = samples + sigma[rows] * np.stack([table[int(j)] for j in variants])
        return result

    target, answer = question.settled()
    weights = np.full(n_samples, 1 / n_samples, np.float32)

    powers = {"mean": (1,), "square": (2,), "variance": (1, 2)}[kind]
    means = _summed(question, at, target, noisy, weights, overlay=BACKWARD[around], powers=powers)
    values = means[-1] if kind != "variance" else np.maximum(means[1] - means[0] ** 2, 0)
    options = {"n_samples": n_samples, "noise": noise, "kind": kind, "around": around, "seed": seed}
    return question.explanation("smooth_grad", replace(answer, values=values), at=at, axes=roles(at), options=options)


# ----- what they share -----


def _given(question: Question, at: Input) -> Array:
    return as_feeds(question.x, question.engine.bundle.manifest)[0][at.name]


def _summed(
    question: Question,
    at: Input,
    target: Target,
    variant: Variant,
    weights: Array,
    *,
    overlay: str | None = None,
    powers: Sequence[int] = (1,),
) -> list[Array]:
    """Σⱼ weights[j]·gradientᵖ at variant j of each sample, for each power p: (N, …) or (N, T, …), like the input.

    Args:
        question: what is asked.
        at: the input that varies.
        target: definite.
        variant: makes the inputs.
        weights: one for each variant.
        overlay: how the backward pass is rewritten.
        powers: of the gradient, 1 or 2.
    """
    engine, feeds = question.engine, as_feeds(question.x, question.engine.bundle.manifest)[0]
    x, count = feeds[at.name], len(weights)

    def build(sketch: Sketch) -> str:
        gradient = grad_name(at.value)
        of_power = {1: gradient, 2: sketch.add("Mul", gradient, gradient)}
        stacked = [sketch.add("Unsqueeze", of_power[p], np.array([1])) for p in powers]
        return sketch.add("Concat", *stacked, axis=1)

    head = Head(("summed", at.value, tuple(powers)), (grad_name(at.value),), build)
    total: Array | None = None
    for rows, variants in blocks(len(x), count, engine.chunks.held(feeds, len(x) * count)):
        first, last = rows[0], rows[-1]
        table = np.zeros((last - first + 1, len(rows)), np.float32)
        table[rows - first, np.arange(len(rows))] = weights[variants]
        moved = {name: value[rows] if engine.chunks.is_batched(name) else value for name, value in feeds.items()}
        moved[at.name] = variant(x[rows], rows, variants)
        answer = engine.attribute(
            moved, len(rows), target.of_samples(rows), head, output=question.chosen, of=question.of, overlay=overlay,
            weights=table,
        )  # fmt: skip
        if total is None:
            total = np.zeros((len(x), *answer.values.shape[1:]), np.float32)
        total[first : last + 1] += answer.values
    assert total is not None
    return list(np.moveaxis(total, 1 + target.several, 0))


def blocks(samples: int, variants: int, size: int) -> Iterator[tuple[Array, Array]]:
    """Rows and variants of each run, all variants of a sample one after the other; a bar tells if it takes long."""
    total = samples * variants
    with tqdm(total=total, delay=2, disable=None, leave=False, unit="run", unit_scale=True) as bar:
        for start in range(0, total, size):
            flat = np.arange(start, min(start + size, total))
            yield flat // variants, flat % variants
            bar.update(len(flat))


def noise_of(seed: int, variant: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """N(0, 1) of one of :func:`smooth_grad`'s variants, the same for every sample."""
    kind = np.float64 if dtype == np.float64 else np.float32
    return np.random.default_rng([seed, variant]).standard_normal(shape, kind).astype(dtype, copy=False)


def baseline_like(baseline: Any, x: Array) -> Array:
    """x₀ as an array that broadcasts over x: (1, …) or (N, …)."""
    start = array(baseline, "baseline")
    if not np.issubdtype(start.dtype, np.number) or not np.isfinite(start).all():
        raise InputError(f"baseline={baseline!r}: expected finite numbers")
    if start.shape not in ((), x.shape[1:], (1, *x.shape[1:]), x.shape):
        raise InputError(
            f"baseline has shape {list(start.shape)}: expected a number, {list(x.shape[1:])} or {list(x.shape)}"
        )
    result: Array = np.broadcast_to(start.astype(x.dtype), (len(x) if start.shape == x.shape else 1, *x.shape[1:]))
    return result


def is_whole(number: object) -> bool:
    """Whether it is an integer, True and False aside."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
