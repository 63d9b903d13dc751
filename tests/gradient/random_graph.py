"""A graph that grows step by step, in ONNX's text and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch


@dataclass
class Graph:
    """Statements in ONNX text, and the same in PyTorch; shapes are those of one sample."""

    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    steps: list[tuple[str, Callable, tuple[str, ...]]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def input(self, shape: tuple[int, ...]) -> None:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.shapes[name] = shape

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def numbers(self, *numbers: int) -> str:
        """A list of integers, which PyTorch is told in another way."""
        return self.constant(np.array(numbers, np.int64))

    def weights(self, *shape: int) -> str:
        rng = np.random.default_rng(len(self.constants))
        return self.constant(rng.standard_normal(shape).astype(np.float32) / max(prod(shape[1:]), 1) ** 0.5)

    def add(self, text: str, function: Callable, *operands: str) -> str:
        """A step; in the text, {0} is the first operand."""
        name = f"v{len(self.steps)}"
        self.statements.append(f"{name} = {text.format(*operands)}")
        self.steps.append((name, function, operands))
        examples = [
            torch.tensor(self.constants[each]) if each in self.constants else torch.ones(2, *self.shapes[each])
            for each in operands
        ]
        self.shapes[name] = tuple(function(*examples).shape[1:])
        return name

    def in_torch(self, xs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        like = next(iter(xs.values()))
        values = xs | {name: torch.tensor(array).to(like.dtype) for name, array in self.constants.items()}
        for name, function, operands in self.steps:
            values[name] = function(*(values[each] for each in operands))
        return values
