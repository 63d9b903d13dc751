"""One comparison: the same question to all contestants, their answers compared, then timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.contestants import ALWAYS, Absent, Contestant, enter
from benchmarks.subject import Question, Subject
from onnxviz.benchmark import Effort, interleaved

OURS, FLOOR = ALWAYS
SAME = {"float32": 0.999, "tf32": 0.99, "float16": 0.98}
"""Least correlation of answers that count as equal: at a kink of ReLU two correct programs differ by a whole term."""

Field = dict[str, "Contestant | str"]
"""Contestants by name, or why they are absent."""


@dataclass(frozen=True)
class Row:
    """One network, method, batch size, precision, with or without the transfers.

    Attributes:
        model, method, batch, precision, transfer: what was timed.
        seconds: contestant → its time in each round.
        likenesses: contestant → the least correlation of a sample's answer with ours.
        absent: contestant → why it did not take part.
    """

    model: str
    method: str
    batch: int
    precision: str
    transfer: bool
    seconds: dict[str, list[float]]
    likenesses: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int, str, bool]:
        """What tells rows apart."""
        return self.model, self.method, self.batch, self.precision, self.transfer

    @property
    def differing(self) -> list[str]:
        """Contestants that were left out because they compute something else."""
        return [name for name, reason in self.absent.items() if reason.startswith(DIFFERS)]


DIFFERS = "it computes something else"


@contextmanager
def entered(subject: Subject, names: list[str]) -> Iterator[Field]:
    """The contestants of these names, ready; their sessions and processes end with the context."""
    found: Field = {}
    try:
        for name in names:
            try:
                found[name] = enter(name, subject)
            except Absent as reason:
                found[name] = str(reason)
        yield found
    finally:
        for contestant in found.values():
            if isinstance(contestant, Contestant):
                contestant.close()


def question_for(subject: Subject, floor: Contestant, method: str, batch: int, samples: int) -> Question:
    """About the class on top of each sample."""
    x = Question.input(subject.network.shape, batch)
    chunk = 256 if subject.setup.provider == "cuda" else 32
    question = Question(method, x, np.zeros(batch, np.int64), samples, chunk=chunk)
    logits = floor.to_host(floor.answer(question)())
    return replace(question, classes=logits.argmax(1))


def race(subject: Subject, entrants: Field, question: Question, effort: Effort) -> Row:
    """Compare the answers, then time who gives ours."""
    setup = subject.setup
    row = Row(subject.name, question.method, len(question.x), setup.precision, setup.transfer, {})
    runs = dict(_runs(entrants, question, row.absent))
    _compare(entrants, runs, question, row, SAME[setup.precision])
    row.seconds.update(interleaved({name: run for name, run in runs.items() if name not in row.absent}, effort))
    return row


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The least correlation (Pearson) between samples of two answers, as some libraries shift and scale maps.

    Of constant answers, 1 if they are equal, else 0.
    """
    first, second = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    centred = [x - x.mean(1, keepdims=True) for x in (first, second)]
    lengths = [np.linalg.norm(x, axis=1) for x in centred]
    products, equal = (centred[0] * centred[1]).sum(1), (first == second).all(1)
    length = lengths[0] * lengths[1]
    return float(np.divide(products, length, out=equal.astype(float), where=length > 0).min())


def _runs(entrants: Field, question: Question, absent: dict[str, str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, contestant in entrants.items():
        if isinstance(contestant, str):
            absent[name] = contestant
            continue
        try:
            yield name, contestant.answer(question)
        except Absent as reason:
            absent[name] = str(reason)


def _compare(entrants: Field, runs: Mapping[str, Callable[[], Any]], question: Question, row: Row, bar: float) -> None:
    """Note how like each answer is to ours, and who gives another. Noise is left out: each library draws its own."""
    if question.method == "smooth_grad":
        calm = replace(question, noise=0.0)
        runs = {name: entrants[name].answer(calm) for name in runs}
    ours = entrants[OURS].to_host(runs[OURS]())
    for name, run in runs.items():
        if name != OURS and entrants[name].explains:
            theirs = entrants[name].to_host(run())
            found = likeness(theirs, ours) if theirs.shape == ours.shape else 0.0
            row.likenesses[name] = found
            if not found >= bar:
                row.absent[name] = f"{DIFFERS} (correlation {found:.4f}, bar {bar})"
