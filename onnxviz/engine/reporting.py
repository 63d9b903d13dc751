"""What the network says of inputs, as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnxviz.engine.answers import Answers
from onnxviz.engine.methods import Methods
from onnxviz.engine.targets import Of

if TYPE_CHECKING:
    from onnxviz.report import Report


class Reporting(Methods, Answers):
    """The methods of :class:`~onnxviz.Explainer` that show others."""

    def report(
        self,
        inputs: Any,
        path: str | os.PathLike[str],
        methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
        target: Any = None,
        *,
        k: int = 3,
        names: Sequence[str] | None = None,
        percentile: float | None = 99,
        of: Of = "logits",
        output: str | None = None,
    ) -> Report:
        """One self-contained HTML file: each input with its most probable classes and maps to choose from, the model.

        A slider leads from the input to the map, and class, method and colours are chosen on the page. Below stand the
        model card, the layers, what the check at conversion measured, and versions. The page fetches nothing and runs
        no script but its own, whatever classes and files are called. For pictures (1 or 3 channels) and series.

        Args:
            inputs: as ``x`` (see :class:`~onnxviz.Explainer`), of models with one input: pictures, or arrays (N, …);
                also a list of such, which are read one by one.
            path: of the page, such as ``"report.html"``.
            methods: names, or name → options, such as ``{"grad_cam": {"layer": ["conv3", "conv5"]}}``. None is
                Grad-CAM, integrated gradients, guided backprop and saliency; the page says which have no answer.
            target: see :class:`~onnxviz.Explainer`; None is the ``k`` most probable classes of each input.
            k: how many. Each costs a map of every method, about 10 to 60 kB of the page.
            names: of the inputs, on the page; None is the names of files.
            percentile: of a map's absolute values, where its colours end: a few extreme values then do not darken the
                rest. The page tells both ends; None is the largest value.
            of: see :class:`~onnxviz.Explainer`.
            output: see :class:`~onnxviz.Explainer`.

        Returns:
            Where the page lies, its size in bytes, the inputs and methods on it.

        Raises:
            InputError: no inputs, not what the model takes, or neither pictures nor series.
            OptionError: an impossible option, or not a name for each input.
            TargetError, LayerError: as the methods.
            FileFormatError: there is no folder for the page.
        """
        from onnxviz.report import report

        return report(
            self, inputs, path, methods, target, k=k, names=names, percentile=percentile, of=of, output=output
        )
