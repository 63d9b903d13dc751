"""The canonical form in which every source's graph enters differentiation.

It needs no shapes and comes first: one flat graph, constants as initializers, no training modes, unique names.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from onnxviz.errors import UnsupportedOperatorError
from onnxviz.graph.fold import fold


def normalise(model: ir.Model) -> dict[str, str]:
    """Bring the graph into canonical form, in place.

    Model-local functions are inlined, Constant nodes become initializers, Dropout becomes Identity, constant
    expressions (and with them ``If`` of a constant) are folded without ever storing a weight twice, what nothing reads
    is removed, and every node and value gets a unique name. Names of graph inputs and outputs stay, with the exception
    that :func:`own_outputs` describes.

    Returns:
        Old name → new name of those outputs that had to be renamed; mostly empty.

    Raises:
        UnsupportedOperatorError: a Dropout or BatchNormalization is in training mode, or a Dropout's mask is used.
    """
    if model.functions:
        common.InlinePass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _leave_training_mode(model)
    common.NameFixPass(_Names())(model)
    fold(model)
    renamed = own_outputs(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    common.NameFixPass(_Names())(model)
    common.RemoveUnusedNodesPass()(model)
    model.functions.clear()
    common.RemoveUnusedOpsetsPass()(model)
    return renamed


def own_outputs(model: ir.Model) -> dict[str, str]:
    """Let every graph output be the output of a node of its own, in place.

    An initializer or constant that is an output is passed through an Identity that takes its name; a value that is
    listed twice is listed once. An output that is a graph input would share its name with it, so its Identity is
    called ``<name>#out``.

    Returns:
        Old name → new name of the outputs that are graph inputs.
    """
    graph = model.graph
    renamed: dict[str, str] = {}
    outputs: list[ir.Value] = []
    for value in dict.fromkeys(graph.outputs):
        producer = value.producer()
        if producer is not None and producer.op_type != "Constant":
            outputs.append(value)
            continue
        name = value.name or ""
        node = ir.node("Identity", [value])
        own = node.outputs[0]
        own.type, own.shape = value.type, value.shape
        if value.is_graph_input():
            own.name = renamed[name] = f"{name}#out"
        else:
            value.name, own.name = f"{name}#constant", name
        graph.append(node)
        outputs.append(own)
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    return renamed


class _Names:
    """Names for what has none, or shares one: a node is called by its operator, a value ``v``."""

    def generate_node_name(self, node: ir.Node) -> str:
        return node.name or node.op_type

    def generate_value_name(self, value: ir.Value) -> str:
        return value.name or "v"


def _leave_training_mode(model: ir.Model) -> None:
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.domain != "":
            continue
        if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode"):
            raise UnsupportedOperatorError(
                f"BatchNormalization {called(node)} has training_mode=1: its result depends on the other samples of "
                "the batch; export the model in evaluation mode (PyTorch: model.eval())"
            )
        if node.op_type == "Dropout":
            _drop_dropout(node)


def _drop_dropout(node: ir.Node) -> None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is not None and (training.const_value is None or training.const_value.numpy().any()):
        raise UnsupportedOperatorError(
            f"Dropout {called(node)} has training_mode on (or computed in the graph): its result is random; "
            "export the model in evaluation mode (PyTorch: model.eval())"
        )
    if any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
        raise UnsupportedOperatorError(f"the mask of Dropout {called(node)} is used; in inference it has no meaning")
    graph, (kept, *_) = node.graph, node.outputs
    assert graph is not None
    identity = ir.node("Identity", [node.inputs[0]], name=node.name)
    passed = identity.outputs[0]
    passed.name, passed.type, passed.shape = kept.name, kept.type, kept.shape
    graph.insert_before(node, identity)
    kept.replace_all_uses_with(passed, replace_graph_outputs=True)
    graph.remove(node, safe=True)


# ---------------------------------------------------------------------------------------------------- explicit pads


def called(node: ir.Node) -> str:
    """The node as a reader finds it: by its name, or by the value that it computes."""
    return repr(node.name) if node.name else f"of {node.outputs[0].name!r}"
