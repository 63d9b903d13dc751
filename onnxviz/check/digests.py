"""Digests of what a file computes, stored at conversion, so that it can be verified where it runs, without the model.

Bits differ between machines, so a digest is not a hash: it is a tensor's largest absolute value and its inner products
with seeded vectors, which tell any other tensor apart, and move by no more than rounding does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.bundle import Bundle, read
from onnxviz.check.difference import EVERYWHERE, HALF
from onnxviz.check.draws import normal, redrawn
from onnxviz.engine.core import Engine
from onnxviz.errors import FileFormatError
from onnxviz.manifest import Manifest, Tensor, grad_name, seed_name
from onnxviz.source import BATCH, Array, Feeds

Digest = dict[str, Any]

VECTORS = 2
"""Inner products of a digest: an error that is orthogonal to one is not to another."""
INPUT = 1e-6
"""How far the digests of the redrawn inputs may lie from the stored ones: numpy's generator draws the same numbers."""


@dataclass(frozen=True)
class Verification:
    """How far a file's numbers are from those of its conversion.

    Attributes:
        differences: value or gradient → the difference of its digests, relative to its largest absolute value.
        bars: how far each may differ: as much as at conversion.
        provider: the execution provider that ran.
    """

    differences: Mapping[str, float]
    bars: Mapping[str, float]
    provider: str

    @property
    def failed(self) -> tuple[str, ...]:
        """What differs by more, in the order of computation."""
        return tuple(name for name, difference in self.differences.items() if not difference <= self.bars[name])


def digest(values: Array) -> Digest:
    """Shape, number of infinities and NaN, largest absolute value of the rest, and its inner products."""
    flat = np.asarray(values, np.float64).ravel()
    finite = np.isfinite(flat)
    flat = np.where(finite, flat, 0)
    rng = np.random.default_rng(flat.size)
    root = np.sqrt(flat.size) or 1.0
    products = [float(flat @ rng.uniform(-1, 1, flat.size)) / root for _ in range(VECTORS)]
    return {
        "shape": list(values.shape),
        "not_finite": int((~finite).sum()),
        "largest": float(np.abs(flat).max(initial=0)),
        "products": products,
    }


def difference(got: Digest, expected: Digest) -> float:
    """The largest difference of two digests' numbers, relative to the largest value; infinite where shapes differ."""
    if any(got[key] != expected[key] for key in ("shape", "not_finite")):
        return np.inf
    if len(got["products"]) != len(expected["products"]):
        return np.inf
    pairs = zip([got["largest"], *got["products"]], [expected["largest"], *expected["products"]], strict=True)
    largest = max(abs(a - b) for a, b in pairs)
    return float(largest / expected["largest"]) if expected["largest"] else float(largest)


def digests(engine: Engine, manifest: Manifest, feeds: Feeds) -> dict[str, Digest]:
    """Digests of the inputs, of all values, and of the gradient of seeded logits, by name."""
    tensors: list[Tensor] = [*manifest.layers, *manifest.outputs]
    outputs = [o for o in manifest.outputs if o.has_gradient]
    values = engine.forward(feeds, [*(t.value for t in tensors), *(o.logits for o in outputs)])
    found = {t.name: digest(values[t.value]) for t in tensors}
    if outputs:
        rng = np.random.default_rng(0)
        seeds = {seed_name(o.name): normal(rng, values[o.logits]) for o in outputs}
        roots = roots_of(manifest)
        gradients = engine.linear(feeds, seeds, [t.value for t in roots])
        found |= {grad_name(t.name): digest(gradients[t.value]) for t in roots}
    return found


def roots_of(manifest: Manifest) -> list[Tensor]:
    """What the gradient is compared at: the inputs that have one, else the first layer that has."""
    inputs: list[Tensor] = [t for t in manifest.inputs if t.has_gradient]
    layers: list[Tensor] = [t for t in manifest.layers if t.has_gradient]
    return inputs or layers[:1]


def stored(engine: Engine, manifest: Manifest, feeds: Feeds, batch: int) -> dict[str, Any]:
    """What the metadata keep for :func:`verify`; ``feeds`` were drawn with seed 0."""
    return {
        "batch": batch,
        "inputs": {name: digest(x) for name, x in feeds.items() if x.dtype.kind in "fiub"},
        "values": digests(engine, manifest, feeds),
    }


def verify(path: str | os.PathLike[str], *, providers: Sequence[str] | str | None = None) -> Verification:
    """Compute an explainable file's values and gradient again, on the seeded input that its metadata describe.

    Args:
        path: of the file.
        providers: as for :func:`onnxviz.load`.

    Raises:
        FileFormatError: the file is no explainable one, holds no digests, or its input cannot be drawn again.
        ProviderError: a provider is not available.
    """
    bundle = read(path)
    manifest = bundle.manifest
    kept, feeds = _inputs(bundle)
    engine = Engine(bundle, providers=providers, max_sessions=4)
    try:
        found = digests(engine, manifest, feeds)
        half = {t.name for t in (*manifest.layers, *manifest.outputs) if t.dtype in {"float16", "bfloat16"}}
        half |= {grad_name(t.name) for t in (*manifest.layers, *manifest.inputs) if t.dtype in {"float16", "bfloat16"}}
        return Verification(
            differences={n: difference(found[n], one) if n in found else np.inf for n, one in kept.items()},
            bars={name: HALF if name in half else EVERYWHERE for name in kept},
            provider=engine.provider,
        )
    finally:
        engine.close()


def _inputs(bundle: Bundle) -> tuple[dict[str, Digest], dict[str, Array]]:
    """The stored digests of values, and the inputs that they were computed on."""
    manifest, residuals = bundle.manifest, bundle.manifest.residuals
    if "digests" not in residuals:
        raise FileFormatError(f"{bundle.path} holds no digests to verify (an older onnxviz wrote it): convert again")
    kept = residuals["digests"]
    batched = [t.name for t in manifest.inputs if t.shape and t.shape[0] == BATCH]
    feeds = redrawn(residuals["recipe"], 0, kept["batch"], batched)
    for tensor in manifest.inputs:
        name = tensor.name
        known = name in feeds and name in kept["inputs"]
        if not known or not difference(digest(feeds[name]), kept["inputs"][name]) <= INPUT:
            raise FileFormatError(
                f"{bundle.path}: input {name!r} cannot be drawn again: it is text, or this numpy ({np.__version__}) "
                "draws other numbers than the one that converted the model"
            )
    return kept["values"], feeds
