"""What all methods share: the checked input and target, and the way from an engine's answer to an Explanation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxviz.engine.asked import Attribution, Head
from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Sketch
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.overlays import Changes, counted
from onnxviz.engine.targets import Of, Target, by_index, choose_output, resolve
from onnxviz.errors import LayerError
from onnxviz.explanation import Explanation
from onnxviz.image import ImageInput
from onnxviz.manifest import Input, Layer, Manifest, Output, Tensor, grad_name
from onnxviz.source import Array

MOST_SHOWN = 5
"""Samples that a note names."""
SATURATED = 0.9999
"""Probabilities above this are told of: the softmax multiplies the gradient by p·(1 − p), less than 1e-4."""
OUTSIDE, FLAT = 0.5, 0.02
"""An input is told of that goes beyond the range of prepared pictures by this part of it, or fills less than that part:
0 … 255 where 0 … 1 is expected, or the other way round. Noise and other baselines stay within the first."""


@dataclass(frozen=True)
class Question:
    """One call of a method: an input and a target on an engine.

    Attributes:
        engine: of the file.
        x: input as the user passed it.
        target: see :meth:`onnxviz.Explainer.gradient`; names of classes become indices.
        output: the name of the output, where the model has several with a gradient.
        of: ``"logits"`` or ``"probability"``.
    """

    engine: Engine
    x: Any
    target: Any
    output: str | None
    of: Of

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", by_index(self.target, self.engine.bundle.manifest.classes))

    def about(self, target: Any) -> Question:
        """The same question about another target."""
        return replace(self, target=target)

    def settled(self, moved: Mapping[str, Array] | None = None) -> tuple[Target, Attribution]:
        """The target of each sample made definite, and its scores; ``values`` of the answer are the logits.

        Args:
            moved: inputs that take the place of those of the question.
        """
        feeds, batch = as_feeds(self.x, self.engine.bundle.manifest)
        output = self.chosen
        answer = self.engine.settle({**feeds, **(moved or {})}, batch, self.target, output, self.of)
        if isinstance(self.target, Target):
            return self.target, answer
        resolved = resolve(self.target, output, batch, np.dtype(output.dtype))
        if resolved.seeds is None:  # the class on top; of a single unit the sign of its decision
            single = answer.values.ndim < 2 or answer.values.shape[output.logits_axes.channel or 0] == 1
            definite = np.sign(answer.values) if single else answer.target
            resolved = resolve(definite, output, batch, np.dtype(output.dtype))
        seeds = [np.broadcast_to(seed, (batch, *seed.shape[1:])) for seed in resolved.seeds or []]
        return replace(resolved, seeds=seeds, given=answer.target), answer

    @property
    def layers(self) -> LayerTable:
        """The file's layers."""
        return LayerTable(self.engine.bundle.manifest.layers)

    def input(self) -> Input:
        """The input that gradients are taken of: the first that has one."""
        for tensor in self.engine.bundle.manifest.inputs:
            if tensor.has_gradient:
                return tensor
        if not any(t.has_gradient for t in self.layers):
            raise LayerError("this file contains no gradients: convert the model with gradient=True")
        raise LayerError(
            "no input of this model has a gradient (its inputs are integers, or the file was converted without). "
            f"Explain a layer instead, layer={next((t.name for t in self.layers if t.has_gradient), '…')!r}"
        )

    def where(self, layer: str | int | None) -> Tensor:
        """The input, or the named layer, which must have a gradient."""
        return self.input() if layer is None else self.layers.explainable(layer)

    def ask(
        self,
        method: str,
        head: Callable[[Sketch, str], str],
        *,
        at: Tensor,
        axes: tuple[str | None, ...],
        key: Hashable = (),
        options: Mapping[str, Any] | None = None,
        overlay: str | None = None,
        batch_axis: int = 0,
        also: tuple[str, ...] = (),
    ) -> Explanation:
        """Ask the engine.

        Args:
            method: its name, for the result.
            head: from a sketch and the name of the gradient at ``at`` to the name of the result.
            at: input or layer whose gradient is read.
            axes: the roles of the result's axes for one target.
            key: tells heads of one method apart.
            options: for the result.
            overlay: how the backward pass is rewritten, see :mod:`onnxviz.engine.overlays`.
            batch_axis: which axis of the result is the batch.
            also: further values that the head reads.

        Raises:
            LayerError: the overlay finds nothing to rewrite.
        """
        feeds, batch = as_feeds(self.x, self.engine.bundle.manifest)
        gradient = grad_name(at.value)
        reads = (*also, *((at.value, gradient) if isinstance(at, Layer) else (gradient,)))
        answer = self.engine.attribute(
            feeds, batch, self.target, Head((method, at.value, key), reads, lambda sketch: head(sketch, gradient)),
            output=self.chosen, of=self.of, overlay=overlay, batch_axis=batch_axis,
        )  # fmt: skip
        details = {**(options or {}), **({"rewritten": answer.changes.rewritten} if overlay else {})}
        return self.explanation(method, answer, at=at, axes=axes, options=details)

    @property
    def chosen(self) -> Output:
        """The output that is explained."""
        return choose_output(self.engine.bundle.manifest, self.output)

    def explanation(
        self,
        method: str,
        answer: Attribution,
        *,
        at: Tensor,
        axes: tuple[str | None, ...],
        options: Mapping[str, Any],
    ) -> Explanation:
        """An answer with what it is an answer to; ``axes`` are those of one target."""
        manifest = self.engine.bundle.manifest
        several = answer.values.ndim > len(axes)
        return Explanation(
            values=answer.values,
            axes=(axes[0], "target", *axes[1:]) if several else axes,
            method=method,
            target=answer.target,
            score=answer.score,
            layer=at.name if isinstance(at, Layer) else None,
            options={"of": self.of, "output": self.chosen.name, "precision": self.engine.precision, **options},
            provider=self.engine.provider,
            class_names=manifest.classes,
            notes=(
                *manifest.caveats,
                *_notes_on_input(self.x, manifest),
                *_notes_on_layer(at, axes),
                *_notes_on_score(answer, self.chosen, self.of),
                *_notes(answer.changes, answer.values, axes),
            ),
        )


