"""The export to ONNX: the model is traced with its weights as inputs, so that they are never copied on the way."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
from onnx_ir.passes import common
from tf2onnx import tfonnx
from tf2onnx.graph import Node

from onnxviz.errors import UnsupportedModelError, UnsupportedOperatorError
from onnxviz.source import BATCH, Axes
from onnxviz_keras import recurrent
from onnxviz_keras.operators import HANDLERS
from onnxviz_keras.quiet import quiet
from onnxviz_keras.subject import MISFIT, Subject, reason
from onnxviz_keras.taps import Recorder

OPSET = 18
Shape = tuple[int | None, ...]
WAY_OUT = (
    "write the layer with other operations, or convert the part of the model before it "
    "(keras.Model(model.inputs, model.get_layer(…).output))"
)


@dataclass
class _Traced:
    """The model as a TensorFlow graph."""

    function: Any
    outputs: list[str]
    taps: list[str]


def export(
    subject: Subject, example: Mapping[str, np.ndarray[Any, Any]], taps: Collection[str], opened: Axes
) -> tuple[ir.Model, dict[str, str], dict[str, str], list[str]]:
    """Export the model with the values of ``taps`` as outputs, and a symbolic batch and other sizes where possible.

    Returns:
        The graph, output → value, tap → value, and what is to be said about the batch and the sizes.

    Raises:
        UnsupportedModelError: the model cannot be traced.
        UnsupportedOperatorError: tf2onnx does not know an operator.
    """
    variables = subject.model.variables
    notes: list[str] = []
    with quiet():
        shapes = _shapes(example, opened)
        try:
            if len(sizes := {len(x) for x in example.values()}) > 1:
                raise ValueError(f"the inputs' first axes differ ({sorted(sizes)})")
            subject.try_another_batch(example)
            try:
                traced = _traced(subject, example, taps, variables, shapes)
            except MISFIT as error:
                if not opened:
                    raise
                shapes = _shapes(example, {})
                traced = _traced(subject, example, taps, variables, shapes)
                notes.append(f"all sizes but the batch stay as they are in the example: when open, {reason(error)}")
        except MISFIT as error:
            shapes = [x.shape for x in example.values()]
            try:
                traced = _traced(subject, example, taps, variables, shapes)
            except UnsupportedModelError:
                raise
            except MISFIT as final:
                raise UnsupportedModelError(_refusal(final)) from final
            notes.append(f"the batch stays fixed at {min(sizes)}: when symbolic, {reason(error)}")
        weights = _weights(traced.function, len(subject.inputs), variables)
        model = _translated(traced.function)
    values = _unbundled(model)
    _refuse_unknown_operators(model.graph)
    _name_inputs(model.graph, subject.inputs, shapes)
    _attach_weights(model.graph, weights)
    names = [value.name or "" for value in values]
    outputs = dict(zip(traced.outputs, names, strict=False))
    return model, outputs, dict(zip(traced.taps, names[len(outputs) :], strict=True)), notes


def _shapes(example: Mapping[str, np.ndarray[Any, Any]], opened: Axes) -> list[Shape]:
    """The inputs' shapes with the batch open, and the ``opened`` axes."""
    return [
        tuple(None if axis in (0, *opened.get(name, ())) else size for axis, size in enumerate(x.shape))
        for name, x in example.items()
    ]


def _weights(function: Any, count: int, variables: Sequence[keras.Variable]) -> dict[str, tuple[str, tf.Tensor]]:
    """Name of the traced function's input → name and content of what it stands for: variables, and what was captured.

    Raises:
        UnsupportedModelError: a ``tf.Variable`` or table that Keras does not know of.
    """
    captured = [(f"constant_{k}", tensor) for k, tensor in enumerate(function.captured_inputs)]
    for _, tensor in captured:
        if tensor.dtype in (tf.resource, tf.variant):
            raise UnsupportedModelError(
                "the model reads a tf.Variable or a lookup table that Keras does not track; create variables with "
                "add_weight in the layers, and look words up before the model"
            )
    known = [*((v.path, tf.convert_to_tensor(v.value)) for v in variables), *captured]
    return dict(zip([t.name for t in function.inputs[count:]], known, strict=True))


def _traced(
    subject: Subject,
    example: Mapping[str, np.ndarray[Any, Any]],
    taps: Collection[str],
    variables: Sequence[keras.Variable],
    shapes: Sequence[Shape],
) -> _Traced:
    names: dict[str, list[str]] = {}

    def function(*tensors: tf.Tensor) -> list[tf.Tensor]:
        inputs, weights = tensors[: len(subject.inputs)], tensors[len(subject.inputs) :]
        with (
            keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True)), initialize_variables=False),
            Recorder(subject.model, taps, on_path=True) as recorder,
        ):
            outputs = subject.outputs(subject(inputs), recorder.values)
        names.update(outputs=list(outputs), taps=list(recorder.values))
        return _bundled([*outputs.values(), *recorder.values.values()])

    specs = [
        tf.TensorSpec(shape, x.dtype, name=f"input_{k}")
        for k, (shape, x) in enumerate(zip(shapes, example.values(), strict=True))
    ]
    specs += [tf.TensorSpec(v.shape, v.dtype, name=f"weight_{k}") for k, v in enumerate(variables)]
    with _inlined(), recurrent.traceable(subject.model):
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    return _Traced(concrete, names["outputs"], names["taps"])


