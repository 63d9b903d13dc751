"""Which nodes their rules refuse, for an attribute or the form of an input: found by applying the rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from onnxviz.errors import OpenSizeError, UnsupportedOperatorError
from onnxviz.gradient.backward import backward
from onnxviz.gradient.registry import NO_GRADIENT, VJPS, describe
from onnxviz.gradient.tape import OPSET, Ops
from onnxviz.gradient.training_ops import TrainingOps


def refusals(nodes: Iterable[ir.Node], active: set[ir.Value]) -> dict[ir.Node, str]:
    """Node → why its rule refuses it, which continues "its gradient …".

    Args:
        nodes: of the forward pass; those without a rule are passed over.
        active: the values that depend on what gradients are asked for.
    """
    found = {}
    for node in nodes:
        key = node.domain, node.op_type
        if key in VJPS and key not in NO_GRADIENT and (why := _refusal(node, active)) is not None:
            found[node] = why
    return found


def _refusal(node: ir.Node, active: set[ir.Value]) -> str | None:
    """Why the rule refuses a node, found in a graph that is thrown away."""
    scratch = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}), ir_version=10)
    cotangents = {
        y: ir.Value(name=f"d {y.name}", shape=y.shape, type=y.type)
        for i, y in enumerate(node.outputs)
        if y in active and (i == 0 or y.uses())
    }
    op = Ops(scratch.graph, TrainingOps(scratch))
    try:
        backward(op, [node], cotangents, [x for x in node.inputs if x is not None and x in active], {})
    except UnsupportedOperatorError as error:
        return str(error).removeprefix(f"the gradient of {describe(node)} ")
    except OpenSizeError:  # the conversion answers it with fixed sizes
        return None
    finally:
        withdraw(scratch.graph, ())
    return None


def withdraw(graph: ir.Graph, kept: Collection[ir.Node]) -> None:
    """Take back what was appended to a graph: all nodes but those that are kept, so that nothing uses their inputs."""
    kept = set(kept)
    graph.remove([node for node in graph if node not in kept], safe=True)
