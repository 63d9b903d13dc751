"""How faithful maps are, beside maps that know nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms import METHODS, explain_by_name
from onnxviz.algorithms.question import Question
from onnxviz.arguments import checked
from onnxviz.engine.inputs import opened
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError
from onnxviz.explanation import Explanation
from onnxviz.source import Array
from onnxviz.trust.case import Case, Trial
from onnxviz.trust.metrics import METRICS, Metric
from onnxviz.trust.names import Names, with_options

if TYPE_CHECKING:
    from onnxviz.engine.explainer import Explainer

RANDOM = "random map"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Metrics of maps; prints as a table of means over the samples, the random map last.

    Attributes:
        values: label → metric → (N,), one number for each sample. NaN where the metric cannot be had of that map.
        random: metric → (N,), the same of random maps.
        better: metric → ``"higher"`` or ``"lower"``.
    """

    values: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    random: Mapping[str, npt.NDArray[np.float64]]
    better: Mapping[str, str]

    @checked
    def mean(self, metric: str, label: str | None = None) -> float:
        """The mean over the samples; of the random map where no label is given.

        Raises:
            OptionError: there is no such metric or label.
        """
        for name, given, known in (("metric", metric, self.better), ("label", label, self.values)):
            if given is not None and given not in known:
                raise OptionError(f"{name}={given!r} was not evaluated; there are {', '.join(known)}")
        return float((self.random if label is None else self.values[label])[metric].mean())

    @checked
    def table(self, *, markdown: bool = False) -> str:
        """Rows of labels and columns of metrics with their direction; numbers are means over the samples."""
        arrows = {"higher": "↑", "lower": "↓"}
        rows = [["map", *(f"{metric} {arrows[better]}" for metric, better in self.better.items())]]
        for label, found in (*self.values.items(), (RANDOM, self.random)):
            means = (found[metric].mean() for metric in self.better)
            rows.append([label, *("–" if np.isnan(mean) else f"{mean:.3g}" for mean in means)])
        if markdown:
            rows.insert(1, ["---"] * len(rows[0]))
            return "\n".join("| " + " | ".join(row) + " |" for row in rows)
        widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
        return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)

    def __repr__(self) -> str:
        samples = len(next(iter(self.random.values())))
        return f"Evaluation: means over {samples} samples; ↑ higher is better, ↓ lower\n{self.table()}"


