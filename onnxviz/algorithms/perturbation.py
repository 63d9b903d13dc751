"""Methods that look at how the score changes with the input, or at channels alone; none reads a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from onnxviz.algorithms.cam import Grid, input_like
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.sampling import baseline_like, blocks, is_whole
from onnxviz.algorithms.site import Site, site_of
from onnxviz.engine.asked import Attribution
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.targets import Target
from onnxviz.errors import LayerError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.image import resize_linear
from onnxviz.manifest import Input
from onnxviz.source import Array

Sizes = int | Sequence[int] | None


def occlusion(question: Question, *, window: Sizes = None, stride: Sizes = None, baseline: Any = 0.0) -> Explanation:
    """How much the score falls where a window of the input is covered (Zeiler & Fergus 2014, arXiv:1311.2901, 4.2).

    (N, *spatial): at each place the mean of S(x) − S(x covered) over the windows that cover it. Without spatial axes
    each entry is covered by itself, and the result is like the input.

    Args:
        question: the input and the target.
        window: its size along each spatial axis; None is an eighth of the axis.
        stride: from window to window; None is half of a window. The last window ends with the input.
        baseline: what covers: a number, or an array like a sample or like x.
    """
    at = varied_input(question)
    feeds, x, target, answer = _start(question, at)
    start = baseline_like(baseline, x)
    space = at.axes.spatial or tuple(range(1, x.ndim))
    sizes = [x.shape[axis] for axis in space]
    extents = _sizes("window", window, [max(1, size // 8) if at.axes.spatial else 1 for size in sizes], sizes)
    steps = _sizes("stride", stride, [max(1, extent // 2) for extent in extents], extents)
    corners = list(product(*(_starts(*each) for each in zip(sizes, extents, steps, strict=True))))
    boxes = [tuple(slice(a, a + n) for a, n in zip(corner, extents, strict=True)) for corner in corners]

    def covered(rows: Array, variants: Array) -> Array:
        moved = x[rows].copy()
        for moving, row, j in zip(moved, rows, variants, strict=True):
            box = _box(boxes[j], space, x.ndim)
            moving[box] = start[row if len(start) > 1 else 0][box]
        return moved

    total, count = np.zeros((*_targets(answer), *sizes)), np.zeros(sizes)
    for box in boxes:
        count[box] += 1
    for rows, variants, scores in scores_of(question, at, feeds, target, covered, len(boxes)):
        fall = answer.score[rows] - scores
        for row, j, drop in zip(rows, variants, fall, strict=True):
            total[(row, ..., *boxes[j])] += drop.reshape(*np.shape(drop), *[1] * len(sizes))
    options = {
        "window": tuple(extents),
        "stride": tuple(steps),
        "baseline": baseline if np.isscalar(baseline) else "array",
    }
    return _explained(question, "occlusion", answer, total / count, at, options)


def rise(question: Question, *, n_masks: int = 1000, cells: Sizes = 7, kept: float = 0.5, seed: int = 0) -> Explanation:
    """RISE (Petsiuk 2018, arXiv:1806.07421, eq. 6): Σᵢ S(x∘Mᵢ)·Mᵢ / (N·kept) over random masks, (N, *spatial).

    Masks are grids of zeros and ones, resized linearly and shifted at random by less than a cell. The paper's scores
    are probabilities: ask with ``of="probability"``, with which maps of different inputs can be compared.

    Args:
        question: the input and the target.
        n_masks: the paper takes 4000 and 8000; noise falls with the root.
        cells: of the grid along each spatial axis; larger ones find smaller things and need more masks.
        kept: the probability that a cell is kept.
        seed: of the masks, which are the same for every sample and any chunk size.
    """
    if not is_whole(n_masks) or n_masks < 1:
        raise OptionError(f"n_masks={n_masks!r}: expected a positive integer")
    if not isinstance(kept, int | float) or not 0 < kept < 1:
        raise OptionError(f"kept={kept!r}: expected a probability between 0 and 1")
    at = varied_input(question)
    if not at.axes.spatial:
        raise LayerError(f"rise needs an input with spatial axes; those of {at.name!r} are not known. Use occlusion")
    feeds, x, target, answer = _start(question, at)
    sizes = [x.shape[axis] for axis in at.axes.spatial]
    grid = _sizes("cells", cells, [7] * len(sizes), sizes)
    shape = [size if axis in at.axes.spatial else 1 for axis, size in enumerate(x.shape)][1:]

    def masks(variants: Array) -> Array:
        return np.stack([_mask(sizes, grid, kept, np.random.default_rng([seed, int(j)])) for j in variants])

    def masked(rows: Array, variants: Array) -> Array:
        moved: Array = x[rows] * masks(variants).reshape(len(rows), *shape).astype(x.dtype)
        return moved

    total = np.zeros((*_targets(answer), *sizes))
    for rows, variants, scores in scores_of(question, at, feeds, target, masked, n_masks):
        for row, mask, score in zip(rows, masks(variants), scores, strict=True):
            total[row] += np.multiply.outer(score, mask)
    options = {"n_masks": n_masks, "cells": tuple(grid), "kept": kept, "seed": seed}
    return _explained(question, "rise", answer, total / (n_masks * kept), at, options)


def score_cam(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None
) -> Explanation:
    """Score-CAM (Wang 2020, arXiv:1910.01279, eq. 6 to 8): ReLU(Σ_k α_k·A_k), α the softmax over k of S(x∘H_k).

    H_k is the channel's map, resized to the input and scaled to 0 … 1. It costs a forward pass per channel. That of the
    baseline, which the paper subtracts from all scores, does not change their softmax.

    Arguments and errors are those of :func:`onnxviz.algorithms.cam.grad_cam`.
    """
    at = varied_input(question)
    feeds, x, target, answer = _start(question, at)
    site = site_of(question.layers, question.engine.graph, layer, grid)
    if at is not input_like(question, site):
        raise LayerError(f"layer {site.layer.name!r} and input {at.name!r} differ in their number of spatial axes")
    maps = _maps(question, feeds, site, len(x))
    sizes = [x.shape[axis] for axis in at.axes.spatial]
    within = tuple(range(1, 1 + len(sizes)))
    shape = [size if axis in at.axes.spatial else 1 for axis, size in enumerate(x.shape)][1:]

    def masked(rows: Array, variants: Array) -> Array:
        wide = resize_linear(maps[rows, variants], sizes, within)
        low, high = wide.min(within, keepdims=True), wide.max(within, keepdims=True)
        scaled = np.divide(wide - low, high - low, out=np.zeros_like(wide), where=high > low)
        moved: Array = x[rows] * scaled.reshape(len(rows), *shape).astype(x.dtype)
        return moved

    channels = maps.shape[1]
    found = np.zeros((*_targets(answer), channels))
    for rows, variants, scores in scores_of(question, at, feeds, target, masked, channels):
        found[rows, ..., variants] = scores
    powers = np.exp(found - found.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    heat = np.maximum(np.einsum("n...c,ncp->n...p", weights, maps.reshape(*maps.shape[:2], -1)), 0)
    heat = heat.reshape(*heat.shape[:-1], *maps.shape[2:])
    if upsample:
        space = tuple(range(heat.ndim - len(sizes), heat.ndim))
        heat = resize_linear(heat.astype(np.float32), sizes, space)
    return _explained(question, "score_cam", answer, heat, at, {"upsample": upsample}, layer=site)


def eigen_cam(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None, centre: bool = False
) -> Explanation:
    """Eigen-CAM (Muhammad 2020, arXiv:2008.00299, eq. 3 and 4): the layer's channels along their first singular vector.

    It reads neither score nor gradient: the map is the same for every target. The vector's sign is that which makes its
    largest entry positive; negative values of the map are cut off as in the other maps.

    Args:
        question: the input; its target is reported and not used.
        layer: as of Grad-CAM.
        upsample: as of Grad-CAM.
        grid: as of Grad-CAM.
        centre: subtract each channel's mean over space first, as pytorch-grad-cam does and the paper does not.
    """
    at = varied_input(question)
    feeds, x, _, answer = _start(question, at)
    site = site_of(question.layers, question.engine.graph, layer, grid)
    maps = _maps(question, feeds, site, len(x))
    rows = maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1).astype(np.float64)  # (N, places, channels)
    rows = rows - rows.mean(1, keepdims=True) if centre else rows
    first = np.linalg.svd(rows, full_matrices=False)[2][:, 0]
    largest = np.take_along_axis(first, np.abs(first).argmax(1)[:, None], 1)
    heat = np.maximum(np.einsum("npc,nc->np", rows, first * np.where(largest < 0, -1, 1)), 0)
    heat = heat.reshape(len(x), *maps.shape[2:]).astype(np.float32)
    if upsample:
        like = input_like(question, site)
        sizes = [feeds[like.name].shape[axis] for axis in like.axes.spatial]
        heat = resize_linear(heat, sizes, tuple(range(1, heat.ndim)))
    answer = replace(answer, score=answer.score if answer.score.ndim == 1 else answer.score[:, 0], target=None)
    return _explained(question, "eigen_cam", answer, heat, at, {"upsample": upsample, "centre": centre}, layer=site)


# ----- what they share -----


def varied_input(question: Question) -> Input:
    """The input that is changed: the first that has a gradient, or the first of floats."""
    inputs = question.engine.bundle.manifest.inputs
    floats = [t for t in inputs if np.issubdtype(np.dtype(t.dtype), np.floating)]
    for tensor in [*(t for t in floats if t.has_gradient), *floats]:
        return tensor
    raise LayerError("no input of this model holds floats, and others cannot be covered. Explain a layer with gradient")


def _start(question: Question, at: Input) -> tuple[dict[str, Array], Array, Target, Attribution]:
    feeds, _ = as_feeds(question.x, question.engine.bundle.manifest)
    target, answer = question.settled()
    return feeds, feeds[at.name], target, answer


def _targets(answer: Attribution) -> tuple[int, ...]:
    """(N,), or (N, T) with several targets."""
    return tuple(answer.score.shape)


def scores_of(
    question: Question, at: Input, feeds: dict[str, Array], target: Target, variant: Any, count: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Rows, numbers of variants, and the scores (B,) or (B, T) of ``variant(rows, numbers)``, run by run."""
    engine, x = question.engine, feeds[at.name]
    for rows, variants in blocks(len(x), count, engine.chunks.held(feeds, len(x) * count)):
        moved = {name: value[rows] if engine.chunks.is_batched(name) else value for name, value in feeds.items()}
        moved[at.name] = variant(rows, variants)
        part = target.of_samples(rows)
        yield rows, variants, engine.settle(moved, len(rows), part, question.chosen, question.of).score


