"""Activation maximisation: the input that a unit of the network wants to see.

Erhan 2009 ("Visualizing higher-layer features of a deep network"), Simonyan 2013 (arXiv:1312.6034), Yosinski 2015
(arXiv:1506.06579), Olah 2017 (doi:10.23915/distill.00007).

A step is one graph (:mod:`onnxviz.algorithms.steps`): the numbers that stand for the images and the optimiser's means
are outputs of one step and inputs of the next, where the engine runs, and a few numbers per image come back. Images
come to the host at snapshots and at the end, and for regularisers that are written in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from onnxviz.algorithms.ascent import Ascent, Site, Trace
from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.goals import goals_of
from onnxviz.algorithms.objectives import Objective, objectives_of
from onnxviz.algorithms.parameterization import Images, Name, Units, parameterization_of
from onnxviz.algorithms.regularizers import Penalty, PenaltyHead, Projection, ProjectionHead, TotalVariation
from onnxviz.algorithms.rules import Optimizer, Rule
from onnxviz.algorithms.steps import Steps
from onnxviz.algorithms.subject import Clip, Subject
from onnxviz.algorithms.transforms import Transforms
from onnxviz.engine.chunks import Chunk
from onnxviz.engine.core import Engine, Run
from onnxviz.engine.inputs import array
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError
from onnxviz.maximization import Maximization
from onnxviz.source import Feeds

Penalties = tuple[Penalty | PenaltyHead, ...]
Projections = tuple[Projection | ProjectionHead, ...]
Regularizer = Penalty | PenaltyHead | Projection | ProjectionHead


def maximize(
    engine: Engine,
    target: Any,
    *,
    steps: int = 200,
    regularizers: Sequence[Regularizer] = (),
    jitter: int = 8,
    scale: tuple[float, float] = (1.0, 1.0),
    rotation: float = 0.0,
    parameterization: Name = "auto",
    optimizer: Optimizer = "normalized",
    learning_rate: float | None = None,
    start: Any = None,
    size: Sequence[int] | None = None,
    inputs: Mapping[str, Any] | None = None,
    clip: Clip = True,
    snapshots: int = 0,
    seed: int = 0,
    of: Of = "logits",
    output: str | None = None,
) -> Maximization:
    """The input that maximises a unit, by gradient ascent; see :meth:`onnxviz.Explainer.maximize`."""
    _require_count("steps", steps, 1)
    _require_count("snapshots", snapshots, 0)
    subject = Subject.of(engine)
    targets, units = goals_of(target, engine.bundle.manifest, output), subject.units
    given = None if start is None else _started(start, subject, inputs)
    shape = subject.shape(size) if given is None else given.shape
    canvas = Canvas.of(shape, units.axes)
    parameters = parameterization_of(parameterization, units, canvas, subject.limits(clip))
    begin, count = _begun(given, shape, units, len(targets), seed)
    targets = targets * count if len(targets) < count else targets
    rate = parameters.levels * units.level if learning_rate is None else learning_rate
    penalties, projections = sorted_out(regularizers, units)
    course = Steps(
        subject.tensor, units, canvas, parameters, Rule(optimizer, rate), penalties,
        Transforms(jitter, (scale[0], scale[1]), rotation),
    )  # fmt: skip
    objectives = objectives_of(targets, engine, subject.tensor, of)
    feeds = subject.feeds(np.zeros_like(begin), inputs)
    draws, kept = course.draws(steps, np.random.default_rng([seed, 1])), moments(snapshots, steps)
    with tqdm(total=steps * count, delay=2, disable=None, leave=False, desc="maximising", unit="step") as bar:
        ascent = Ascent(course, projections, draws, kept, bar)
        traces = [_climbed(ascent, engine, one, begin, feeds, encode=given is not None) for one in objectives]
    trace = Trace.joined(traces, np.concatenate([objective.rows for objective in objectives]))
    options = {
        "steps": steps, "regularizers": [repr(one) for one in regularizers], "jitter": jitter, "scale": list(scale),
        "rotation": rotation, "parameterization": parameters.name, "optimizer": optimizer, "learning_rate": rate,
        "clip": clip, "seed": seed, "of": of,
    }  # fmt: skip
    return result(subject, trace, [unit.label for unit in targets], kept, options)


def _climbed(
    ascent: Ascent, engine: Engine, objective: Objective, begin: Images, feeds: Feeds, *, encode: bool
) -> Trace:
    """The ascent of an objective's images, in as many runs as they take; with ``encode`` they begin as images."""
    tensor, rows = ascent.steps.tensor, objective.rows

    def work(chunk: Chunk, run: Run) -> Trace:
        held = {name: x for name, x in chunk.feeds.items() if name != tensor.name}
        held |= {name: chunk.rows(x) for name, x in objective.fed.items()}
        site = Site(engine.graph, run, objective, held)
        numbers = ascent.steps.canvas.inward(chunk.rows(begin[rows]))
        return ascent.climb(site, ascent.encoded(site, numbers) if encode else numbers, chunk.keep)

    mine = {name: x[rows] if engine.chunks.is_batched(name) else x for name, x in feeds.items()}
    traces = engine.iterate(mine, work)
    return Trace.joined(traces, np.arange(len(rows)))


