"""Class activation maps: where in a layer the evidence for a target lies.

All weigh the layer's channels A_k by what the gradient G_k = ∂S/∂A_k says of them, add them up and keep what is
positive. Maps are not normalised; they are resized bilinearly (half-pixel centres) to the input's spatial size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxviz.algorithms.gradients import guided_backprop
from onnxviz.algorithms.question import Question, spatial_size
from onnxviz.algorithms.site import Site, site_of
from onnxviz.engine.cut import Sketch
from onnxviz.errors import LayerError
from onnxviz.explanation import Explanation
from onnxviz.manifest import Input

Grid = Sequence[int] | None
Formula = Callable[[Sketch, str, str, Site], str]
"""From a sketch, the channels A, their gradient G and where they are to the weighted channels."""


def grad_cam(question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None) -> Explanation:
    """ReLU(Σ_k α_k·A_k) with α_k the mean over space of ∂S/∂A_k (Selvaraju 2017, arXiv:1610.02391, eq. 1 and 2).

    Args:
        question: the input and the target.
        layer: whose channels A_k are weighted; ``"auto"`` is described at :func:`onnxviz.algorithms.site.site_of`.
        upsample: bilinearly (half-pixel centres) to the input's spatial size; else the layer's own.
        grid: rows and columns of a transformer's tokens, where they cannot be told from the layers' shapes.

    Raises:
        LayerError: the layer's channel or spatial axes are not known, or it has no gradient.
    """

    def weighted(sketch: Sketch, a: str, g: str, site: Site) -> str:
        return sketch.add("Mul", sketch.add("ReduceMean", g, np.array(site.space), keepdims=1), a)

    return _map(question, "grad_cam", weighted, layer, upsample, grid)


def grad_cam_pp(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None
) -> Explanation:
    """Grad-CAM++: ReLU(Σ_k w_k·A_k), w_k = Σ_ij α_ij·ReLU(G_ij) (Chattopadhay 2018, arXiv:1710.11063, eq. 10 and 19).

    α_ij = G²/(2G² + G³·Σ A), 0 where that is of nothing. The paper's score is exp(S), whose derivatives have the factor
    exp(S): it cancels in α, and the map has it as a factor that is left out here. Arguments and errors are those of
    :func:`grad_cam`.
    """

    def weighted(sketch: Sketch, a: str, g: str, site: Site) -> str:
        space = np.array(site.space)
        squared = sketch.add("Mul", g, g)
        total = sketch.add("ReduceSum", a, space, keepdims=1)
        below = sketch.add("Mul", squared, sketch.add("Add", _number(sketch, 2, g), sketch.add("Mul", g, total)))
        alpha = _ratio(sketch, squared, below)
        weights = sketch.add("ReduceSum", sketch.add("Mul", alpha, sketch.add("Relu", g)), space, keepdims=1)
        return sketch.add("Mul", weights, a)

    return _map(question, "grad_cam_pp", weighted, layer, upsample, grid)


def layer_cam(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None
) -> Explanation:
    """ReLU(Σ_k ReLU(G_k)·A_k), place by place (Jiang 2021, doi:10.1109/TIP.2021.3089943, eq. 5 and 6).

    It is meant for early layers too, where one weight for a whole channel says little.
    Arguments and errors are those of :func:`grad_cam`.
    """

    def weighted(sketch: Sketch, a: str, g: str, _: Site) -> str:
        return sketch.add("Mul", sketch.add("Relu", g), a)

    return _map(question, "layer_cam", weighted, layer, upsample, grid)


def hires_cam(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None
) -> Explanation:
    """ReLU(Σ_k G_k·A_k), place by place (Draelos & Carin 2020, arXiv:2011.08891, eq. 5).

    Before global pooling and one linear layer it is what each place adds to the score.
    Arguments and errors are those of :func:`grad_cam`.
    """

    def weighted(sketch: Sketch, a: str, g: str, _: Site) -> str:
        return sketch.add("Mul", g, a)

    return _map(question, "hires_cam", weighted, layer, upsample, grid)


def xgrad_cam(
    question: Question, *, layer: str | int = "auto", upsample: bool = True, grid: Grid = None
) -> Explanation:
    """ReLU(Σ_k w_k·A_k), w_k = Σ_ij G_k·A_k / Σ_ij A_k (Fu 2020, arXiv:2008.02312, eq. 8); 0 where a channel is silent.

    Arguments and errors are those of :func:`grad_cam`.
    """

    def weighted(sketch: Sketch, a: str, g: str, site: Site) -> str:
        space = np.array(site.space)
        above = sketch.add("ReduceSum", sketch.add("Mul", g, a), space, keepdims=1)
        return sketch.add("Mul", _ratio(sketch, above, sketch.add("ReduceSum", a, space, keepdims=1)), a)

    return _map(question, "xgrad_cam", weighted, layer, upsample, grid)


def guided_grad_cam(question: Question, *, layer: str | int = "auto", grid: Grid = None) -> Explanation:
    """Guided backprop times the Grad-CAM map (Selvaraju 2017, arXiv:1610.02391, section 3.2), shaped like the input.

    Captum's GuidedGradCam resizes the map by nearest pixels and is the same otherwise. Arguments and errors are those
    of :func:`grad_cam` and of guided backprop.
    """
    settled = question.about(question.settled()[0])
    detail = guided_backprop(settled)
    heat = grad_cam(settled, layer=layer, grid=grid)
    spread = np.expand_dims(heat.values, [i for i, role in enumerate(detail.axes) if role == "channel"])
    if spread.ndim != detail.values.ndim:
        raise LayerError(
            f"the map at {heat.layer!r} has axes {heat.axes}, the input {detail.axes}: one does not fit the other"
        )
    return detail.derived("guided_grad_cam", detail.values * spread, layer=heat.layer, options=heat.options)


# ----- what they share -----


def _map(
    question: Question,
    method: str,
    formula: Formula,
    layer: str | int,
    upsample: bool,  # noqa: FBT001 - passed on as it came
    grid: Grid,
) -> Explanation:
    site = site_of(question.layers, question.engine.graph, layer, grid)
    like = input_like(question, site) if upsample else None

    def head(sketch: Sketch, grad: str) -> str:
        a, g = site.places(sketch, site.layer.value), site.places(sketch, grad)
        heat = site.heat(sketch, formula(sketch, a, g, site))
        return heat if like is None else upsampled(sketch, heat, like)

    options = {"upsample": upsample, **({"grid": site.grid} if site.grid else {})}
    return question.ask(
        method, head, at=site.layer, axes=("batch", *["spatial"] * site.dimensions), key=(upsample, site.grid),
        options=options, also=() if like is None else (like.value,),
    )  # fmt: skip


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


def input_like(question: Question, site: Site) -> Input:
    """The input whose spatial axes the site's are a shrunken form of."""
    for tensor in question.engine.bundle.manifest.inputs:
        if len(tensor.axes.spatial) == site.dimensions:
            return tensor
    raise LayerError(
        f"layer {site.layer.name!r} has {site.dimensions} spatial axes and no input is known to have as many: pass "
        f"upsample=False for the map at the layer's own size"
    )


def _ratio(sketch: Sketch, above: str, below: str) -> str:
    """The ratio, and 0 where it is of nothing."""
    nothing = sketch.add("Equal", below, _number(sketch, 0, below))
    safe = sketch.add("Where", nothing, _number(sketch, 1, below), below)
    return sketch.add("Where", nothing, _number(sketch, 0, below), sketch.add("Div", above, safe))


def _number(sketch: Sketch, number: float, like: str) -> str:
    return sketch.add("CastLike", np.array(number, np.float32), like)
