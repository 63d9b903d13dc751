"""Class activation maps: where in a layer the evidence for a target lies."""

from __future__ import annotations

import numpy as np

from onnxviz.algorithms.question import Question, spatial_size
from onnxviz.engine.cut import Sketch
from onnxviz.errors import LayerError
from onnxviz.explanation import Explanation
from onnxviz.manifest import Input, Layer


def grad_cam(question: Question, *, layer: str | int = "auto", upsample: bool = True) -> Explanation:
    """ReLU(Σ_k α_k A_k) with α_k the mean over space of ∂S/∂A_k (Selvaraju 2017, arXiv:1610.02391, eq. 1 and 2).

    Args:
        question: the input and the target.
        layer: whose channels A_k are weighted; ``"auto"`` is the last with gradient before space collapses.
        upsample: bilinearly (half-pixel centres) to the input's spatial size; else the layer's own.

    Raises:
        LayerError: the layer's channel or spatial axes are not known, or it has no gradient.
    """
    at = question.layers.cam(layer)
    like = _input_like(question, at) if upsample else None

    def head(sketch: Sketch, grad: str) -> str:
        weights = sketch.add("ReduceMean", grad, np.array(at.axes.spatial), keepdims=1)
        return finish(sketch, sketch.add("Mul", weights, at.value), at, like)

    axes = ("batch", *["spatial"] * len(at.axes.spatial))
    return question.ask(
        "grad_cam", head, at=at, axes=axes, key=upsample, options={"upsample": upsample},
        also=() if like is None else (like.value,),
    )  # fmt: skip


def finish(sketch: Sketch, weighted: str, at: Layer, like: Input | None) -> str:
    """From weighted channels to the map: summed, rectified, spatial axes in order, at the size of an input."""
    summed = sketch.add("ReduceSum", weighted, np.array([at.axes.channel]), keepdims=0)
    rest = [i for i in range(len(at.shape)) if i != at.axes.channel]
    order = [rest.index(i) for i in (at.axes.batch or 0, *at.axes.spatial)]
    if order != sorted(order):
        summed = sketch.add("Transpose", summed, perm=order)
    heat = sketch.add("Relu", summed)
    return heat if like is None else upsampled(sketch, heat, like)


def upsampled(sketch: Sketch, heat: str, like: Input) -> str:
    """(N, *spatial) bilinearly resized to the spatial size of ``like``; a series is resized as an image of one row."""
    size, rank = spatial_size(sketch, like), len(like.axes.spatial)
    pad = [1, 2] if rank == 1 else [1]
    wide = sketch.add("Unsqueeze", heat, np.array(pad))
    resized = sketch.add(
        "Resize", wide, "", "", size, mode="linear",
        coordinate_transformation_mode="half_pixel", axes=list(range(len(pad) + 1, len(pad) + 1 + rank)),
    )  # fmt: skip
    return sketch.add("Squeeze", resized, np.array(pad))


def _input_like(question: Question, at: Layer) -> Input:
    """The input whose spatial axes the layer's are a shrunken form of."""
    for tensor in question.engine.bundle.manifest.inputs:
        if len(tensor.axes.spatial) == len(at.axes.spatial):
            return tensor
    raise LayerError(
        f"layer {at.name!r} has {len(at.axes.spatial)} spatial axes and no input is known to have as many: pass "
        f"upsample=False for the map at the layer's own size {[at.shape[i] for i in at.axes.spatial]}"
    )