def moments(snapshots: int, steps: int) -> tuple[int, ...]:
    """Before which steps images are kept: evenly from the start to the end, or the end alone."""
    return tuple(sorted({int(step) for step in np.linspace(0 if snapshots > 1 else steps, steps, snapshots).round()}))


def result(
    subject: Subject, trace: Trace, labels: Sequence[str], kept: Sequence[int], options: Mapping[str, Any]
) -> Maximization:
    """What is handed to the user."""
    still = [label for label, moved in zip(labels, trace.moved, strict=True) if not moved]
    why = (
        f"{', '.join(still)}: the score had no gradient at any step (a rectifier that is off, or a place outside of "
        f"the layer), so only regularisers moved the image; maximise what stands before the rectifier, or give start=…"
    )
    return Maximization(
        images=subject.units.input(trace.images),
        score=trace.score,
        scores=trace.scores,
        targets=tuple(labels),
        axes=subject.units.axes,
        options=options,
        snapshots=subject.units.input(trace.kept) if kept else None,
        snapshot_steps=tuple(kept),
        image_input=subject.image_input,
        provider=subject.engine.provider,
        notes=(why,) if still else (),
    )


def sorted_out(regularizers: Sequence[Regularizer], units: Units) -> tuple[Penalties, Projections]:
    """Penalties and projections, checked."""
    if isinstance(regularizers, Regularizer):
        raise OptionError(f"regularizers={regularizers!r}: expected a list, [{regularizers!r}]")
    for one in regularizers:
        if isinstance(one, type) or not isinstance(one, Regularizer):
            raise OptionError(
                f"regularizers: {one!r} is none; expected onnxviz.LpNorm(…), TotalVariation(…), L2(…), Blur(…), or an "
                f"object with value and gradient, or with project"
            )
        if isinstance(one, TotalVariation) and not units.axes.spatial:
            raise OptionError(f"{one!r}: the input has no (known) spatial axes along which it could vary")
    penalties = tuple(one for one in regularizers if isinstance(one, Penalty | PenaltyHead))
    return penalties, tuple(one for one in regularizers if isinstance(one, Projection | ProjectionHead))


def _started(start: Any, subject: Subject, inputs: Mapping[str, Any] | None) -> Images:
    x = subject.feeds(np.asarray(array(start)), inputs)[subject.tensor.name]
    return subject.units.images(x.astype(np.float32))


def _begun(given: Images | None, shape: tuple[int, ...], units: Units, targets: int, seed: int) -> tuple[Images, int]:
    """Where each image starts, and how many there are: numbers of the same noise for all, or the images given."""
    if given is None:
        noise = 10 * units.level * np.random.default_rng([seed, 0]).standard_normal(shape)
        return np.repeat(noise.astype(np.float32), targets, 0), targets
    count = max(len(given), targets)
    if len(given) not in (1, count) or targets not in (1, count):
        raise InputError(f"start holds {len(given)} images for {targets} targets: give one, or one for each")
    return np.repeat(given, count, 0) if len(given) < count else given, count


def _require_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least {least}")
