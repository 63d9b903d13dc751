"""What the steps of a gradient ascent are scaled by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from onnxviz.algorithms.canvas import Add, Canvas
from onnxviz.errors import OptionError
from onnxviz.source import Array

Optimizer = Literal["normalized", "plain", "rmsprop", "adam"]

MEAN, SQUARE = "ascent/mean", "ascent/square"
RATE, CORRECTIONS = "step/rate", "step/corrections"
MOMENTS: Mapping[str, tuple[str, ...]] = {
    "normalized": (), "plain": (), "rmsprop": (SQUARE,), "adam": (MEAN, SQUARE),
}  # fmt: skip
"""The running means that each optimiser keeps, (N, …) float64: squares of gradients leave the range of float32."""

DECAY, BETAS = 0.9, (0.9, 0.999)


@dataclass(frozen=True)
class Rule:
    """How a gradient becomes a step, ``learning_rate`` times the

    * ``"normalized"`` gradient divided by its root mean square over each image;
    * ``"plain"`` gradient;
    * ``"rmsprop"`` gradient divided by the root of its running mean square (Hinton 2012), decay 0.9;
    * ``"adam"`` its running mean divided by that root, β = (0.9, 0.999), corrected for the start (arXiv:1412.6980).

    Raises:
        OptionError: an unknown name, or a learning rate that is no positive number.
    """

    name: str
    learning_rate: float

    def __post_init__(self) -> None:
        if self.name not in MOMENTS:
            raise OptionError(f"optimizer={self.name!r}: expected 'normalized', 'plain', 'rmsprop' or 'adam'")
        if not isinstance(self.learning_rate, int | float) or not 0 < self.learning_rate < np.inf:
            raise OptionError(f"learning_rate={self.learning_rate!r}: expected a positive number")

    @property
    def moments(self) -> tuple[str, ...]:
        """The names of the running means."""
        return MOMENTS[self.name]

    def fed(self, step: int) -> dict[str, Array]:
        """What the nodes are fed at a step, counted from 1."""
        corrections = {CORRECTIONS: np.array([1 - beta**step for beta in BETAS])} if self.name == "adam" else {}
        return {RATE: np.array(self.learning_rate, np.float64), **corrections}

    def move(self, add: Add, gradient: str, canvas: Canvas) -> tuple[str, dict[str, str]]:
        """Append what is added to the numbers, and the running means after this step."""
        wide = add("Cast", gradient, to=TensorProto.DOUBLE)
        moments: dict[str, str] = {}
        if self.name == "normalized":
            mean = add("ReduceMean", add("Mul", wide, wide), np.arange(1, len(canvas.order)), keepdims=1)
            wide = _over(add, wide, add("Sqrt", mean))
        elif self.name == "rmsprop":
            moments[SQUARE] = _running(add, SQUARE, add("Mul", wide, wide), DECAY)
            wide = _over(add, wide, add("Sqrt", moments[SQUARE]))
        elif self.name == "adam":
            moments[MEAN] = _running(add, MEAN, wide, BETAS[0])
            moments[SQUARE] = _running(add, SQUARE, add("Mul", wide, wide), BETAS[1])
            mean, square = (
                add("Div", moments[name], add("Gather", CORRECTIONS, np.array(i))) for i, name in enumerate(moments)
            )
            wide = _over(add, mean, add("Sqrt", square))
        return add("Cast", add("Mul", RATE, wide), to=TensorProto.FLOAT), moments


def _running(add: Add, mean: str, value: str, decay: float) -> str:
    return add("Add", add("Mul", mean, np.array(decay)), add("Mul", value, np.array(1 - decay)))


def _over(add: Add, values: str, scale: str) -> str:
    """Values divided by a scale; 0 where it is 0."""
    none = np.array(0.0)
    return add("Where", add("Greater", scale, none), add("Div", values, scale), none)
