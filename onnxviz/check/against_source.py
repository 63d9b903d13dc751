"""The check at the end of every conversion: the file is run against the model that it came from.

Layer values must agree to 1e-4 of each layer's largest absolute value on every input. Gradients cannot be held to that
on every input: ReLU, Clip and MaxPool have kinks, and where a value lies within rounding of one, two correct programs
disagree by a whole term. A wrong rule errs everywhere. So the gradient must agree on up to eight seeded inputs in its
median and its direction, and on one of them everywhere; where kinks are so many that this cannot tell, each stage
between neighbouring layers is checked by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.bundle import Bundle, read
from onnxviz.check.difference import COSINE, EVERYWHERE, HALF, MEDIAN, Difference, largest_difference
from onnxviz.check.digests import roots_of, stored
from onnxviz.check.draws import drawn, flat, normal, recipe, two_batches
from onnxviz.check.slopes import NOT_WRITTEN, FiniteDifferences
from onnxviz.check.straight_through import rounds, unrounded
from onnxviz.engine.core import Engine
from onnxviz.engine.session import CPU
from onnxviz.errors import CheckFailedError, OpenSizeError
from onnxviz.manifest import Layer, Manifest, Output, Tensor, grad_name, seed_name
from onnxviz.source import BATCH, Array, Feeds, Source

TRIALS = 8
SMALLER = (1.0, 0.1, 0.01, 0.001)
"""Factors by which inputs are made smaller until their gradient is not zero."""
LARGE = 2**24
"""Bytes of activations per sample from which on few inputs are tried before the stages are."""


class Check:
    """Runs the file at ``path`` against ``source.reference``."""

    def __init__(self, source: Source, manifest: Manifest, path: Path) -> None:
        self.source = source
        self.example = source.example
        """What inputs are drawn like."""
        self.manifest = manifest
        self.bundle = read(path, draft=True)
        self.engine = self._engine(self.bundle)
        self.batches = (manifest.static_batch,) if manifest.static_batch else two_batches(source.example)
        self.batched = [t.name for t in manifest.inputs if t.shape and t.shape[0] == BATCH]
        self.overflowed: dict[str, None] = {}
        """What held infinities or NaN in half precision, in the order in which it was seen."""

    def run(self) -> dict[str, Any]:
        """The residuals for the metadata.

        Raises:
            CheckFailedError: naming the first layer whose values differ, or the gradient.
        """
        try:
            residuals = self._residuals()
            if self.source.resized:
                residuals["resized"] = self._at_another_size()
            residuals["recipe"] = recipe(self.source.example)
            residuals["digests"] = stored(self.engine, self.manifest, self._drawn(0), self.batches[0])
            if self.overflowed:
                self.source.notes.append(f"on the inputs of the check {self._overflow()}")
            return residuals
        finally:
            self.engine.close()

    def _engine(self, bundle: Bundle) -> Engine:
        return Engine(bundle, providers=[CPU], max_sessions=4)

    def _drawn(self, seed: int, batch: int | None = None) -> dict[str, Array]:
        return drawn(self.example, seed, batch or self.batches[0], self.batched)

    def _at_another_size(self) -> dict[str, Any]:
        """The residuals on inputs of another size than the example's.

        Raises:
            OpenSizeError: the file does not pass there.
        """
        self.example = self.source.resized
        try:
            return self._residuals() | {"recipe": recipe(self.example)}
        except CheckFailedError as error:
            raise OpenSizeError(f"it passed the check at the example's size, but not at another: {error}") from error
        finally:
            self.example = self.source.example

    def _residuals(self) -> dict[str, Any]:
        residuals = self._values()
        if any(o.has_gradient for o in self.manifest.outputs):
            residuals["gradient"] = self._gradient()
        return residuals

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
                self._watch(tensor.name, tensor, got[tensor.value], expected[tensor.name])
                error = largest_difference(got[tensor.value], expected[tensor.name])
                table = layers if isinstance(tensor, Layer) else outputs
                table[tensor.name] = max(table.get(tensor.name, 0.0), error)
                if not error <= (HALF if _is_half(tensor) else EVERYWHERE):
                    kind = (
                        f"layer {tensor.name!r} ({tensor.type})"
                        if isinstance(tensor, Layer)
                        else f"output {tensor.name!r}"
                    )
                    raise CheckFailedError(
                        f"the converted file computes something else than the {self.source.framework} model: {kind} is "
                        f"the first that differs, by {error:.1e} of its largest absolute value (the bar is "
                        f"{EVERYWHERE:.0e}) on inputs of shape { {n: list(x.shape) for n, x in feeds.items()} }. "
                        f"Nothing was written. If the model is random at inference (dropout that stays on, sampling), "
                        f"make it deterministic; if not, this is a bug in the export"
                        f"{self._perhaps_overflow()}"
                    )
        return {"outputs": outputs, "layers": layers}

    # ----- gradient -----

    def _gradient(self) -> dict[str, Any]:
        roots = roots_of(self.manifest)
        half = any(_is_half(t) for t in roots)
        tried: list[Difference] = []
        for trial in range(self._trials()):
            found = self._difference(trial, roots)
            if found is None:
                return self._slopes(roots)
            tried.append(found)
            if tried[-1].passes_everywhere(half=half) or not tried[-1].passes_mostly(half=half):
                break
        best = min(tried, key=lambda d: d.largest)
        result = {
            "of": [t.name for t in roots], "max": best.largest, "median": max(d.median for d in tried),
            "cosine": min(d.cosine for d in tried), "inputs": len(tried), "by": "autograd",
        }  # fmt: skip
        if not (best.passes_everywhere(half=half) and all(d.passes_mostly(half=half) for d in tried)):
            stages = self._stages(best)
            # The stages say nothing of how they are added up where paths meet: one input free of late kinks does.
            further = (self._difference(trial, roots) for trial in range(len(tried), TRIALS))
            for found in chain(tried, further):
                if found is not None and found.cosine >= COSINE:
                    break
            else:
                raise CheckFailedError(
                    f"{self._gradient_differs(best)}, though that of every single layer is"
                    f"{self._perhaps_overflow()}. {NOT_WRITTEN}"
                )
            result |= {"by": "autograd, stage by stage", "stages": stages}
        return result

    def _slopes(self, roots: Sequence[Tensor]) -> dict[str, Any]:
        """The comparison with finite differences; of a quantised network, with those of what it rounds."""
        quantised = rounds(self.bundle)
        engine = self._engine(unrounded(self.bundle)) if quantised else self.engine
        result = FiniteDifferences(engine, self.manifest, self._drawn, self._neighbours()).run(roots)
        if quantised:
            engine.close()
            result["by"] += ", rounding left out"
        return result

    def _difference(self, trial: int, roots: Sequence[Tensor]) -> Difference | None:
        """How far the file's gradient is from the source's on a seeded input; None if the source has none.

        Where the source's is zero throughout (a softmax that is sure of itself), smaller inputs tell more.
        """
        feeds = self._drawn(trial)
        for factor in SMALLER:
            moved = {n: x * x.dtype.type(factor) if x.dtype.kind == "f" and x.ndim else x for n, x in feeds.items()}
            got, expected = self._both_gradients(moved, trial, roots)
            if expected is None:
                return None
            found = Difference.between(flat(got), flat(expected))
            if any(np.any(e) for e in expected):
                break
        return found

    def _trials(self) -> int:
        """Fewer inputs for large networks: among millions of activations some always lie at a kink."""
        return TRIALS if self.manifest.activation_bytes < LARGE else 2

    def _both_gradients(
        self, feeds: Feeds, trial: int, roots: Sequence[Tensor]
    ) -> tuple[list[Array], list[Array] | None]:
        outputs = [o for o in self.manifest.outputs if o.has_gradient]
        values = self.engine.forward(feeds, [n for o in outputs for n in (o.value, o.logits)])
        rng = np.random.default_rng([trial, 1])
        cotangents = {o.name: normal(rng, values[o.value]) for o in outputs}
        answers = self.source.reference.gradients(feeds, [(cotangents, [t.name for t in roots])])
        seeds = {seed_name(o.name): logits_cotangent(o, values, cotangents[o.name]) for o in outputs}
        ours = self.engine.linear(feeds, seeds, [t.value for t in roots])
        theirs = next(iter(answers), None)
        for t in roots:
            self._watch(grad_name(t.name), t, ours[t.value], *([] if theirs is None else [theirs[t.name]]))
        return [ours[t.value] for t in roots], None if theirs is None else [theirs[t.name] for t in roots]

    # ----- overflow -----

    def _watch(self, name: str, tensor: Tensor, *values: Array) -> None:
        """Remember a tensor of half precision of which the file or the source has values that are not finite."""
        if _is_half(tensor) and not all(np.isfinite(v).all() for v in values):
            self.overflowed[name] = None

    def _overflow(self) -> str:
        first, *more = self.overflowed
        others = f" (and {len(more)} more)" if more else ""
        return f"{first!r}{others} holds infinities or NaN: float16 ends at 65504"

    def _perhaps_overflow(self) -> str:
        return f". {self._overflow()}; convert the model in float32" if self.overflowed else ""

    # ----- stage by stage -----

    def _stages(self, whole: Difference) -> dict[str, float]:
        """Each layer's derivative with respect to the layers before it, from the framework's values of those."""
        best: dict[str, Difference] = {}
        waiting = self._neighbours()
        for trial in range(TRIALS):
            feeds = self._drawn(trial)
            values = self.source.reference.run(feeds)
            rng = np.random.default_rng([trial, 2])
            cotangents = [normal(rng, values[layer.name]) for layer, _ in waiting]
            requests = [
                ({layer.name: c}, [p.name for p in ps]) for c, (layer, ps) in zip(cotangents, waiting, strict=True)
            ]
            answers = self.source.reference.gradients(feeds, requests)
            for (layer, parents), cotangent, theirs in zip(waiting, cotangents, answers, strict=True):
                given = {p.value: values[p.name] for p in parents if isinstance(p, Layer)}
                ours = self.engine.linear(
                    {**feeds, **given}, {grad_name(layer.value): cotangent}, [p.value for p in parents]
                )
                found = Difference.between(
                    flat([ours[p.value] for p in parents]), flat([theirs[p.name] for p in parents])
                )
                best[layer.name] = min(best.get(layer.name, found), found, key=lambda d: d.largest)
            waiting = [
                (layer, ps) for layer, ps in waiting if not best[layer.name].passes_everywhere(half=_is_half(layer))
            ]
            if not waiting:
                break
        if waiting:
            layer, parents = waiting[0]
            raise CheckFailedError(
                f"{self._gradient_differs(whole)}. The derivative of layer {layer.name!r} ({layer.type}, "
                f"{layer.operator}) with respect to {', '.join(repr(p.name) for p in parents)} is the first that "
                f"differs: by {best[layer.name].largest:.1e} of its largest entry (bar {EVERYWHERE:.0e})"
                f"{self._perhaps_overflow()}. {NOT_WRITTEN}"
            )
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


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in {"float16", "bfloat16"}
