"""Activation maximisation: the input that a unit of the network wants to see.

Erhan 2009 ("Visualizing higher-layer features of a deep network"), Simonyan 2013 (arXiv:1312.6034), Yosinski 2015
(arXiv:1506.06579), Olah 2017 (doi:10.23915/distill.00007).

The network runs where the engine runs: forward pass, backward pass and score are one graph. The image, its priors and
its transformations live in numpy, so that anybody can write a prior; per step one image goes to the device and one
gradient comes back, 0.6 MB each at 224×224×3. On a CPU nothing is moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from onnxviz.algorithms.ascent import Ascent, Ask, Optimizer, Rule, Trace
from onnxviz.algorithms.goals import Goal, goals_of
from onnxviz.algorithms.objectives import Objective, objectives_of
from onnxviz.algorithms.parameterization import Images, Name, Parameterization, Units, parameterization_of
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.regularizers import Penalty, Projection, TotalVariation
from onnxviz.algorithms.transforms import Transforms
from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError
from onnxviz.image import ImageInput
from onnxviz.manifest import Input
from onnxviz.maximization import Maximization
from onnxviz.source import Array, Feeds

Regularizer = Penalty | Projection
Clip = bool | tuple[float, float]


@dataclass(frozen=True)
class Subject:
    """The input that is changed, of one file."""

    engine: Engine
    tensor: Input
    units: Units

    @classmethod
    def of(cls, engine: Engine) -> Subject:
        """The first input that has a gradient.

        Raises:
            LayerError: no input has one.
        """
        tensor = Question(engine, None, None, None, "logits").input()
        return cls(engine, tensor, Units.of(tensor))

    @property
    def image_input(self) -> ImageInput | None:
        """How the file prepares pictures, if it says so."""
        return None if self.tensor.image is None else ImageInput.from_dict(self.tensor.image)

    def limits(self, clip: Clip) -> tuple[float, float] | None:
        """The bounds of the images, from pixels 0 … 255 or the model's units to those of the ascent."""
        if isinstance(clip, bool):
            return self.units.limits if clip else None
        if len(clip) != 2 or not clip[0] < clip[1]:
            raise OptionError(f"clip={clip!r}: expected True, False or (low, high)")
        shift = self.units.middle
        return clip[0] - shift, clip[1] - shift

    def shape(self, size: Sequence[int] | None) -> tuple[int, ...]:
        """Of one image, with a batch of 1: the file's sizes; where it leaves them open ``size``, or the example's."""
        spatial, sizes = self.units.axes.spatial, self.engine.bundle.manifest.sizes
        if size is not None and len(size) != len(spatial):
            raise OptionError(f"size={size!r}: expected a size for each of the {len(spatial)} spatial axes")
        wanted = dict(zip(spatial, size or (), strict=False))
        shape = []
        for axis, declared in enumerate(self.tensor.shape):
            known = sizes.get(declared) if isinstance(declared, str) else declared
            n = wanted.get(axis, 1 if axis == (self.tensor.axes.batch or 0) else known)
            if n is None:
                raise OptionError(
                    f"input {self.tensor.name!r} has no fixed sizes ({list(self.tensor.shape)}): give size=…"
                )
            shape.append(n)
        return tuple(shape)

    def feeds(self, x: Images, inputs: Mapping[str, Any] | None) -> dict[str, Array]:
        """All inputs of the model, checked: x, and those that are held fixed, repeated for each sample."""
        held = {name: array(value) for name, value in (inputs or {}).items()}
        one = {name: np.repeat(v, len(x), 0) if v.ndim and len(v) == 1 else v for name, v in held.items()}
        return as_feeds({self.tensor.name: x, **one}, self.engine.bundle.manifest)[0]

    def ask(self, objectives: Sequence[Objective], feeds: Feeds) -> Ask:
        """The scores and gradients of images in the units of the ascent."""
        dtype = feeds[self.tensor.name].dtype

        def ask(images: Images) -> tuple[Array, Images]:
            x = self.units.input(images).astype(dtype, copy=False)
            scores, gradient = np.empty(len(x), np.float32), np.empty(x.shape, np.float32)
            for objective in objectives:
                rows = objective.rows
                moved = {n: v[rows] if self.engine.is_batched(n) else v for n, v in feeds.items()}
                moved[self.tensor.name] = x[rows]
                scores[rows], gradient[rows] = objective.ask(self.engine, moved)
            return scores, self.units.gain * gradient

        return ask


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
    targets = goals_of(target, engine.bundle.manifest, output)
    limits = subject.limits(clip)
    given = None if start is None else _started(start, subject, inputs)
    shape = subject.shape(size) if given is None else given.shape
    parameters = parameterization_of(parameterization, subject.units, shape, limits)
    numbers, targets = _begun(given, shape, parameters, subject.units, targets, seed)
    feeds = subject.feeds(subject.units.input(parameters.decode(numbers)), inputs)
    ask = subject.ask(objectives_of(targets, engine, subject.tensor, of), feeds)
    rate = parameters.levels * subject.units.level if learning_rate is None else learning_rate
    ascent = Ascent(
        subject.units, parameters, Rule(optimizer, rate), *sorted_out(regularizers, subject.units),
        Transforms(jitter, (scale[0], scale[1]), rotation),
    )  # fmt: skip
    kept = sorted({int(step) for step in np.linspace(0 if snapshots > 1 else steps, steps, snapshots).round()})
    with tqdm(total=steps, delay=2, disable=None, leave=False, desc="maximising", unit="step") as bar:
        random = np.random.default_rng([seed, 1])
        trace = ascent.climb(numbers, ask, steps, random, keep=frozenset(kept), bar=bar)
    images = parameters.decode(trace.numbers)
    options = {
        "steps": steps, "regularizers": [repr(one) for one in regularizers], "jitter": jitter, "scale": list(scale),
        "rotation": rotation, "parameterization": parameters.name, "optimizer": optimizer, "learning_rate": rate,
        "clip": clip, "seed": seed, "of": of,
    }  # fmt: skip
    return result(subject, images, trace, ask(images)[0], [unit.label for unit in targets], kept, options)


