"""onnxviz: the file that was born in PyTorch, and that of the Keras twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import onnxviz as ov
from benchmarks.contestants.base import Absent, Contestant
from benchmarks.subject import Question, Subject


class Onnxviz(Contestant):
    """The file that was born in PyTorch."""

    name = "onnxviz"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.explainer = self.loaded()

    def loaded(self) -> ov.Explainer:
        """The file, opened."""
        setup = self.setup
        return ov.load(self.file(), providers=setup.providers, precision=setup.precision, threads=setup.threads)

    def answer(self, question: Question) -> Callable[[], Any]:
        """One call of the method."""
        options = self._options(question)
        if self.setup.transfer:
            return lambda: self.explainer.explain(question.x, question.method, question.classes, **options).values
        import torch

        bound = self.explainer.bind(question.x, question.method, question.classes, **options)
        x = torch.from_numpy(question.x).to(self.setup.provider)

        def run() -> Any:
            values = bound(x).values
            self.setup.synchronize()
            return values

        return run

    def to_host(self, answer: Any) -> np.ndarray:
        """From the device, where it was left there."""
        return np.asarray(answer if self.setup.transfer else answer.numpy(), np.float32)

    def close(self) -> None:
        """Give back what the sessions hold."""
        self.explainer.close()

    def file(self) -> Path:
        """What is opened."""
        return self.subject.explainable

    def _layer(self) -> str:
        return self.subject.network.layer

    def _options(self, question: Question) -> dict[str, Any]:
        return {
            "grad_cam": {"layer": self._layer()},
            "smooth_grad": {"n_samples": question.samples, "noise": question.noise},
            "integrated_gradients": {"n_steps": question.samples},
        }.get(question.method, {})


class FromKeras(Onnxviz):
    """The file of the Keras twin."""

    name = "onnxviz from Keras"

    def __init__(self, subject: Subject) -> None:
        if subject.network.twin is None:
            raise Absent("there is no twin in Keras")
        super().__init__(subject)

    def answer(self, question: Question) -> Callable[[], Any]:
        """The same with the channels last."""
        return super().answer(channels_last(question))

    def to_host(self, answer: Any) -> np.ndarray:
        """With the channels first."""
        return channels_first(super().to_host(answer), self.subject)

    def file(self) -> Path:
        """What is opened."""
        return self.subject.explainable_twin

    def _layer(self) -> str:
        assert self.subject.network.twin is not None
        return self.subject.network.twin.layer


def channels_last(question: Question) -> Question:
    """The question as Keras takes it."""
    return replace(question, x=np.ascontiguousarray(np.moveaxis(question.x, 1, -1)))


def channels_first(result: np.ndarray, subject: Subject) -> np.ndarray:
    """A result like the input has channels, a map has none."""
    return np.moveaxis(result, -1, 1) if result.ndim == 1 + len(subject.network.shape) else result