def _maps(question: Question, feeds: dict[str, Array], site: Site, batch: int) -> Array:
    """The channels of a site, (N, C, *spatial)."""
    layer = site.layer
    values = question.engine.values(feeds, [layer.value], batch, {layer.value: layer.axes.batch})[layer.value]
    ordered = np.transpose(values, (layer.axes.batch or 0, site.channel, *site.space)).astype(np.float32)
    return ordered[:, :, site.others :].reshape(*ordered.shape[:2], *site.grid) if site.grid else ordered


def _explained(
    question: Question, method: str, answer: Attribution, values: Array, at: Input, options: dict[str, Any], *,
    layer: Site | None = None,
) -> Explanation:  # fmt: skip
    spatial = values.ndim - answer.score.ndim
    like_input = layer is None and not at.axes.spatial
    axes = ("batch", *([None if spatial > 1 else "channel"] * spatial if like_input else ["spatial"] * spatial))
    given = replace(answer, values=values.astype(np.float32))
    return question.explanation(method, given, at=at if layer is None else layer.layer, axes=axes, options=options)


def _sizes(name: str, given: Sizes, default: list[int], limits: Sequence[int]) -> list[int]:
    if given is None:
        return default
    sizes: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * len(limits)
    if len(sizes) != len(limits) or not all(is_whole(n) and 1 <= n <= m for n, m in zip(sizes, limits, strict=True)):
        raise OptionError(
            f"{name}={given!r}: expected one number for each of {len(limits)} axes, from 1 to {list(limits)}"
        )
    return [int(n) for n in sizes]


def _starts(size: int, extent: int, step: int) -> list[int]:
    """Where windows begin: every step, and the last such that it ends with the axis."""
    return sorted({*range(0, size - extent + 1, step), size - extent})


def _box(box: tuple[slice, ...], space: Sequence[int], rank: int) -> tuple[slice, ...]:
    """A window of the spatial axes as an index of one sample."""
    return tuple(box[space.index(axis)] if axis in space else slice(None) for axis in range(1, rank))


def _mask(sizes: Sequence[int], grid: Sequence[int], kept: float, rng: np.random.Generator) -> Array:
    cells = [-(-size // n) for size, n in zip(sizes, grid, strict=True)]
    coarse = (rng.random([n + 1 for n in grid]) < kept).astype(np.float32)
    wide = resize_linear(coarse, [(n + 1) * cell for n, cell in zip(grid, cells, strict=True)], tuple(range(len(grid))))
    corner = [int(rng.integers(cell)) for cell in cells]
    return wide[tuple(slice(a, a + size) for a, size in zip(corner, sizes, strict=True))]
