"""What each optimisation of the engine brings: the time without it, over the time with all."""

from __future__ import annotations

from typing import Any

import onnxviz as ov
from benchmarks.contestants.ours import Onnxviz
from benchmarks.race import SAME, likeness
from benchmarks.subject import Question, Subject
from onnxviz.benchmark import Effort, interleaved
from onnxviz.engine.optimizations import NAMES


class Without(Onnxviz):
    """onnxviz with some of its optimisations.

    Args:
        subject: the network.
        kept: names of the optimisations.
    """

    def __init__(self, subject: Subject, kept: list[str]) -> None:
        self.kept = kept
        super().__init__(subject)

    def loaded(self) -> ov.Explainer:
        """The file, opened with these optimisations alone."""
        setup = self.setup
        return ov.load(
            self.file(), providers=setup.providers, precision=setup.precision, threads=setup.threads, optimize=self.kept
        )


def variants() -> dict[str, list[str]]:
    """What is compared: all optimisations, all but each one, none."""
    without = {name: [other for other in NAMES if other != name] for name in NAMES}
    return {"all": list(NAMES), **without, "every one": []}


def ablated(subject: Subject, question: Question, effort: Effort) -> dict[str, Any]:
    """Seconds of each variant in each round, by the name of what was left out.

    Raises:
        ArithmeticError: without an optimisation the answer is another.
    """
    entrants = {name: Without(subject, kept) for name, kept in variants().items()}
    runs = {name: entrant.answer(question) for name, entrant in entrants.items()}
    try:
        answers = {name: entrants[name].to_host(run()) for name, run in runs.items()}
        for name, answer in answers.items():
            found = likeness(answer, answers["all"])
            if not found >= SAME[subject.setup.precision]:
                raise ArithmeticError(
                    f"{question.method} of {subject.name} without {name}: another answer (correlation {found:.4f})"
                )
        seconds = interleaved(runs, effort)
    finally:
        for entrant in entrants.values():
            entrant.close()
    return {"model": subject.name, "method": question.method, "batch": len(question.x), "seconds": seconds}
