"""What the network says of one input, and the maps of it: as what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxviz.algorithms.registry import METHODS
from onnxviz.engine.targets import Of, choose_output
from onnxviz.errors import InputError, LayerError, OptionError, TargetError
from onnxviz.explanation import Explanation
from onnxviz.report.encoding import colour_map
from onnxviz.report.samples import Sample, spatial_rank

if TYPE_CHECKING:
    from onnxviz.engine.reporting import Reporting

USUAL = ("grad_cam", "integrated_gradients", "guided_backprop", "saliency")
"""What is shown unless methods are named: one of a layer, one along a path, two of the gradient."""
ROWS = 5
"""How many of the most probable classes are listed at least."""

TITLES = {
    "gradient": "Gradient", "saliency": "Saliency", "input_x_gradient": "Input × gradient",
    "integrated_gradients": "Integrated gradients", "smooth_grad": "SmoothGrad", "guided_backprop": "Guided backprop",
    "deconvnet": "Deconvnet", "grad_cam": "Grad-CAM", "grad_cam_pp": "Grad-CAM++", "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM", "xgrad_cam": "XGrad-CAM", "eigen_cam": "Eigen-CAM", "score_cam": "Score-CAM",
    "guided_grad_cam": "Guided Grad-CAM", "occlusion": "Occlusion", "rise": "RISE",
}  # fmt: skip
"""What the methods are called in the literature."""

Ranking = list[tuple[int, str, float]]


@dataclass(frozen=True)
class Asked:
    """What is asked of every input.

    Attributes:
        methods: name → options; None is :data:`USUAL`, as far as the model has an answer.
        target: as :class:`onnxviz.Explainer` says; None is the ``k`` most probable classes.
        k: how many.
        of, output: as :class:`onnxviz.Explainer` says.
        percentile: where the colours of a map end; None is its largest value.
    """

    methods: Mapping[str, Mapping[str, Any]] | None = None
    target: Any = None
    k: int = 3
    of: Of = "logits"
    output: str | None = None
    percentile: float | None = 99

    def __post_init__(self) -> None:
        if self.k < 1:
            raise OptionError(f"k={self.k!r}: expected a positive integer")
        if self.percentile is not None and not 0 < self.percentile <= 100:
            raise OptionError(f"percentile lies within 0 … 100, or is None; got {self.percentile!r}")
        if self.methods is not None and not self.methods:
            raise OptionError("methods names at least one method, or is None for the usual ones")
        try:
            np.asarray(self.target)
        except ValueError as error:
            raise TargetError(f"target is ragged: give the same number of targets for each sample; {error}") from error

    def require_all_used(self, count: int) -> None:
        """Raise TargetError where there are targets for more samples than were given."""
        given = np.asarray(self.target)
        if given.dtype.kind in "iu" and given.ndim and len(given) > count and not (given.ndim == 2 and len(given) == 1):
            raise TargetError(f"target has classes for {len(given)} samples, and {count} were given")

    def of_sample(self, number: int, ranking: Ranking) -> Any:
        """The target of one sample: classes (1, T), a weighting, or None."""
        if self.target is None:
            return [[index for index, _, _ in ranking[: self.k]]] if ranking else None
        given = np.asarray(self.target)
        if given.dtype.kind not in "iu":
            return self.target if given.ndim < 2 or len(given) == 1 else given[number : number + 1]
        if given.ndim == 0:
            return [[int(given)]]
        row = 0 if given.ndim == 2 and len(given) == 1 else number
        if row >= len(given):
            raise TargetError(f"target has classes for {len(given)} samples, and more were given")
        return [np.atleast_1d(given[row]).tolist()]


@dataclass
class Answers:
    """Asks for the maps of one sample after the other.

    Attributes:
        left_out: method → why the model has no answer to it, of the usual ones.
    """

    explainer: Reporting
    asked: Asked
    left_out: dict[str, str] = field(default_factory=dict)

    def of(self, sample: Sample, number: int) -> dict[str, Any]:
        """All that the page shows of a sample."""
        ranking = self._ranking(sample)
        results = self._results(sample, self.asked.of_sample(number, ranking))
        return {
            "name": sample.name or f"Input {number + 1}",
            **sample.drawing,
            "notes": list(sample.notes),
            "classes": self._classes(ranking, results),
            "methods": [self._shown(result) for result in results],
        }

    def _ranking(self, sample: Sample) -> Ranking:
        """All classes, the most probable first; empty where the output is no list of classes."""
        manifest = self.explainer.engine.bundle.manifest
        chosen = choose_output(manifest, self.asked.output)
        if len(chosen.logits_shape) != 2:
            return []
        count = chosen.logits_shape[1]
        ranking = self.explainer.top(sample.x, count if isinstance(count, int) else ROWS, output=self.asked.output)[0]
        return [(index, self._named(index), probability) for index, _, probability in ranking]

    def _results(self, sample: Sample, target: Any) -> list[Explanation]:
        results: list[Explanation] = []
        for method, options in (self.asked.methods or {name: {} for name in USUAL}).items():
            try:
                found = self.explainer.explain(
                    sample.x, method, target, of=self.asked.of, output=self.asked.output, **options
                )
            except LayerError as error:
                if self.asked.methods is not None:
                    raise
                self.left_out[method] = str(error)
                continue
            results += found if isinstance(found, list) else [found]
        if not results:
            raise LayerError(f"none of the usual methods has an answer: {next(iter(self.left_out.values()))}")
        return results

    def _classes(self, ranking: Ranking, results: Sequence[Explanation]) -> list[dict[str, Any]]:
        """The most probable classes, and those that are explained: ``map`` says which of the maps is theirs."""
        targets = [np.asarray(r.target) for r in results if r.target is not None]
        classes = [np.ravel(one) for one in targets if one.dtype.kind in "iu" and one.ndim <= 2]
        explained: list[int] = classes[0].tolist() if classes else []
        listed = ranking[: max(ROWS, self.asked.k)] + [row for row in ranking if row[0] in explained]
        rows = [
            {
                "name": name,
                "probability": _finite(probability),
                "map": explained.index(index) if index in explained else None,
            }
            for index, name, probability in dict.fromkeys(listed)
        ]
        if any(row["map"] is not None for row in rows):
            return rows
        names = [self._named(index) for index in explained] or ["the weighting that was given"]
        return [{"name": name, "probability": None, "map": i} for i, name in enumerate(names)] + rows

    def _named(self, index: int) -> str:
        classes = self.explainer.classes
        return f"class {index}" if classes is None else classes[index]

    def _shown(self, result: Explanation) -> dict[str, Any]:
        maps, rank = result.maps()[0], spatial_rank(self.explainer.engine.bundle.manifest)
        if maps.ndim - 1 != rank:
            raise InputError(f"{result.method} gives values of shape {result.shape}, which do not lie over the input")
        scores = np.ravel(result.score) if result.score is not None else [None] * len(maps)
        return {
            "name": result.method,
            "title": TITLES[result.method],
            "layer": result.layer,
            "summary": " ".join(METHODS[result.method].summary.split()),
            "options": self._options(result),
            "provider": result.provider,
            "notes": list(result.notes),
            "maps": [
                {**colour_map(one, self.asked.percentile), "score": _finite(score)}
                for one, score in zip(maps, scores, strict=True)
            ],
        }

    def _options(self, result: Explanation) -> str:
        """The options of a result in a line."""
        hidden = {"output"} if len(self.explainer.outputs) == 1 else set()
        options = {name: value for name, value in result.options.items() if value is not None and name not in hidden}
        told = [f"{name} {_told(value)}" for name, value in options.items()]
        return ", ".join([*told, "channels summed"] if "channel" in result.axes else told)


def _finite(value: float | None) -> float | None:
    """The number, if there is one that JSON can hold."""
    return None if value is None or not np.isfinite(value) else float(value)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_told(one)}" for name, one in value.items())
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.size <= ROWS:
        return " ".join(f"{one:.3g}" for one in array.ravel())
    return str(value) if array.ndim == 0 or array.size <= ROWS else f"of shape {list(array.shape)}"
