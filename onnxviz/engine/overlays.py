"""Guided backprop and deconvnet as rewrites of the stored gradient graph.

Each activation's gradient is one named node whose first input is dY, so changing how a network's activations pass
gradients back is a change of those nodes alone.

Policy. The two methods were defined for ReLU. They are applied to every *rectifier*: functions that pass what is large
and hold back what is negative (Relu, Clip from 0 as in ReLU6, LeakyRelu, PRelu, Elu, Selu, and the smooth ones: SiLU,
GELU, HardSwish, Mish, Softplus). Sigmoid, Tanh, HardSigmoid and softmax are gates, not rectifiers, and keep their
derivative; so do clips from elsewhere than 0.

* guided (Springenberg et al. 2015, arXiv:1412.6806): ``Grad(dY, ·)`` becomes ``Grad(Relu(dY), ·)``;
* deconvnet (Zeiler & Fergus 2014, arXiv:1311.2901): it becomes ``Relu(dY)``.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxviz.engine.cut import Graph, Sketch

RECTIFIERS = frozenset({
    "ReluGrad", "ClipGrad", "LeakyReluGrad", "PReluGrad", "EluGrad", "SeluGrad", "CeluGrad", "GeluGrad", "FastGeluGrad",
    "QuickGeluGrad", "HardSwishGrad", "MishGrad", "SoftplusGrad", "ThresholdedReluGrad",
})  # fmt: skip
OVERLAYS = ("guided", "deconvnet")


def apply_overlay(sketch: Sketch, overlay: str) -> Counter[str]:
    """Rewrite the backward pass of a sketch; returns how many nodes of each kind were rewritten."""
    rewritten: Counter[str] = Counter()
    nodes: list[onnx.NodeProto] = []
    for node in sketch.backward:
        if node.op_type not in RECTIFIERS or not node.domain or not _rectifies(node, sketch.graph):
            nodes.append(node)
            continue
        rewritten[node.op_type] += 1
        if overlay == "deconvnet":
            nodes.append(helper.make_node("Relu", [node.input[0]], node.output, name=node.name))
        else:
            positive = f"{node.name}/positive"
            nodes.append(helper.make_node("Relu", [node.input[0]], [positive], name=positive))
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            changed.input[0] = positive
            nodes.append(changed)
    sketch.backward[:] = nodes
    return rewritten


def _rectifies(node: onnx.NodeProto, graph: Graph) -> bool:
    """A Clip does if its lower bound is 0."""
    if node.op_type != "ClipGrad":
        return True
    low = graph.initializers.get(node.input[2]) if len(node.input) > 2 else None
    return low is not None and bool(np.all(numpy_helper.to_array(low) == 0))
