"""The check at the end of every conversion: the file is run against the model that it came from.

Layer values must agree to 1e-4 of each layer's largest absolute value on every input. Gradients cannot be held to that on
every input: ReLU, Clip and MaxPool have kinks, and where a value lies within rounding of one, two correct programs
disagree by a whole term. A wrong rule errs everywhere. So the gradient must agree on up to eight seeded inputs in its
median and its direction, and on one of them everywhere; where kinks are so many that this cannot tell, each stage
between neighbouring layers is checked by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.bundle import Layer, Manifest, Output, Tensor, grad_name, read, seed_name
from onnxviz.engine.core import Engine
from onnxviz.engine.session import CPU
from onnxviz.errors import CheckFailedError
from onnxviz.source import BATCH, Array, Feeds, Source

TRIALS = 8
EVERYWHERE, MEDIAN, COSINE = 1e-4, 1e-6, 0.999
"""Bars for float32: largest and median difference, relative to the largest absolute value, and direction."""
LARGE = 2**24
"""Bytes of activations per sample from which on few inputs are tried before the stages are."""
HALF = 2e-2
"""The bar for everything in float16 and bfloat16, which have 10 and 7 bits."""
DIRECTIONAL, SLOPE_TRIALS = 1e-2, 3
"""The bar for finite differences in float32, relative to the slope, and how many inputs they are taken at."""


_NOT_WRITTEN = "Nothing was written; convert with gradient=False to have the layers' values alone"


@dataclass(frozen=True)
class Difference:
    """How far one array is from another, relative to the other's largest absolute value."""

    largest: float
    median: float
    cosine: float

    @classmethod
    def between(cls, got: Array, expected: Array) -> Difference:
        """Compare; infinities and NaN must stand in the same places."""
        a, b = np.asarray(got, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
        if a.shape != b.shape:
            return cls(np.inf, np.inf, 0.0)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            return cls(np.inf, np.inf, 0.0)
        a, b = a[finite], b[finite]
        scale = float(np.abs(b).max(initial=0.0))
        if scale == 0.0:
            largest = float(np.abs(a).max(initial=0.0))
            return cls(largest, largest, float(largest == 0.0))
        error = np.abs(a - b) / scale
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return cls(float(error.max()), float(np.median(error)), float(a @ b) / norms if norms else 0.0)

    def passes_everywhere(self, *, half: bool) -> bool:
        """Whether no entry differs by more than rounding explains."""
        return self.largest <= (HALF if half else EVERYWHERE)

    def passes_mostly(self, *, half: bool) -> bool:
        """Whether the two are the same but for a few entries: a wrong rule is not."""
        return self.median <= (HALF if half else MEDIAN) and self.cosine >= COSINE


class Check:
    """Runs the file at ``path`` against ``source.reference``."""

    def __init__(self, source: Source, manifest: Manifest, path: Path) -> None:
        self.source = source
        self.manifest = manifest
        self.engine = Engine(read(path), providers=[CPU], max_sessions=4)
        self.batches = (manifest.static_batch,) if manifest.static_batch else _batches(source.example)
        self.batched = [t.name for t in manifest.inputs if t.shape and t.shape[0] == BATCH]

    def run(self) -> dict[str, Any]:
        """The residuals for the metadata.

        Raises:
            CheckFailedError: naming the first layer whose values differ, or the gradient.
        """
        try:
            residuals = self._values()
            if any(o.has_gradient for o in self.manifest.outputs):
                residuals["gradient"] = self._gradient()
            residuals["recipe"] = recipe(self.source.example)
            return residuals
        finally:
            self.engine.close()

    def _drawn(self, seed: int, batch: int | None = None) -> dict[str, Array]:
        return drawn(self.source.example, seed, batch or self.batches[0], self.batched)

    # ----- values -----

    def _values(self) -> dict[str, Any]:
        outputs: dict[str, float] = {}
        layers: dict[str, float] = {}
        tensors: list[Tensor] = [*self.manifest.layers, *self.manifest.outputs]
        for seed, batch in enumerate(self.batches):
            feeds = self._drawn(seed, batch)
            expected = self.source.reference.run(feeds)
            got = self.engine.forward(feeds, [t.value for t in tensors])
            for tensor in tensors:
                found = Difference.between(got[tensor.value], expected[tensor.name])
                table = layers if isinstance(tensor, Layer) else outputs
                table[tensor.name] = max(table.get(tensor.name, 0.0), found.largest)
                if not found.passes_everywhere(half=_is_half(tensor)):
                    kind = f"layer {tensor.name!r} ({tensor.type})" if isinstance(tensor, Layer) else f"output {tensor.name!r}"
                    raise CheckFailedError(
                        f"the converted file computes something else than the {self.source.framework} model: {kind} is the "
                        f"first that differs, by {found.largest:.1e} of its largest absolute value (the bar is "
                        f"{EVERYWHERE:.0e}) at batch {batch}. Nothing was written. If the model is random at inference "
                        f"(dropout that stays on, sampling), make it deterministic; otherwise this is a bug in the export"
                    )
        return {"outputs": outputs, "layers": layers}

    # ----- gradient -----

    def _gradient(self) -> dict[str, Any]:
        roots = self._roots()
        half = any(_is_half(t) for t in roots)
        tried: list[Difference] = []
        for trial in range(self._trials()):
            feeds = self._drawn(trial)
            got, expected = self._both_gradients(feeds, trial, roots)
            if expected is None:
                return self._finite_differences(roots)
            tried.append(Difference.between(_flat(got), _flat(expected)))
            if tried[-1].passes_everywhere(half=half) or not tried[-1].passes_mostly(half=half):
                break
        best = min(tried, key=lambda d: d.largest)
        result = {
            "of": [t.name for t in roots], "max": best.largest, "median": max(d.median for d in tried),
            "cosine": min(d.cosine for d in tried), "inputs": len(tried), "by": "autograd",
        }  # fmt: skip
        if not (best.passes_everywhere(half=half) and all(d.passes_mostly(half=half) for d in tried)):
            result |= {"by": "autograd, stage by stage", "stages": self._stages(best)}
        return result

    def _trials(self) -> int:
        """Fewer inputs for large networks: among millions of activations some always lie at a kink."""
        return TRIALS if self.manifest.activation_bytes < LARGE else 2

    def _roots(self) -> list[Tensor]:
        """What the gradient is compared at: the inputs that have one, else the first layer that has."""
        inputs = [t for t in self.manifest.inputs if t.has_gradient]
        return list(inputs) or [t for t in self.manifest.layers if t.has_gradient][:1]

    def _both_gradients(
        self, feeds: Feeds, trial: int, roots: Sequence[Tensor]
    ) -> tuple[list[Array], list[Array] | None]:
        outputs = [o for o in self.manifest.outputs if o.has_gradient]
        values = self.engine.forward(feeds, [n for o in outputs for n in (o.value, o.logits)])
        rng = np.random.default_rng([trial, 1])
        cotangents = {o.name: _normal(rng, values[o.value]) for o in outputs}
        answers = self.source.reference.gradients(feeds, [(cotangents, [t.name for t in roots])])
        seeds = {seed_name(o.name): logits_cotangent(o, values, cotangents[o.name]) for o in outputs}
        ours = self.engine.linear(feeds, seeds, [t.value for t in roots])
        theirs = next(iter(answers), None)
        return [ours[t.value] for t in roots], None if theirs is None else [theirs[t.name] for t in roots]

    def _stages(self, whole: Difference) -> dict[str, float]:
        """Each layer's derivative with respect to the layers before it, from the framework's values of those."""
        best: dict[str, Difference] = {}
        waiting = self._neighbours()
        for trial in range(TRIALS):
            feeds = self._drawn(trial)
            values = self.source.reference.run(feeds)
            rng = np.random.default_rng([trial, 2])
            cotangents = [_normal(rng, values[layer.name]) for layer, _ in waiting]
            requests = [({layer.name: c}, [p.name for p in ps]) for c, (layer, ps) in zip(cotangents, waiting, strict=True)]
            answers = self.source.reference.gradients(feeds, requests)
            for (layer, parents), cotangent, theirs in zip(waiting, cotangents, answers, strict=True):
                given = {p.value: values[p.name] for p in parents if isinstance(p, Layer)}
                ours = self.engine.linear(
                    {**feeds, **given}, {grad_name(layer.value): cotangent}, [p.value for p in parents]
                )
                found = Difference.between(
                    _flat([ours[p.value] for p in parents]), _flat([theirs[p.name] for p in parents])
                )
                best[layer.name] = min(best.get(layer.name, found), found, key=lambda d: d.largest)
            waiting = [(layer, ps) for layer, ps in waiting if not best[layer.name].passes_everywhere(half=_is_half(layer))]
            if not waiting:
                break
        if waiting:
            layer, parents = waiting[0]
            raise CheckFailedError(
                f"{self._gradient_differs(whole)}. The derivative of layer {layer.name!r} ({layer.type}, {layer.operator}) "
                f"with respect to {', '.join(repr(p.name) for p in parents)} is the first that differs: by "
                f"{best[layer.name].largest:.1e} of its largest entry (bar {EVERYWHERE:.0e}). {_NOT_WRITTEN}"
            )
        if whole.cosine < COSINE:
            raise CheckFailedError(f"{self._gradient_differs(whole)}, though that of every single layer is. {_NOT_WRITTEN}")
        return {name: found.largest for name, found in best.items()}

    def _gradient_differs(self, found: Difference) -> str:
        return (
            f"the gradient in the converted file is not the {self.source.framework} model's: the median difference is "
            f"{found.median:.1e} of the largest entry (bar {MEDIAN:.0e}), the cosine {found.cosine:.6f} (bar {COSINE})"
        )

    def _neighbours(self) -> list[tuple[Layer, list[Tensor]]]:
        """Each layer with a gradient, with the nearest layers and inputs with a gradient that it is computed from."""
        graph = self.engine.graph
        tensors: dict[str, Tensor] = {
            t.value: t for t in (*self.manifest.inputs, *self.manifest.layers) if t.has_gradient
        }
        found = []
        for layer in self.manifest.layers:
            index = graph.producer.get(layer.value)
            if not layer.has_gradient or index is None or graph.nodes[index].op_type == "Identity":
                continue
            parents: dict[str, Tensor] = {}
            stack, seen = list(graph.nodes[index].input), set()
            while stack:
                name = stack.pop()
                if name in tensors:
                    parents[name] = tensors[name]
                elif name not in seen and name in graph.producer:
                    seen.add(name)
                    stack.extend(graph.nodes[graph.producer[name]].input)
            if parents:
                found.append((layer, list(parents.values())))
        return found

    # ----- finite differences -----

    def _finite_differences(self, roots: Sequence[Tensor]) -> dict[str, Any]:
        """Where the source cannot differentiate: the slopes of Σ cotangent · logits, in the file.

        Where the outputs hardly move with the inputs (saturated, or random weights), rounding hides the slope; then each
        layer's slopes with respect to the layers before it are taken.
        """
        outputs = [o for o in self.manifest.outputs if o.has_gradient]
        of = {o.logits: seed_name(o.name) for o in outputs}
        starts = [value for t in roots if isinstance(t, Layer) for value in [t.value]]
        slopes: list[Slope] = []
        for trial in range(SLOPE_TRIALS):
            feeds = self._drawn(trial)
            values = self.engine.forward(feeds, [*of, *starts])
            slopes += self._slopes(trial, feeds, values, roots, of)
        result = {"of": [t.name for t in roots], "inputs": SLOPE_TRIALS, "by": "finite differences"}
        if max(s.blur for s in slopes) < DIRECTIONAL and np.median([s.error for s in slopes]) <= DIRECTIONAL:
            return result | {"max": max(s.error for s in slopes), "median": float(np.median([s.error for s in slopes]))}
        feeds = self._drawn(0)
        values = self.engine.forward(feeds, [t.value for t in self.manifest.layers])
        stages: dict[str, float] = {}
        for layer, parents in self._neighbours():
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
                    f"the gradient in the converted file does not predict how layer {layer.name!r} ({layer.operator}) changes "
                    f"with {', '.join(repr(p.name) for p in parents)}: the median deviation from finite differences is "
                    f"{stages[layer.name]:.1e} (bar {DIRECTIONAL:.0e}). {_NOT_WRITTEN}"
                )
        worst = list(stages.values()) or [0.0]
        return result | {
            "max": max(worst), "median": float(np.median(worst)), "by": "finite differences, stage by stage", "stages": stages,
        }  # fmt: skip

    def _slopes(
        self, trial: int, feeds: Feeds, values: dict[str, Array], parents: Sequence[Tensor], of: Mapping[str, str], *,
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
        cotangents = {name: _normal(rng, values[name]) for name in of}
        if jitter:
            start |= {n: start[n] + _normal(rng, start[n]) * start[n].dtype.type(start[n].std() or 1) for n in fed}
            values = self.engine.forward({**feeds, **{n: start[n] for n in fed}}, list(of))
        given = {name: start[name] for name in fed}
        gradient = self.engine.linear(
            {**feeds, **given}, {of[name]: c for name, c in cotangents.items()}, [p.value for p in parents]
        )

        def score(moved: Mapping[str, Array]) -> float:
            got = self.engine.forward({**feeds, **moved}, list(of))
            return float(sum((c.astype(np.float64) * got[n]).sum() for n, c in cotangents.items()))

        noise = np.finfo(np.float32).eps * float(
            np.sqrt(sum(((c.astype(np.float64) * values[n]) ** 2).sum() for n, c in cotangents.items()))
        )
        halves = [{k: g * rng.integers(0, 2, g.shape) for k, g in gradient.items()} for _ in range(2)]
        return [Slope.along(direction, gradient, start, score, noise) for direction in (gradient, *halves)]


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
        cls, direction: Mapping[str, Array], gradient: Mapping[str, Array], start: Mapping[str, Array],
        score: Callable[[Mapping[str, Array]], float], noise: float,
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


def logits_cotangent(output: Output, values: Mapping[str, Array], cotangent: Array) -> Array:
    """The cotangent of an output, taken back through its softmax or sigmoid to the logits (DESIGN of the file)."""
    y, dy = values[output.value].astype(np.float64), cotangent.astype(np.float64)
    logits = values[output.logits]
    y, dy = y.reshape(logits.shape), dy.reshape(logits.shape)
    axis = output.activation_axis
    if output.activation == "Softmax":
        dy = y * (dy - (dy * y).sum(axis, keepdims=True))
    elif output.activation == "LogSoftmax":
        dy = dy - np.exp(y) * dy.sum(axis, keepdims=True)
    elif output.activation == "Sigmoid":
        dy = dy * y * (1 - y)
    return dy.astype(logits.dtype)


# ----- seeded inputs -----


def recipe(example: Feeds) -> dict[str, Any]:
    """How :func:`drawn` draws: per input its shape without batch, dtype, and mean and deviation, or range."""
    return {
        name: {"shape": list(x.shape[1:]), "dtype": x.dtype.name, **_statistics(x)} for name, x in example.items()
    }


def drawn(example: Feeds, seed: int, batch: int, batched: Collection[str]) -> dict[str, Array]:
    """Inputs like the example: floats normal with its mean and deviation, integers uniform in its range.

    ``batched`` inputs get ``batch`` samples; text and other inputs that cannot be drawn repeat the example's.
    """
    result = {}
    for index, (name, x) in enumerate(example.items()):
        rng, like = np.random.default_rng([seed, index]), _statistics(x)
        shape = (batch, *x.shape[1:]) if name in batched else x.shape
        if "std" in like:
            result[name] = np.asarray(rng.standard_normal(shape) * like["std"] + like["mean"], x.dtype)
        elif "max" in like:
            result[name] = np.asarray(rng.integers(like["min"], like["max"], shape, endpoint=True), x.dtype)
        else:
            result[name] = np.resize(x, shape)
    return result


def _statistics(x: Array) -> dict[str, float | int]:
    if np.issubdtype(x.dtype, np.floating):
        wide = x.astype(np.float64)
        return {"mean": float(wide.mean()), "std": float(wide.std()) or 1.0}
    if x.dtype == bool or np.issubdtype(x.dtype, np.integer):
        return {"min": int(x.min()), "max": int(x.max())}
    return {}


def _batches(example: Feeds) -> tuple[int, int]:
    """Two batch sizes, small where a sample is large."""
    size = max((x[:1].nbytes for x in example.values()), default=0)
    return (1, 2) if size > 2**18 else (2, 3)


def _normal(rng: np.random.Generator, like: Array) -> Array:
    return rng.standard_normal(like.shape).astype(like.dtype)


def _flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in {"float16", "bfloat16"}


__all__ = ["Check", "Difference", "drawn", "logits_cotangent", "recipe"]
