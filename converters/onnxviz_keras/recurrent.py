"""Recurrent layers, which tf2onnx would write as loops: as ONNX's own operators, or step by step."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onnxviz.errors import UnsupportedModelError

STAND_IN = "PyFuncStateless"
"""The TensorFlow operator that stands for a recurrent one until :func:`written` replaces it. It is never run."""

_LOOPS = tuple(
    layer.inner_loop for layer in (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
)

_ACTIVATIONS: dict[Callable[..., Any], tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    keras.activations.tanh: ("Tanh", (), ()),
    keras.activations.sigmoid: ("Sigmoid", (), ()),
    keras.activations.relu: ("Relu", (), ()),
    keras.activations.softplus: ("Softplus", (), ()),
    keras.activations.softsign: ("Softsign", (), ()),
    keras.activations.elu: ("Elu", (1.0,), ()),
    keras.activations.leaky_relu: ("LeakyRelu", (0.2,), ()),
    keras.activations.hard_sigmoid: ("HardSigmoid", (1 / 6,), (0.5,)),
    keras.activations.linear: ("Affine", (1.0,), (0.0,)),
}
"""Keras's activation → ONNX's name for it, its α and its β, of which most have none."""


@dataclass(frozen=True)
class _Kind:
    """How a Keras cell becomes an ONNX operator.

    Attributes:
        operator: ONNX's name.
        gates: in ONNX's order, the position of each gate in Keras's.
        activations: the cell's attributes that hold ONNX's activations, in their order.
    """

    operator: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]


_KINDS = {
    keras.layers.SimpleRNNCell: _Kind("RNN", (0,), ("activation",)),
    keras.layers.GRUCell: _Kind("GRU", (0, 1, 2), ("recurrent_activation", "activation")),
    keras.layers.LSTMCell: _Kind("LSTM", (0, 3, 1, 2), ("recurrent_activation", "activation", "activation")),
}


@dataclass(frozen=True)
class _Operator:
    """An ONNX operator that computes a layer's loop, with its weights W, R and B in ONNX's layout."""

    kind: str
    attributes: Mapping[str, Any]
    weights: Sequence[tf.Tensor]
    backwards: bool

    def __call__(
        self, sequences: tf.Tensor, states: Sequence[tf.Tensor], lengths: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The output of every step, from the first to the last also where the loop runs backwards; the last states.

        Args:
            sequences: (batch, time, features).
            states: what the loop starts from, each (batch, units).
            lengths: for each sample the number of steps, where it is not all; what follows them is zero.
        """
        limits = [] if lengths is None else [lengths]
        initial = [] if all(map(_is_zero, states)) else [tf.expand_dims(state, 0) for state in states]
        steps, *last = tf.raw_ops.PyFuncStateless(
            input=[tf.transpose(sequences, [1, 0, 2]), *self.weights, *limits, *initial],
            token=json.dumps({"op_type": self.kind, "attr": self.attributes, "lengths": lengths is not None}),
            Tout=[tf.float32] * (1 + len(states)),
            name=self.kind,
        )
        batch, time, units = sequences.shape[0], sequences.shape[1], states[0].shape[1]
        outputs = tf.transpose(tf.squeeze(tf.ensure_shape(steps, [time, 1, batch, units]), [1]), [1, 0, 2])
        last = [tf.squeeze(tf.ensure_shape(state, [1, batch, units]), [0]) for state in last]
        if lengths is not None and initial:
            last = [tf.where(lengths[:, None] > 0, *pair) for pair in zip(last, states, strict=True)]
        return outputs, last

    def masked(
        self, sequences: tf.Tensor, states: Sequence[tf.Tensor], mask: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The same where a step is left out if its mask (batch, time) is not set: it passes the output before it on.

        ONNX can leave out the end of a sequence only. So the steps that count are moved to its front, in their order,
        and each output is fetched from where its step, or the one before it, went; zeros where there is none before.
        """
        time = keras.ops.shape(mask)[1]
        counts = tf.cast(mask, tf.int32)
        so_far = tf.cumsum(counts, axis=1)
        rank = tf.cast(counts * time - tf.range(time), tf.float32)  # as floats, to which tf2onnx would cast integers
        order = tf.math.top_k(rank, k=time).indices
        outputs, last = self(tf.gather(sequences, order, batch_dims=1), states, so_far[:, -1])
        # Beyond a sequence's length the outputs are zero, so they are also at the last place if any step is left out.
        place = so_far - counts if self.backwards else tf.where(so_far > 0, so_far - 1, time - 1)
        return tf.gather(outputs, place, batch_dims=1), last


def _is_zero(state: tf.Tensor) -> bool:
    """Whether it is what ``get_initial_state`` makes, which is also what ONNX starts from when nothing is given."""
    filled = tf.is_symbolic_tensor(state) and state.op.type == "Fill"
    value = tf.get_static_value(state.op.inputs[1] if filled else state)
    return value is not None and not np.any(value)


@contextlib.contextmanager
def traceable(model: keras.layers.Layer) -> Iterator[None]:
    """Inside, a recurrent layer is traced as an ONNX operator where one computes the same, else step by step.

    Other cells and other activations are traced step by step. A stateful layer starts from the states that it holds
    now. Dropout, which inference has not, is off: its masks would stay in the cell if tracing failed.

    Raises:
        UnsupportedModelError: from the trace; a layer can only be traced step by step and the number is not known.
        ValueError: from the trace; the batch is symbolic, and a layer keeps the states of a number of samples.
    """
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():  # noqa: SLF001 - Keras has no public word for it
            if isinstance(layer, keras.layers.RNN):
                stack.enter_context(_replaced(layer, inner_loop=_loop(layer), **_kept_states(layer)))
            elif hasattr(layer, "get_dropout_mask"):
                stack.enter_context(_replaced(layer, dropout=0.0, recurrent_dropout=0.0))
        yield


@contextlib.contextmanager
def _replaced(layer: keras.layers.Layer, **attributes: Any) -> Iterator[None]:
    """Inside, the layer has other attributes; past Keras, which would track them, and forbids that once it is built."""
    own = vars(layer)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


def _kept_states(layer: keras.layers.RNN) -> dict[str, Any]:
    """For a stateful layer, what makes it one that starts from its present states."""
    if not layer.stateful:
        return {}
    states = keras.tree.map_structure(lambda state: tf.constant(state.numpy()), list(layer.states))
    return {"stateful": False, "get_initial_state": lambda **_: states}


def _loop(layer: keras.layers.RNN) -> Callable[..., tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]]:
    """What takes the place of ``layer.inner_loop``: (last output, outputs, last states)."""
    operator, stateful = _operator(layer), layer.stateful

    def loop(
        sequences: tf.Tensor, initial_state: Any, mask: Any, **training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        if stateful and sequences.shape[0] is None:
            raise ValueError(f"{_called(layer)} is stateful: it keeps the states of a fixed number of samples")
        mask = next(iter(keras.tree.flatten(mask)), None)  # one for the sequences, then those of the initial states
        if operator is not None:
            return _computed(layer, operator, sequences, initial_state, mask)
        if sequences.shape[1] is None:
            raise _unknown_steps(layer)
        with _replaced(layer, unroll=True, use_cudnn=False):
            return type(layer).inner_loop(layer, sequences, initial_state, mask, **training)

    return functools.wraps(layer.inner_loop)(loop)


def _computed(
    layer: keras.layers.RNN, operator: _Operator, sequences: tf.Tensor, states: Sequence[tf.Tensor], mask: Any
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """What ``layer.inner_loop`` returns, by the operator: outputs are in the order in which the loop computes them."""
    if mask is None:
        outputs, last = operator(sequences, states)
        return last[0], tf.reverse(outputs, [1]) if operator.backwards else outputs, last
    mask = tf.cast(mask, tf.bool)
    outputs, last = operator.masked(sequences, states, mask)
    if layer.zero_output_for_mask:
        outputs = tf.where(mask[..., tf.newaxis], outputs, 0.0)
    if operator.backwards:
        outputs = tf.reverse(outputs, [1])
    return outputs[:, -1], outputs, last


def _called(layer: keras.layers.Layer) -> str:
    return f"layer {layer.name!r} ({type(layer).__name__})"


def _unknown_steps(layer: keras.layers.RNN) -> UnsupportedModelError:
    known = ", ".join(sorted(activation.__name__ for activation in _ACTIVATIONS))
    error = UnsupportedModelError(
        f"{_called(layer)} has a cell or an activation that ONNX's recurrent operators do not have, so that it must be "
        f"written step by step, but the number of steps is not known in front of it. Put a Reshape there that says it, "
        f"or use LSTM, GRU or SimpleRNN in float32 with these activations: {known}"
    )
    error._keras_call_info_injected = True  # noqa: SLF001 - Keras lets what is marked so pass as it is
    return error


def _operator(layer: keras.layers.RNN) -> _Operator | None:
    """The operator that computes what the layer's loop does when there is no mask; None if ONNX has none."""
    cell = layer.cell
    kind = _KINDS.get(type(cell))
    if kind is None or type(layer).inner_loop not in _LOOPS or cell.compute_dtype != "float32" or not cell.built:
        return None
    functions = [_ACTIVATIONS.get(getattr(cell, name)) for name in kind.activations]
    if None in functions:
        return None
    names, alphas, betas = zip(*functions, strict=True)
    attributes = {
        "hidden_size": cell.units,
        "direction": "reverse" if layer.go_backwards else "forward",
        "activations": names,
        "activation_alpha": sum(alphas, ()),
        "activation_beta": sum(betas, ()),
        "linear_before_reset": int(getattr(cell, "reset_after", False)),
    }
    attributes = {name: value for name, value in attributes.items() if value}  # ONNX has no type for an empty list
    return _Operator(kind.operator, attributes, _weights(cell, kind.gates), layer.go_backwards)


def _weights(cell: keras.layers.Layer, gates: Sequence[int]) -> list[tf.Tensor]:
    """W (1, gates · units, features), R (1, gates · units, units) and B (1, 2 · gates · units) of ONNX.

    They are tensors from outside the trace, so that they become inputs of the traced function, as other weights are.
    """

    def arranged(weight: tf.Tensor) -> tf.Tensor:
        parts = tf.split(weight, len(gates), axis=-1)
        return tf.concat([parts[gate] for gate in gates], axis=-1)

    kernels = [tf.transpose(arranged(k.value))[tf.newaxis] for k in (cell.kernel, cell.recurrent_kernel)]
    size = len(gates) * cell.units
    bias = tf.zeros(size) if cell.bias is None else tf.convert_to_tensor(cell.bias.value)
    if bias.shape.rank == 1:
        bias = tf.stack([bias, tf.zeros(size)])
    return [*kernels, tf.reshape(arranged(bias), [1, 2 * size])]


def written(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """Replace the stand-in by the ONNX operator, in tf2onnx's graph: a handler as ``tf2onnx`` takes it."""
    told = json.loads(node.get_attr_value("token"))
    x, w, r, b, *others = node.input
    if others and not told["lengths"]:
        others.insert(0, "")
    outputs, shapes, dtypes = list(node.output), node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(
        told["op_type"],
        [x, w, r, b, *others],
        attr=told["attr"],
        outputs=outputs,
        shapes=shapes,
        dtypes=dtypes,
        name=node.name,
    )
