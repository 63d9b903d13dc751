"""What a network must not do at inference: look at the other samples of its batch, or roll dice."""

from __future__ import annotations

import torch
from torch.export.graph_signature import InputKind
from torch.fx import Node

from onnxviz.errors import UnsupportedOperatorError


def require_inference(traced: torch.export.ExportedProgram) -> None:
    """Refuse batch norms of the batch's own statistics and dropout that is on.

    A module was put into eval mode before it was traced, so there it is what the network does in eval mode; in an
    exported program it is fixed. A batch norm of weights, or of a batch of one, is none of the batch.

    Raises:
        UnsupportedOperatorError: there is one.
    """
    inputs = traced.graph_signature.input_specs
    given = {spec.arg.name for spec in inputs if spec.kind is InputKind.USER_INPUT}
    varying: set[Node] = set()
    for node in traced.graph.nodes:
        if (node.op == "placeholder" and node.name in given) or not varying.isdisjoint(node.all_input_nodes):
            varying.add(node)
        operator = str(node.target)
        if node not in varying or not _in_training(node):
            continue
        if "batch_norm" in operator and _samples(node) != 1:
            raise UnsupportedOperatorError(
                f"batch norm {_layer(node)} takes its mean and variance from the batch at hand, so a sample's score "
                f"depends on the others beside it, and no map is that of one sample. Is it in training mode (export "
                f"the program after model.eval()), or without running statistics (track_running_stats=False)?"
            )
        if operator.startswith("aten.dropout") and node.args[1]:
            raise UnsupportedOperatorError(
                f"dropout {_layer(node)} is on, so that the network's output is random: export the program after "
                f"model.eval(), and in forward call dropout(x, training=self.training)"
            )


def _in_training(node: Node) -> bool:
    """The first flag of a batch norm or a dropout says whether it is in training mode."""
    return next((flag for flag in node.args if isinstance(flag, bool)), False)


def _samples(node: Node) -> int | torch.SymInt:
    (first, *_) = node.all_input_nodes
    size: int | torch.SymInt = first.meta["val"].shape[0]
    return size


def _layer(node: Node) -> str:
    """The module that calls it, as far as the program knows."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    name = str(stack[-1][0]).removeprefix("model").removeprefix(".") if stack else ""
    return repr(name) if name else f"{node.name!r}, which the network itself calls,"
