"""The methods by name: what ``ex.explain(x, method=…)`` accepts and ``ov.methods()`` lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from onnxviz.algorithms import cam, gradients, perturbation, sampling
from onnxviz.algorithms.question import Question
from onnxviz.arguments import checked
from onnxviz.display import table
from onnxviz.errors import OptionError, nearest
from onnxviz.explanation import Explanation


@dataclass(frozen=True)
class Method:
    """A method: its name, what it computes in one sentence, its options with their defaults."""

    name: str
    summary: str
    options: dict[str, Any]
    function: Callable[..., Explanation]


def _method(function: Callable[..., Explanation]) -> Method:
    summary = (function.__doc__ or "").partition("\n\n")[0].strip()
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return Method(function.__name__, summary, {p.name: p.default for p in parameters}, function)


METHODS: dict[str, Method] = {
    function.__name__: _method(checked(function))
    for function in (
        gradients.gradient, gradients.saliency, gradients.input_x_gradient, sampling.integrated_gradients,
        sampling.smooth_grad, gradients.guided_backprop, gradients.deconvnet, cam.grad_cam, cam.grad_cam_pp,
        cam.layer_cam, cam.hires_cam, cam.xgrad_cam, perturbation.eigen_cam, perturbation.score_cam,
        cam.guided_grad_cam, perturbation.occlusion, perturbation.rise,
    )
}  # fmt: skip


class MethodTable(tuple[Method, ...]):
    """Methods; prints as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        width = max((len(method.name) for method in self), default=0)
        return "\n".join(f"{name.ljust(width)}  {summary}  [{options}]" for name, summary, options in self._rows())

    def _repr_html_(self) -> str:
        return table(("method", "what it computes", "options"), self._rows())

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for method in self:
            options = ", ".join(f"{name}={value!r}" for name, value in method.options.items())
            yield method.name, " ".join(method.summary.split()), options or "none"


def methods() -> MethodTable:
    """All methods, with their options and defaults."""
    return MethodTable(METHODS.values())


def explain_by_name(question: Question, method: str, options: dict[str, Any]) -> Explanation:
    """Call a method by its name; raises OptionError for an unknown name or option."""
    if method not in METHODS:
        raise OptionError(
            f"there is no method {method!r}; methods: {', '.join(METHODS)}{nearest(str(method), METHODS)}"
        )
    chosen = METHODS[method]
    if unknown := sorted(options.keys() - chosen.options.keys()):
        raise OptionError(
            f"{method} has no option {unknown[0]!r}; options: {', '.join(chosen.options) or 'none'}"
            f"{nearest(unknown[0], chosen.options)}"
        )
    return chosen.function(question, **options)
