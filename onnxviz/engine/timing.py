"""How long the answers take."""

from __future__ import annotations

from functools import partial
from typing import Any

from onnxviz.algorithms.question import Question
from onnxviz.algorithms.registry import explain_by_name
from onnxviz.benchmark import Benchmark, Effort, measured
from onnxviz.engine.answers import Answers
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.targets import Of


class Timing(Answers):
    """The methods of :class:`~onnxviz.Explainer` that time others."""

    def benchmark(
        self,
        x: Any,
        method: str = "saliency",
        target: Any = None,
        *,
        seconds: float = 5.0,
        of: Of = "logits",
        output: str | None = None,
        **options: Any,
    ) -> Benchmark:
        """How long a method takes on this input, here and now: medians, quartiles, images per second.

        Explanation and forward pass (:meth:`predict`) take turns, each warmed up, so that what slows the machine down
        slows both. Print the result.

        Args:
            x: the batch, as the methods take it.
            method: its name.
            target: see :class:`~onnxviz.Explainer`.
            seconds: how long; at least five rounds are taken, and at most a hundred.
            of: ``"logits"`` or ``"probability"``.
            output: where the model has several.
            **options: of the method.

        Raises:
            OptionError: an unknown method or option, or no time.
            InputError, TargetError, LayerError: as the method itself.
        """
        effort = Effort(seconds)
        question = Question(self._engine, x, target, output, of)
        _, batch = as_feeds(x, self._bundle.manifest)
        explain = partial(explain_by_name, question, method, options)
        return measured(explain, partial(self.predict, x), effort, method=method, batch=batch)
