"""Methods that look at the gradient of the score with respect to the input (or a layer)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from onnxviz.algorithms.question import Question, roles
from onnxviz.engine.cut import Sketch
from onnxviz.engine.overlays import DECONVNET, GUIDED
from onnxviz.errors import LayerError, OptionError
from onnxviz.explanation import Explanation

Reduce = Literal["max", "mean", "sum"] | None
BACKWARD = {"gradient": None, GUIDED: GUIDED, DECONVNET: DECONVNET}
"""The methods that give a gradient like the input, and how each rewrites the backward pass."""
_REDUCERS = {"max": "ReduceMax", "mean": "ReduceMean", "sum": "ReduceSum"}


def gradient(question: Question, *, layer: str | int | None = None) -> Explanation:
    """∂S/∂x, raw; with ``layer`` ∂S/∂layer. S is the score of the target."""
    return _raw(question, "gradient", layer=layer)


def input_x_gradient(question: Question) -> Explanation:
    """x·∂S/∂x: of a linear model, each element's part of the score (Shrikumar 2016, arXiv:1605.01713, section 3.3)."""
    at = question.input()
    return question.ask(
        "input_x_gradient", lambda sketch, grad: sketch.add("Mul", at.value, grad), at=at, axes=roles(at),
        also=(at.value,),
    )  # fmt: skip


def guided_backprop(question: Question, *, layer: str | int | None = None) -> Explanation:
    """The gradient with every rectifier passing back only what is positive (Springenberg 2015, arXiv:1412.6806).

    What counts as a rectifier is the policy of :mod:`onnxviz.engine.overlays`; how many were rewritten stands in the
    result's options, which activations were not in its notes.

    Raises:
        LayerError: there is no rectifier on the way back, so that the result would be the plain gradient.
    """
    return _raw(question, GUIDED, layer=layer, overlay=GUIDED)


def deconvnet(question: Question, *, layer: str | int | None = None) -> Explanation:
    """The gradient with every rectifier replaced by its deconvnet counterpart (Zeiler 2014, arXiv:1311.2901).

    Policy, options, notes and errors are those of :func:`guided_backprop`.
    """
    return _raw(question, DECONVNET, layer=layer, overlay=DECONVNET)


def saliency(question: Question, *, reduce: Reduce = "max") -> Explanation:
    """The absolute gradient, over the channels its maximum (Simonyan 2013, arXiv:1312.6034, section 3.1).

    Args:
        question: the input and the target.
        reduce: what is taken over the channels: ``"max"`` as in the paper, ``"mean"``, ``"sum"``, or None to keep
            them. An input without spatial axes (a table's columns) keeps its channels, which are what is explained.
    """
    if reduce is not None and reduce not in _REDUCERS:
        raise OptionError(f"reduce={reduce!r}: expected 'max', 'mean', 'sum' or None")
    at = question.input()
    axes, channel = roles(at), at.axes.channel
    if reduce is not None and len(axes) > 2 and channel is None:
        raise LayerError(
            f"which axis of input {at.name!r} (shape {list(at.shape)}) holds the channels is not known from the graph: "
            f"pass reduce=None and reduce the axis that you know to be the channels"
        )
    over = channel if reduce is not None and at.axes.spatial else None

    def head(sketch: Sketch, grad: str) -> str:
        absolute = sketch.add("Abs", grad)
        if over is None:
            return absolute
        return sketch.add(_REDUCERS[str(reduce)], absolute, np.array([over]), keepdims=0)

    kept = tuple(role for i, role in enumerate(axes) if i != over)
    return question.ask("saliency", head, at=at, axes=kept, key=reduce, options={"reduce": reduce})


def _raw(question: Question, method: str, *, layer: str | int | None, overlay: str | None = None) -> Explanation:
    at = question.where(layer)
    return question.ask(
        method, lambda _, grad: grad, at=at, axes=roles(at), overlay=overlay, batch_axis=at.axes.batch or 0
    )
