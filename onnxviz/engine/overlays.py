"""Guided backprop and deconvnet as rewrites of the stored gradient graph.

Each activation's gradient is one named node whose first input is dY, so changing how a network's activations pass
gradients back is a change of those nodes alone. :data:`RECTIFIERS` and :data:`OTHERS` together list them all; for what
is composed of other functions that bend (:data:`BENDING`), the forward pass is looked at.

Policy. Both methods were defined for ReLU, and tools stop there: Captum and TorchRay change ReLU alone, iNNvestigate
refuses networks with another activation. But their idea needs no more than a *rectifier*: a function that passes what
is large and holds back what is negative, so that the sign of what comes back says whether a unit is wanted. ReLU6 and
every Clip from 0 on, LeakyRelu, PRelu, ThresholdedRelu, Keras's relu with a slope, threshold or limit, the ELUs and the
smooth relatives (SiLU, GELU, HardSwish, Mish, Softplus, Squareplus) are rectifiers in this sense:

* guided (Springenberg et al. 2015, arXiv:1412.6806): ``Grad(dY, ·)`` becomes ``Grad(Relu(dY), ·)``, the positive part
  of dY times the activation's own slope. For ReLU this is the paper's rule; where the slope is small but not 0 (the
  negative side of LeakyRelu) little passes instead of nothing, and where it is negative (SiLU and GELU below their
  minimum) what passes is negative, as the activation itself falls there.
* deconvnet (Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1): ``Grad(dY, ·)`` becomes ``Relu(dY)``, whatever the
  activation's input was: the paper sends the signal back through a ReLU, not through a derivative.

All else keeps its derivative, and the result says so: gates and squashing functions (Sigmoid, Tanh, …, those inside of
recurrent layers included), to which a negative value means as much as a positive one; LogSigmoid, which holds back what
is large; softmax and products, which compare; Shrink, which holds back what is small; a Clip from elsewhere than 0; and
every other function that bends what it is given, such as Exp, Sin or a choice by the sign of its argument. Where
nothing on the way back is a rectifier the methods refuse: what they would give is the gradient, under a name that
promises something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Graph, Sketch, reads
from onnxviz.errors import LayerError
from onnxviz.manifest import seed_name
from onnxviz.source import Array

GUIDED, DECONVNET = "guided_backprop", "deconvnet"

RECTIFIERS = {
    "ReluGrad": "Relu",
    "ClipGrad": "Clip from 0",
    "ClampGrad": "Clip from 0",
    "LeakyReluGrad": "LeakyRelu",
    "PReluGrad": "PRelu",
    "ThresholdedReluGrad": "ThresholdedRelu",
    "SlopedReluGrad": "Relu with slope, threshold or limit",
    "EluGrad": "Elu",
    "SeluGrad": "Selu",
    "CeluGrad": "Celu",
    "QuickGeluGrad": "SiLU or QuickGelu",
    "GeluGrad": "Gelu",
    "FastGeluGrad": "Gelu (tanh)",
    "HardSwishGrad": "HardSwish",
    "MishGrad": "Mish",
    "SoftplusGrad": "Softplus",
    "SquareplusGrad": "Squareplus",
}
"""The gradients that are rewritten, and the activations that they belong to."""

OTHERS = {
    "SigmoidGrad": "Sigmoid",
    "HardSigmoidGrad": "HardSigmoid",
    "TanhGrad": "Tanh",
    "SoftsignGrad": "Softsign",
    "LogSigmoidGrad": "LogSigmoid",
    "SoftmaxGrad_13": "Softmax",
    "LogSoftmaxGrad_13": "LogSoftmax",
    "ShrinkGrad": "Shrink",
    "LSTMGrad": "LSTM",
    "GRUGrad": "GRU",
    "RNNGrad": "RNN",
}
"""The gradients of activations, and of layers that contain some, that stay as they are."""

BENDING = frozenset({
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log", "Max", "Min", "Sin",
    "Sinh", "Tan", "Where",
})  # fmt: skip
"""Operators, not named above, that make activations nonlinear. A Where counts if what it chooses by depends on what it
chooses from; roots, powers and quotients do not, since norms consist of them."""

CLIPS = ("ClipGrad", "ClampGrad")
"""The gradients that have a lower bound as their third input."""
_SIZES = ("Shape", "Size")


class Step(NamedTuple):
    """A node of the forward pass, by names."""

    domain: str
    op_type: str
    inputs: Sequence[str]
    outputs: Sequence[str]


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
    kept += _bent(sketch, at)
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
        low: the third input of a gradient of a Clip: its lower bound, None where it has none that is constant.
    """
    if op_type in CLIPS:
        return low is not None and not np.any(low)
    return True if op_type in RECTIFIERS else False if op_type in OTHERS else None


def activation(op_type: str, *, rectifies: bool) -> str:
    """The name of the activation that a gradient operator belongs to."""
    if op_type in CLIPS and not rectifies:
        return "Clip"
    return (RECTIFIERS | OTHERS)[op_type]


def bending(nodes: Iterable[Step], sources: Collection[str], sinks: Collection[str]) -> Counter[str]:
    """The nodes that bend what depends on ``sources`` on its way to ``sinks``, by operator: see :data:`BENDING`.

    Args:
        nodes: of the forward pass, in topological order.
        sources: names of values.
        sinks: names of values.
    """
    varying, found = set(sources), []
    for node in nodes:
        by = [name in varying for name in node.inputs]
        if any(by) and node.op_type not in _SIZES:
            varying.update(filter(None, node.outputs))
            chosen = node.op_type != "Where" or (by[0] and any(by[1:]))
            found.append((node, not node.domain and node.op_type in BENDING and chosen))
    counts: Counter[str] = Counter()
    wanted = set(sinks)
    for node, bends in reversed(found):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(filter(None, node.inputs))
            counts[node.op_type] += bends
    return +counts


def counted(counts: Mapping[str, int]) -> str:
    """``"Sigmoid ×16, Softmax ×2"``."""
    return ", ".join(f"{name} ×{count}" for name, count in counts.items())


def _bent(sketch: Sketch, at: str) -> Counter[str]:
    """What bends between a value and the scores whose seeds the backward pass of a sketch reads."""
    graph = sketch.graph
    seeds = {name for node in sketch.backward for name in node.input} & graph.seeds
    logits = [output.logits for output in graph.bundle.manifest.outputs if seed_name(output.name) in seeds]
    forward = (node for node in graph.nodes if graph.cotangents.isdisjoint(node.output))
    return bending((Step(n.domain, n.op_type, reads(n), n.output) for n in forward), [at], logits)


def _rectifies(node: onnx.NodeProto, graph: Graph) -> bool | None:
    if not node.domain:
        return None
    bounded = node.op_type in CLIPS and len(node.input) > 2
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