def _notes_on_input(x: Any, manifest: Manifest) -> tuple[str, ...]:
    """Pictures given as numbers that are not as the file says pictures are prepared."""
    described = [tensor for tensor in manifest.inputs if tensor.image is not None]
    if not described:
        return ()
    feeds, notes = as_feeds(x, manifest)[0], []
    for tensor in described:
        low, high = ImageInput.from_dict(tensor.image or {}).range
        least, most = float(feeds[tensor.name].min()), float(feeds[tensor.name].max())
        outside = max(low - least, most - high) > OUTSIDE * (high - low)
        if outside or 0 < most - least < FLAT * (high - low):
            notes.append(
                f"input {tensor.name!r} holds {least:.4g} … {most:.4g}, and pictures prepared as this file says hold "
                f"{low:.4g} … {high:.4g}: is it scaled and centred so? ex.read_image does that"
            )
    return tuple(notes)


def _notes_on_layer(at: Tensor, axes: tuple[str | None, ...]) -> tuple[str, ...]:
    """Maps of a layer behind global pooling."""
    collapsed = bool(at.axes.spatial) and all(at.shape[axis] == 1 for axis in at.axes.spatial)
    if not collapsed or not isinstance(at, Layer) or "channel" in axes:
        return ()
    return (
        f"layer {at.name!r} has one place in space, so the map is the same everywhere: take a layer before pooling",
    )


def _notes_on_score(answer: Attribution, output: Output, of: Of) -> tuple[str, ...]:
    """Probabilities so near to 1 that nothing moves them."""
    one_class = answer.target is not None and answer.target.dtype.kind in "iu" and len(output.logits_shape) <= 2
    if of != "probability" or not one_class:
        return ()
    saturated = (answer.score > SATURATED).reshape(len(answer.score), -1).any(1)
    if not saturated.any():
        return ()
    note = (
        f"the probability is above {SATURATED} for sample {_shown(np.flatnonzero(saturated))}: saturated, so that its "
        "gradient is almost 0 and small changes of the input hardly show; of='logits' (the default) looks before that"
    )
    return (note,)


def _shown(samples: Sequence[int] | Array) -> str:
    """``"0, 2, 3"``, the first few."""
    return ", ".join(map(str, samples[:MOST_SHOWN])) + (", …" if len(samples) > MOST_SHOWN else "")


def _notes(changes: Changes, values: Array, axes: tuple[str | None, ...]) -> tuple[str, ...]:
    """What must be known of the rewrite and of the numbers to read the result."""
    notes = [f"no rectifiers, so with their plain derivative: {counted(changes.kept)}"] if changes.kept else []
    if not np.isfinite(values).all():
        notes.append("holds infinities or NaN: numbers left the range of the model's type, or a derivative has none")
    samples = np.moveaxis(values, axes.index("batch"), 0) if "batch" in axes else values[None]
    if silent := [i for i, sample in enumerate(samples) if not sample.any()]:
        notes.append(
            f"0 everywhere for sample {_shown(silent)}: on the way back to here all rectifiers are off, the score is "
            f"saturated, or nothing speaks for the target"
        )
    return tuple(notes)


def roles(tensor: Tensor) -> tuple[str | None, ...]:
    """The role of each axis of a tensor, by name."""
    axes = tensor.axes
    named: dict[int | None, str] = {
        axes.batch: "batch",
        axes.channel: "channel",
        **dict.fromkeys(axes.spatial, "spatial"),
    }
    return tuple(named.get(i) for i in range(len(tensor.shape)))


def spatial_size(sketch: Sketch, tensor: Tensor) -> Array | str:
    """The sizes of the spatial axes: as numbers where they are fixed, else as the sketch computes them."""
    sizes = [tensor.shape[i] for i in tensor.axes.spatial]
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, np.int64)
    return sketch.add("Gather", sketch.add("Shape", tensor.value), np.array(tensor.axes.spatial, np.int64))
