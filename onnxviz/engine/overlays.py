"""Guided backprop and deconvnet as rewrites of the stored gradient graph.

Each activation's gradient is one named node whose first input is dY, so changing how a network's activations pass
gradients back is a change of those nodes alone. :data:`RECTIFIERS` and :data:`OTHERS` together list them all.

Policy. Both methods were defined for ReLU, and tools stop there: Captum and TorchRay change ReLU alone, iNNvestigate
refuses networks with another activation. But their idea needs no more than a *rectifier*: a function that passes what
is large and holds back what is negative, so that the sign of what comes back says whether a unit is wanted. ReLU6 and
every Clip from 0 on, LeakyRelu, PRelu, ThresholdedRelu, the ELUs and the smooth relatives (SiLU, GELU, HardSwish, Mish,
Softplus) are rectifiers in this sense:

* guided (Springenberg et al. 2015, arXiv:1412.6806): ``Grad(dY, ·)`` becomes ``Grad(Relu(dY), ·)``, the positive part
  of dY times the activation's own slope. For ReLU this is the paper's rule; where the slope is small but not 0 (the
  negative side of LeakyRelu) little passes instead of nothing, and where it is negative (SiLU and GELU below their
  minimum) what passes is negative, as the activation itself falls there.
* deconvnet (Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1): ``Grad(dY, ·)`` becomes ``Relu(dY)``, whatever the
  activation's input was: the paper sends the signal back through a ReLU, not through a derivative.

All else keeps its derivative, and the result says so: gates and squashing functions (Sigmoid, Tanh, …, those inside of
recurrent layers included), to which a negative value means as much as a positive one; softmax and products, which
compare; Shrink, which holds back what is small; and a Clip from elsewhere than 0. Where nothing on the way back is a
rectifier the methods refuse: what they would give is the gradient, under a name that promises something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Graph, Sketch
from onnxviz.errors import LayerError
from onnxviz.source import Array

GUIDED, DECONVNET = "guided_backprop", "deconvnet"

RECTIFIERS = {
    "ReluGrad": "Relu",
    "ClipGrad": "Clip from 0",
    "LeakyReluGrad": "LeakyRelu",
    "PReluGrad": "PRelu",
    "ThresholdedReluGrad": "ThresholdedRelu",
    "EluGrad": "Elu",
    "SeluGrad": "Selu",
    "CeluGrad": "Celu",
    "QuickGeluGrad": "SiLU or QuickGelu",
    "GeluGrad": "Gelu",
    "FastGeluGrad": "Gelu (tanh)",
    "HardSwishGrad": "HardSwish",
    "MishGrad": "Mish",
    "SoftplusGrad": "Softplus",
}
"""The gradients that are rewritten, and the activations that they belong to."""

OTHERS = {
    "SigmoidGrad": "Sigmoid",
    "HardSigmoidGrad": "HardSigmoid",
    "TanhGrad": "Tanh",
    "SoftsignGrad": "Softsign",
    "SoftmaxGrad_13": "Softmax",
    "LogSoftmaxGrad_13": "LogSoftmax",
    "ShrinkGrad": "Shrink",
    "LSTMGrad": "LSTM",
    "GRUGrad": "GRU",
    "RNNGrad": "RNN",
}
"""The gradients of activations, and of layers that contain some, that stay as they are."""


@dataclass(frozen=True)
class Changes:
    """What a rewrite did to the activations on the way back.

    Attributes:
        rewritten: how many nodes of each gradient operator were rewritten.
        kept: how many of each activation keep their derivative.
    """

    rewritten: dict[str, int]
    kept: dict[str, int]


NO_CHANGES = Changes({}, {})


def apply_overlay(sketch: Sketch, overlay: str, at: str) -> Changes:
    """Rewrite the backward pass of a sketch.

    Args:
        sketch: what is to be run; its backward pass is changed in place.
        overlay: :data:`GUIDED` or :data:`DECONVNET`.
        at: the value towards which the gradient goes; the error names it.

    Raises:
        LayerError: there is nothing to rewrite.
    """
    rewritten: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        changes = _rectifies(node, sketch.graph)
        if changes:
            rewritten[node.op_type] += 1
            nodes.extend(_deconvnet(node) if overlay == DECONVNET else _guided(node))
        else:
            nodes.append(node)
            if changes is False:
                kept[activation(node.op_type, rectifies=False)] += 1
    if not rewritten:
        reason = f"only {counted(kept)}" if kept else "no known activation at all"
        raise LayerError(
            f"{overlay} changes how rectifiers (ReLU and its relatives) pass gradients back, and between {at!r} and "
            f"the score there is none ({reason}): its result would be the plain gradient. Ask for gradient or saliency"
        )
    sketch.backward[:] = nodes
    return Changes(dict(rewritten), dict(kept))


def rectifies(op_type: str, low: Array | None) -> bool | None:
    """Whether a gradient operator is that of a rectifier; None if it is not that of an activation.

    Args:
        op_type: of the gradient's node; its domain is not the default one.
        low: the lower bound of a Clip, None where it has none that is constant.
    """
    if op_type == "ClipGrad":
        return low is not None and not np.any(low)
    return True if op_type in RECTIFIERS else False if op_type in OTHERS else None


def activation(op_type: str, *, rectifies: bool) -> str:
    """The name of the activation that a gradient operator belongs to."""
    if op_type == "ClipGrad" and not rectifies:
        return "Clip"
    return (RECTIFIERS | OTHERS)[op_type]


def counted(counts: Mapping[str, int]) -> str:
    """``"Sigmoid ×16, Softmax ×2"``."""
    return ", ".join(f"{name} ×{count}" for name, count in counts.items())


def _rectifies(node: onnx.NodeProto, graph: Graph) -> bool | None:
    if not node.domain:
        return None
    bounded = node.op_type == "ClipGrad" and len(node.input) > 2
    low = graph.initializers.get(node.input[2]) if bounded else None
    return rectifies(node.op_type, numpy_helper.to_array(low) if low is not None else None)


def _deconvnet(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [helper.make_node("Relu", [node.input[0]], node.output, name=node.name)]


def _guided(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    positive = f"{node.name}/positive"
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.input[0] = positive
    return [helper.make_node("Relu", [node.input[0]], [positive], name=positive), changed]
