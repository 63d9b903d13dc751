"""Finite differences: the check of a gradient where the source cannot differentiate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.check.difference import HALF
from onnxviz.check.draws import normal
from onnxviz.engine.core import Engine
from onnxviz.errors import CheckFailedError
from onnxviz.manifest import Layer, Manifest, Tensor, grad_name, seed_name
from onnxviz.source import Array, Feeds

Values = Mapping[str, Array]
Score = Callable[[Values], float]

STEPS = (1e-1, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-7)
"""Relative to the size of what is moved; the small ones for logarithms of next to nothing."""
DIRECTIONAL, TRIALS = 1e-2, 3
"""The bar for finite differences in float32, relative to the slope, and how many inputs they are taken at."""
NOT_WRITTEN = "Nothing was written; convert with gradient=False to have the layers' values alone"


@dataclass(frozen=True)
class Slope:
    """A finite difference along one direction.

    Attributes:
        error: |slope − gradient · direction| relative to |gradient · direction|, at the best of several steps. Large
            steps cross kinks and curve, small ones drown in rounding; a wrong gradient fits at none.
        blur: how much of the slope rounding alone could make up at the largest step.
    """

    error: float
    blur: float

    @classmethod
    def along(
        cls,
        direction: Values,
        gradient: Values,
        start: Values,
        score: Score,
        noise: float,
    ) -> Slope:
        """Measure at the first of :data:`STEPS` that agrees, or at all."""
        predicted = sum(float((gradient[k].astype(np.float64) * d).sum()) for k, d in direction.items())
        if not predicted:
            return cls(0.0, np.inf)
        best, widest = np.inf, 0.0
        for step, rise in _rises(direction, start, score):
            widest = max(widest, step)
            best = min(best, abs(rise / (2 * step) - predicted) / abs(predicted))
            if best < DIRECTIONAL / 10:
                break
        return cls(best, noise / abs(predicted * widest) if widest else np.inf)


def lost_slope(rng: np.random.Generator, gradient: Values, start: Values, score: Score, noise: float) -> float:
    """The slope along entries whose gradient is zero, relative to that along as many entries that have one.

    A rule that loses entries predicts every slope along those it keeps. Where all are zero, infinite if the values
    change nevertheless.
    """
    along = {k: rng.standard_normal(g.shape) * (g == 0) for k, g in gradient.items()}
    entries = np.concatenate([g.ravel() for g in gradient.values()]).astype(np.float64)
    kept = entries[entries != 0]
    usual = float(np.sqrt((kept**2).mean())) * _norm(along) if len(kept) else 0.0
    ratios = []
    for step, rise in _rises(along, start, score):
        if usual and 10 * noise <= DIRECTIONAL * usual * step:
            ratios.append(abs(rise) / (2 * step) / usual)
        elif not usual and len(ratios) < 3:
            ratios.append(np.inf if abs(rise) > 1e3 * noise else 0.0)
    return float(min(ratios)) if len(ratios) >= 3 else 0.0  # fewer are all large steps, which cross kinks


def _rises(direction: Values, start: Values, score: Score) -> Iterator[tuple[float, float]]:
    """Steps along a direction, from large to small, and what the score gains from one step back to one ahead."""
    norm, size = _norm(direction), _norm(start) or 1.0
    for relative in STEPS if norm else ():
        step = relative * size / norm
        ends = [
            score(
                {
                    k: (start[k] + sign * step * d.astype(np.float64)).astype(start[k].dtype)
                    for k, d in direction.items()
                }
            )
            for sign in (1, -1)
        ]
        if np.isfinite(ends).all():  # a step may leave the domain of a logarithm
            yield step, ends[0] - ends[1]


def _norm(values: Values) -> float:
    return float(np.sqrt(sum((v.astype(np.float64) ** 2).sum() for v in values.values())))


@dataclass(frozen=True)
class FiniteDifferences:
    """Compares the slopes of a file's values with the gradients that it contains.

    Attributes:
        engine, manifest: of the file.
        draw: seeded inputs by number.
        neighbours: each layer, with the layers and inputs that it is computed from.
    """

    engine: Engine
    manifest: Manifest
    draw: Callable[[int], dict[str, Array]]
    neighbours: Sequence[tuple[Layer, list[Tensor]]]

    @property
    def bar(self) -> float:
        """How far a slope may be from the gradient: :data:`DIRECTIONAL`, wider where anything is half precision."""
        half = any(t.dtype == "float16" for t in (*self.manifest.inputs, *self.manifest.layers))
        return HALF if half else DIRECTIONAL

    def run(self, roots: Sequence[Tensor]) -> dict[str, Any]:
        """Where the source cannot differentiate: the slopes of Σ cotangent · logits, in the file.

        Where the outputs hardly move with the inputs (saturated, or random weights), rounding hides the slope; then
        each layer's slopes with respect to the layers before it are taken.
        """
        outputs = [o for o in self.manifest.outputs if o.has_gradient]
        of = {o.logits: seed_name(o.name) for o in outputs}
        starts = [value for t in roots if isinstance(t, Layer) for value in [t.value]]
        slopes: list[Slope] = []
        lost = 0.0
        for trial in range(TRIALS):
            feeds = self.draw(trial)
            values = self.engine.forward(feeds, [*of, *starts])
            found, missed = self._slopes(trial, feeds, values, roots, of)
            slopes, lost = slopes + found, max(lost, missed)
        result = {"of": [t.name for t in roots], "inputs": TRIALS, "by": "finite differences"}
        median = float(np.median([s.error for s in slopes]))
        if max(s.blur for s in slopes) < self.bar and median <= self.bar and lost <= self.bar:
            return result | {"max": max(s.error for s in slopes), "median": median}
        if not self.neighbours:
            return result | self._whole(slopes, lost)
        feeds = self.draw(0)
        values = self.engine.forward(feeds, [t.value for t in self.manifest.layers])
        stages: dict[str, float] = {}
        for layer, neighbours in self.neighbours:
            parents = self._independent(neighbours)
            of = {layer.value: grad_name(layer.value)}
            errors = np.inf
            for jitter in (True, False):  # a jittered value may lie where a logarithm or root has none
                found, lost = self._slopes(0, feeds, values, parents, of, jitter=jitter)
                telling = [s.error for s in found if s.blur < self.bar]
                errors = min(errors, max(float(np.median(telling)) if telling else 0.0, lost))
                if errors <= self.bar:
                    break
            stages[layer.name] = errors
            if stages[layer.name] > self.bar:
                raise CheckFailedError(
                    f"the gradient in the converted file does not predict how layer {layer.name!r} ({layer.operator}) "
                    f"changes with {', '.join(repr(p.name) for p in parents)}: the median deviation from finite "
                    f"differences is {stages[layer.name]:.1e} (bar {self.bar:.0e}). {NOT_WRITTEN}"
                )
        worst = list(stages.values()) or [0.0]
        return result | {
            "max": max(worst), "median": float(np.median(worst)), "by": "finite differences, stage by stage",
            "stages": stages,
        }  # fmt: skip

    def _whole(self, slopes: Sequence[Slope], lost: float) -> dict[str, float]:
        """The error of a file without layers, of which nothing else can be asked: what rounding hides is left out."""
        telling = [s.error for s in slopes if s.blur < self.bar]
        error = max(float(np.median(telling)) if telling else 0.0, lost)
        if error > self.bar:
            raise CheckFailedError(
                "the gradient in the converted file does not predict how the outputs change with the inputs: the "
                f"median deviation from finite differences is {error:.1e} (bar {self.bar:.0e}). {NOT_WRITTEN}"
            )
        return {"max": error, "median": error}

    @np.errstate(invalid="ignore")  # of a model that leaves the finite numbers the comparison says so itself
    def _slopes(
        self,
        trial: int,
        feeds: Feeds,
        values: dict[str, Array],
        parents: Sequence[Tensor],
        of: Mapping[str, str],
        *,
        jitter: bool = False,
    ) -> tuple[list[Slope], float]:
        """Slopes of Σ cotangent · value for the values ``of`` (value → what takes its cotangent) along directions.

        The directions are the gradient itself and random halves of its entries: along a random direction the slope of a
        function of many numbers is next to nothing. ``jitter`` moves layers' values to a generic point first: behind a
        ReLU many are equal, and a MaxPool of equal values has no slope. The second result is :func:`lost_slope`.
        """
        fed = [p.value for p in parents if isinstance(p, Layer)]
        start = {p.value: values[p.value] if p.value in fed else feeds[p.name] for p in parents}
        rng = np.random.default_rng([trial, 1])
        cotangents = {name: normal(rng, values[name]) for name in of}
        if jitter:
            start |= {n: start[n] + normal(rng, start[n]) * start[n].dtype.type(start[n].std() or 1) for n in fed}
            values = self.engine.forward({**feeds, **{n: start[n] for n in fed}}, list(of))
        given = {name: start[name] for name in fed}
        gradient = self.engine.linear(
            {**feeds, **given}, {of[name]: c for name, c in cotangents.items()}, [p.value for p in parents]
        )

        def score(moved: Mapping[str, Array]) -> float:
            got = self.engine.forward({**feeds, **moved}, list(of))
            return float(sum((c.astype(np.float64) * got[n]).sum() for n, c in cotangents.items()))

        noise = float(np.finfo(np.float32).eps) * float(
            np.sqrt(sum(((c.astype(np.float64) * values[n]) ** 2).sum() for n, c in cotangents.items()))
        )
        halves = [{k: g * rng.integers(0, 2, g.shape) for k, g in gradient.items()} for _ in range(2)]

        found = [Slope.along(direction, gradient, start, score, noise) for direction in (gradient, *halves)]
        return found, lost_slope(rng, gradient, start, score, noise)

    def _independent(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Those that are not computed from others among them, and so can be moved one without the other."""
        graph, names = self.engine.graph, {t.value for t in tensors}
        kept = []
        for tensor in tensors:
            nodes = graph.needed([tensor.value], ())
            if names.isdisjoint(x for i in nodes for x in graph.nodes[i].input):
                kept.append(tensor)
        return kept
