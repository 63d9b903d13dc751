"""Finite differences: the check of a gradient where the source cannot differentiate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.check.draws import normal
from onnxviz.engine.core import Engine
from onnxviz.errors import CheckFailedError
from onnxviz.manifest import Layer, Manifest, Tensor, grad_name, seed_name
from onnxviz.source import Array, Feeds

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
        direction: Mapping[str, Array],
        gradient: Mapping[str, Array],
        start: Mapping[str, Array],
        score: Callable[[Mapping[str, Array]], float],
        noise: float,
    ) -> Slope:
        """Measure at steps from a tenth to a ten thousandth of the values' own size."""
        wide = {k: d.astype(np.float64) for k, d in direction.items()}
        norm = float(np.sqrt(sum((d**2).sum() for d in wide.values())))
        size = float(np.sqrt(sum((s.astype(np.float64) ** 2).sum() for s in start.values()))) or 1.0
        predicted = sum(float((gradient[k] * wide[k]).sum()) for k in wide)
        if not norm or not predicted:
            return cls(0.0, np.inf)
        best = np.inf
        steps = [relative * size / norm for relative in (1e-1, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)]
        for step in steps:
            ends = [
                score({k: (start[k].astype(np.float64) + sign * step * wide[k]).astype(start[k].dtype) for k in wide})
                for sign in (1, -1)
            ]
            if np.isfinite(ends).all():  # a step may leave the domain of a logarithm
                best = min(best, abs((ends[0] - ends[1]) / (2 * step) - predicted) / abs(predicted))
            if best < DIRECTIONAL / 10:
                break
        return cls(best, noise / abs(predicted * steps[0]))


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

    def run(self, roots: Sequence[Tensor]) -> dict[str, Any]:
        """Where the source cannot differentiate: the slopes of Σ cotangent · logits, in the file.

        Where the outputs hardly move with the inputs (saturated, or random weights), rounding hides the slope; then
        each layer's slopes with respect to the layers before it are taken.
        """
        outputs = [o for o in self.manifest.outputs if o.has_gradient]
        of = {o.logits: seed_name(o.name) for o in outputs}
        starts = [value for t in roots if isinstance(t, Layer) for value in [t.value]]
        slopes: list[Slope] = []
        for trial in range(TRIALS):
            feeds = self.draw(trial)
            values = self.engine.forward(feeds, [*of, *starts])
            slopes += self._slopes(trial, feeds, values, roots, of)
        result = {"of": [t.name for t in roots], "inputs": TRIALS, "by": "finite differences"}
        if max(s.blur for s in slopes) < DIRECTIONAL and np.median([s.error for s in slopes]) <= DIRECTIONAL:
            return result | {"max": max(s.error for s in slopes), "median": float(np.median([s.error for s in slopes]))}
        feeds = self.draw(0)
        values = self.engine.forward(feeds, [t.value for t in self.manifest.layers])
        stages: dict[str, float] = {}
        for layer, neighbours in self.neighbours:
            parents = self._independent(neighbours)
            of = {layer.value: grad_name(layer.value)}
            errors = np.inf
            for jitter in (True, False):  # a jittered value may lie where a logarithm or root has none
                found = self._slopes(0, feeds, values, parents, of, jitter=jitter)
                telling = [s.error for s in found if s.blur < DIRECTIONAL]
                errors = min(errors, float(np.median(telling)) if telling else 0.0)
                if errors <= DIRECTIONAL:
                    break
            stages[layer.name] = errors
            if stages[layer.name] > DIRECTIONAL:
                raise CheckFailedError(
                    f"the gradient in the converted file does not predict how layer {layer.name!r} ({layer.operator}) "
                    f"changes with {', '.join(repr(p.name) for p in parents)}: the median deviation from finite "
                    f"differences is {stages[layer.name]:.1e} (bar {DIRECTIONAL:.0e}). {NOT_WRITTEN}"
                )
        worst = list(stages.values()) or [0.0]
        return result | {
            "max": max(worst), "median": float(np.median(worst)), "by": "finite differences, stage by stage",
            "stages": stages,
        }  # fmt: skip

    def _slopes(
        self,
        trial: int,
        feeds: Feeds,
        values: dict[str, Array],
        parents: Sequence[Tensor],
        of: Mapping[str, str],
        *,
        jitter: bool = False,
    ) -> list[Slope]:
        """Slopes of Σ cotangent · value for the values ``of`` (value → what takes its cotangent) along directions.

        The directions are the gradient itself and random halves of its entries: along a random direction the slope of a
        function of many numbers is next to nothing. ``jitter`` moves layers' values to a generic point first: behind a
        ReLU many are equal, and a MaxPool of equal values has no slope.
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
        return [Slope.along(direction, gradient, start, score, noise) for direction in (gradient, *halves)]

    def _independent(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Those that are not computed from others among them, and so can be moved one without the other."""
        graph, names = self.engine.graph, {t.value for t in tensors}
        kept = []
        for tensor in tensors:
            nodes = graph.needed([tensor.value], ())
            if names.isdisjoint(x for i in nodes for x in graph.nodes[i].input):
                kept.append(tensor)
        return kept
