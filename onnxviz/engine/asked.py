"""What is asked of the engine, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxviz.engine.cut import Sketch
from onnxviz.engine.overlays import Changes
from onnxviz.engine.targets import Of, Target, resolve
from onnxviz.manifest import Output, grad_name
from onnxviz.source import Array

RESULT, WEIGHTS = "head/result", "head/weights"
"""Names in a cut graph: of a head's result, and of the weights of samples that the caller feeds."""


@dataclass(frozen=True)
class Head:
    """What is computed from tensors of the graph, in the graph, so that only its result leaves the device.

    Attributes:
        key: tells heads apart; equal keys share a session.
        reads: values of the graph (layers, gradients) that it is computed from.
        build: appends nodes to the sketch and returns the name of the result, batch on axis 0.
    """

    key: Hashable
    reads: tuple[str, ...]
    build: Callable[[Sketch], str]

    @property
    def at(self) -> str:
        """The value towards which the gradient goes that is read."""
        return self.reads[-1].removeprefix(grad_name(""))

    def weighted(self) -> Head:
        """The head that gives sums of its results over the samples, by the weights (R, N) that the caller feeds."""

        def build(sketch: Sketch) -> str:
            result = self.build(sketch)
            weights = sketch.input(WEIGHTS, onnx.TensorProto.FLOAT, None)
            flat = sketch.add("Cast", sketch.add("Flatten", result, axis=1), to=onnx.TensorProto.FLOAT)
            first, rest = sketch.add("Shape", weights, end=1), sketch.add("Shape", result, start=1)
            shape = sketch.add("Concat", first, rest, axis=0)
            return sketch.add("Reshape", sketch.add("MatMul", weights, flat), shape)

        return Head((self.key, WEIGHTS), self.reads, build)


@dataclass(frozen=True)
class Attribution:
    """What one question about one target gave: values with batch on axis 0, the target, its score, what was changed."""

    values: Array
    target: Array | None
    score: Array
    changes: Changes


@dataclass(frozen=True)
class Asked:
    """A question about one target, with its head."""

    target: Target
    head: Head
    output: Output
    of: Of
    overlay: str | None

    @classmethod
    def of_user(cls, target: Any, batch: int, head: Head, output: Output, of: Of, overlay: str | None) -> Asked:
        """With the target as users give it, or one that is definite already."""
        if not isinstance(target, Target):
            target = resolve(target, output, batch, np.dtype(output.dtype))
        return cls(target, head, output, of, overlay)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Equal for questions that one session answers."""
        return self.head.key, self.head.reads, self.output.name, self.of, self.overlay