@checked
def evaluate(
    ex: Explainer,
    maps: Any,
    x: Any,
    target: Any = None,
    *,
    metrics: Names | None = None,
    masks: Any = None,
    baseline: Any = 0.0,
    of: Of | None = None,
    output: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """How faithful maps are to the network, by the usual metrics, each beside a map that knows nothing.

    What the network says of changed inputs is computed in batches. :mod:`onnxviz.trust.metrics` has the formulas.

    ==================  =======  ======================================================================================
    metric              better
    ==================  =======  ======================================================================================
    deletion            lower    area under the score while the most important places go first (Petsiuk 2018)
    insertion           higher   the same while they come first, into a blurred input
    average_drop        lower    percent by which the score falls, seen through the map (Chattopadhay 2018)
    average_increase    higher   percent of samples whose score rises so
    pointing_game       higher   share of maps whose largest value is on the object; needs ``masks`` (Zhang 2018)
    max_sensitivity     lower    largest change of the map under small noise; needs to recompute (Yeh 2019)
    infidelity          lower    squared error of the map as a forecast of what covering does (Yeh 2019)
    road                higher   score without the least less that without the most important places (Rong 2022)
    ==================  =======  ======================================================================================

    Args:
        ex: the network.
        maps: an :class:`onnxviz.Explanation`; an array (N, *spatial), of any size, or like x; the name of a method; a
            function from inputs like x to one of the first two; or a mapping from labels to any of these. What a place
            counts is the sum of its channels, of slopes (gradient, guided_backprop, deconvnet, smooth_grad) that of
            their absolute values. Arrays like x are taken for parts of the score, not slopes.
        x: what was explained, a batch: see :class:`onnxviz.Explainer`.
        target: one class for each sample; None is the Explanation's, or else the class on top.
        metrics: names, or a mapping from names to their options. None is all that the maps (and ``masks``) allow.
        masks: bool, (N, *spatial): where the target is.
        baseline: what stands for nothing, a number or an array: 0 is the mean colour of standardised pictures.
        of: the score that metrics look at; None is what their authors took: the logit for infidelity, else the
            probability.
        output: see :class:`onnxviz.Explainer`.
        seed: of random maps and of what metrics draw.

    Raises:
        InputError: maps, masks or a baseline that do not fit, or a metric that cannot be had of these.
        OptionError: a metric, method or option that is not there.
        TargetError: several targets of each sample.
    """
    given = dict(maps) if isinstance(maps, Mapping) else {_label(maps): maps}
    if not given:
        raise InputError("maps is empty: give at least one")
    if target is None:
        target = next((m.target for m in given.values() if isinstance(m, Explanation) and m.target is not None), None)
    inputs = opened(x, ex.engine.bundle.manifest)[0]
    case = Case.of(Question(ex.engine, inputs, target, output, "logits"), baseline, masks, seed)
    trials = {label: _trial(case, one) for label, one in given.items()}
    chosen = _chosen(metrics, case, trials)
    random = Trial.random(case)

    def measured(trial: Trial) -> dict[str, npt.NDArray[np.float64]]:
        return {metric.name: _measured(metric, options, case, trial, of) for metric, options in chosen}

    return Evaluation(
        {label: measured(trial) for label, trial in trials.items()},
        measured(random),
        {metric.name: metric.better for metric, _ in chosen},
    )


def _label(maps: Any) -> str:
    if isinstance(maps, Explanation):
        return maps.method
    return maps if isinstance(maps, str) else "map"


def _trial(case: Case, maps: Any) -> Trial:
    if isinstance(maps, str):
        with_options("method", maps, METHODS)
        return _recomputed(case, partial(_by_name, case, maps))
    if callable(maps):
        return _recomputed(case, maps)
    return Trial.of(case, maps)


def _by_name(case: Case, method: str, x: Array) -> Explanation:
    given = {**case.feeds, case.at.name: x}
    question = case.question
    return explain_by_name(Question(question.engine, given, question.target, question.output, question.of), method, {})


def _recomputed(case: Case, function: Callable[[Array], Any]) -> Trial:
    return Trial.of(case, function(case.x), lambda x: Trial.of(case, function(x)).values)


def _chosen(metrics: Names | None, case: Case, trials: Mapping[str, Trial]) -> list[tuple[Metric, dict[str, Any]]]:
    """The metrics with their options, which must be possible for at least one of the maps."""
    again = any(trial.again for trial in trials.values())
    possible = {"": True, "masks": case.masks is not None, "again": again}
    if metrics is None:
        flat = len(case.at.axes.spatial) == 2
        return [(m, {}) for m in METRICS.values() if possible[m.needs] and (flat or m.name != "road")]
    named = with_options("metric", metrics, METRICS)
    for name in named:
        if not possible[METRICS[name].needs]:
            raise InputError(_LACKS[METRICS[name].needs].format(name))
    return [(METRICS[name], options) for name, options in named.items()]


_LACKS = {
    "masks": "{} needs to know where the object is: give masks=, bool (N, *spatial)",
    "again": "{} makes maps of other inputs: give maps as the name of a method, or as a function of the input",
}


def _measured(
    metric: Metric, options: dict[str, Any], case: Case, trial: Trial, of: Of | None
) -> npt.NDArray[np.float64]:
    if metric.needs == "again" and trial.again is None:
        return np.full(len(case.x), np.nan)
    return metric.function(case, trial, of or metric.of, **options)