def _bundled(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """One output that reads all: tf2onnx walks the whole graph for every output, six times. It is never computed."""
    return tf.raw_ops.EagerPyFunc(input=list(tensors), token="outputs", Tout=[tf.float32])[0]  # noqa: S106 - no secret


def _unbundled(model: ir.Model) -> list[ir.Value]:
    """Undo :func:`_bundled`: the values that it bundles, in their order, become the graph's outputs."""
    graph = model.graph
    bundle = next(node for node in graph if node.op_type == "EagerPyFunc")
    values = [value for value in bundle.inputs if value is not None]
    graph.outputs.clear()
    graph.outputs.extend(dict.fromkeys(values))
    common.RemoveUnusedNodesPass()(model)
    return values


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Inside, functions that layers compile for themselves (grouped convolutions) are traced as part of the graph."""
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # noqa: FBT003 - TensorFlow's signature
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(eagerly)


def _translated(function: Any) -> ir.Model:
    """The ONNX model, whose inputs are the function's, in their order.

    tf2onnx's optimisers are left out: their time grows steeply with the number of nodes, and they copy the weights.

    Raises:
        UnsupportedOperatorError: tf2onnx knows an operator, but not with these attributes.
    """
    inputs, outputs = [t.name for t in function.inputs], [t.name for t in function.outputs]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(function.graph.as_graph_def(add_shapes=True), name="")
        try:
            translated = tfonnx.process_tf_graph(
                graph, opset=OPSET, input_names=inputs, output_names=outputs, custom_op_handlers=HANDLERS
            )
        except MISFIT as error:
            raise UnsupportedOperatorError(
                f"tf2onnx cannot translate {_described(error)} ({reason(error)}); {WAY_OUT}"
            ) from error
    model = ir.serde.deserialize_model(translated.make_model("model"))
    ordered = sorted(model.graph.inputs, key=lambda value: inputs.index(value.name))
    model.graph.inputs.clear()
    model.graph.inputs.extend(ordered)
    return model


def _described(error: BaseException) -> str:
    """The node that tf2onnx was at: it does not say so itself."""
    at = [frame.f_locals["node"] for frame, _ in traceback.walk_tb(error.__traceback__) if "node" in frame.f_locals]
    nodes = [node.name for node in at if isinstance(node, Node)]
    return f"the operator {nodes[-1]!r}" if nodes else "the traced model"


def _refuse_unknown_operators(graph: ir.Graph) -> None:
    for node in graph:
        if node.domain == "" and not onnx.defs.has(node.op_type, OPSET):
            raise UnsupportedOperatorError(
                f"tf2onnx has no translation of TensorFlow's operator {node.op_type} (in {node.name!r}); {WAY_OUT}"
            )


def _name_inputs(graph: ir.Graph, names: Sequence[str], shapes: Sequence[Shape]) -> None:
    """Give the inputs their public names and shapes; other values that have such a name get another."""
    taken = set(names)
    for value in [*graph.initializers.values(), *(y for node in graph for y in node.outputs)]:
        if value.name in taken:
            value.name = f"{value.name}#value"
    for value, name, (batch, *sizes) in zip(list(graph.inputs), names, shapes, strict=False):
        value.name = name
        value.shape = ir.Shape([BATCH if batch is None else batch, *sizes])


def _attach_weights(graph: ir.Graph, weights: Mapping[str, tuple[str, tf.Tensor]]) -> None:
    """Turn the inputs that stand for weights into initializers that share the weights' memory."""
    used = {v.name for v in graph.inputs}
    for value in list(graph.inputs):
        if value.name not in weights:
            continue
        name, tensor = weights[value.name]
        while name in used:
            name += "#weight"
        used.add(name)
        graph.inputs.remove(value)
        value.name = name
        value.const_value = ir.tensor(_shared(tensor), name=name)
        graph.register_initializer(value)


def _shared(tensor: tf.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's content; that of a weight in host memory is not copied."""
    if tensor.dtype not in (tf.float16, tf.float32, tf.float64):  # numpy takes no bfloat16, TensorFlow lends no bool
        return tensor.numpy()
    with tf.device("/CPU:0"):
        return np.from_dlpack(tf.identity(tensor))


def _refusal(error: BaseException) -> str:
    return (
        f"Keras cannot trace the model: {reason(error)}; write the layers with keras.ops and without Python control "
        f"flow that depends on the data"
    )