def result(
    subject: Subject,
    images: Images,
    trace: Trace,
    score: Array,
    labels: Sequence[str],
    kept: Sequence[int],
    options: Mapping[str, Any],
) -> Maximization:
    """What is handed to the user."""
    still = [label for label, moved in zip(labels, trace.moved, strict=True) if not moved]
    why = (
        f"{', '.join(still)}: the score had no gradient at any step (a rectifier that is off, or a place outside of "
        f"the layer), so only regularisers moved the image; maximise what stands before the rectifier, or give start=…"
    )
    return Maximization(
        images=subject.units.input(images),
        score=score,
        scores=trace.scores,
        targets=tuple(labels),
        axes=subject.units.axes,
        options=options,
        snapshots=np.stack([subject.units.input(one) for one in trace.kept]) if kept else None,
        snapshot_steps=tuple(kept),
        image_input=subject.image_input,
        provider=subject.engine.provider,
        notes=(why,) if still else (),
    )


def sorted_out(regularizers: Sequence[Regularizer], units: Units) -> tuple[tuple[Penalty, ...], tuple[Projection, ...]]:
    """Penalties and projections, checked."""
    if isinstance(regularizers, Penalty | Projection):
        raise OptionError(f"regularizers={regularizers!r}: expected a list, [{regularizers!r}]")
    for one in regularizers:
        if isinstance(one, type) or not isinstance(one, Penalty | Projection):
            raise OptionError(
                f"regularizers: {one!r} is none; expected onnxviz.LpNorm(…), TotalVariation(…), L2(…), Blur(…), or an "
                f"object with value and gradient, or with project"
            )
        if isinstance(one, TotalVariation) and not units.axes.spatial:
            raise OptionError(f"{one!r}: the input has no (known) spatial axes along which it could vary")
    penalties = tuple(one for one in regularizers if isinstance(one, Penalty))
    return penalties, tuple(one for one in regularizers if isinstance(one, Projection))


def _started(start: Any, subject: Subject, inputs: Mapping[str, Any] | None) -> Images:
    x = subject.feeds(np.asarray(array(start)), inputs)[subject.tensor.name]
    return subject.units.images(x.astype(np.float32))


def _begun(
    given: Images | None,
    shape: tuple[int, ...],
    parameters: Parameterization,
    units: Units,
    targets: list[Goal],
    seed: int,
) -> tuple[Images, list[Goal]]:
    """Where each image starts, and its unit: all at the same noise, or at the images that were given."""
    if given is None:
        noise = 10 * units.level * np.random.default_rng([seed, 0]).standard_normal(shape)
        return np.repeat(noise.astype(np.float32), len(targets), 0), targets
    count = max(len(given), len(targets))
    if len(given) not in (1, count) or len(targets) not in (1, count):
        raise InputError(f"start holds {len(given)} images for {len(targets)} targets: give one, or one for each")
    images = np.repeat(given, count, 0) if len(given) < count else given
    return parameters.encode(images), targets * count if len(targets) < count else targets


def _require_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least {least}")
