"""What a contestant is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.subject import Question, Setup, Subject


class Absent(Exception):  # noqa: N818 - no error: it says why somebody does not take part
    """A library does not take part, or not with this method or model; the message is the reason."""


class Contestant(ABC):
    """One way to explain a network.

    Args:
        subject: the network; a contestant makes what it needs of it once, before anything is timed.

    Raises:
        Absent: it cannot take part.
    """

    name: ClassVar[str]
    providers: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    explains: ClassVar[bool] = True
    """Whether it answers; if not, its result is not compared."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        if self.setup.provider not in self.providers:
            raise Absent(f"it is not measured on {self.setup.provider}")

    @property
    def setup(self) -> Setup:
        """What holds for all."""
        return self.subject.setup

    @property
    def pid(self) -> int:
        """The process that computes."""
        return os.getpid()

    @abstractmethod
    def answer(self, question: Question) -> Callable[[], Any]:
        """What is timed: computes the answer again at each call, and returns it when it is complete.

        Raises:
            Absent: it has no such method, or not for this model.
        """

    def to_host(self, answer: Any) -> np.ndarray:
        """An answer as an array with its channels first, for the comparison; this is not timed."""
        return np.asarray(answer, np.float32)

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release what would otherwise stay."""
