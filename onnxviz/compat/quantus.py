"""Quantus' metrics judge an explainer's maps: importing this module lets them take one in the place of the model.

::

    from onnxviz.compat.quantus import explain_func

    metric = quantus.FaithfulnessCorrelation(nr_runs=100)
    metric(ex, x, y, explain_func=explain_func, explain_func_kwargs={"method": "grad_cam"})

Quantus (github.com/understandable-machine-intelligence-lab/Quantus, 0.6) takes models of PyTorch and Keras alone: its
``get_wrapped_model`` is extended by :class:`Network`, which has what its metrics ask of a model. What Quantus imports
itself is needed besides, no framework. Its inputs stand channels first, whatever the file's layout, and its random
layers are this package's: each weight's own numbers in a random order, not drawn anew (:mod:`onnxviz.trust.weights`).
Not offered: InputInvariance, which shifts the first layer's bias, and SmoothMPRT, which calls no ``explain_func``.
"""

# ruff: noqa: FBT001, FBT002 - the arguments are Quantus'

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import cached_property, wraps
from typing import Any

import numpy as np

from onnxviz.algorithms import explain_by_name
from onnxviz.algorithms.question import Question
from onnxviz.compat.shared import explainer
from onnxviz.engine.core import Engine
from onnxviz.engine.explainer import Explainer
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.engine.targets import Of, choose_output
from onnxviz.errors import LayerError, MissingDependencyError, OptionError, TargetError
from onnxviz.manifest import Manifest, Tensor
from onnxviz.source import Array
from onnxviz.trust.weights import Weighted, randomised, weight_of, weighted_layers

ORDERS = ("top_down", "bottom_up", "independent")


def explain_func(
    model: Any,
    inputs: Any,
    targets: Any,
    *,
    method: str = "saliency",
    of: Of = "logits",
    output: str | None = None,
    sum_channels: bool = False,
    device: object = None,
    **options: Any,
) -> Array:
    """Maps of any method, as Quantus' ``explain_func`` returns them: (N, *spatial), or like the inputs, channels first.

    Args:
        model: what Quantus hands over, or an explainer.
        inputs: (N, …); from Quantus channels first, with an explainer as its file has them.
        targets: a class for each sample.
        method: its name, see :func:`onnxviz.methods`.
        of: see :class:`onnxviz.Explainer`.
        output: see :class:`onnxviz.Explainer`.
        sum_channels: whether to add a map's channels up, as Quantus' own functions do: (N, 1, *spatial). Its metrics of
            localisation want a number for each place.
        device: Quantus' argument; the explainer has its own.
        options: of the method.

    Raises:
        OptionError: an unknown method or option, or no explainer.
    """
    del device
    network = model if isinstance(model, Network) else Network(explainer("model", model).engine)
    x = array(inputs)
    given = network.own(x) if isinstance(model, Network) else x
    question = Question(network.model, given, np.asarray(targets).astype(np.int64), output, of)
    found = explain_by_name(question, method, options)
    if "channel" not in found.axes:
        return found.values
    maps = np.ascontiguousarray(np.moveaxis(found.values, found.axes.index("channel"), 1))
    return np.asarray(maps.sum(1, keepdims=True)) if sum_channels and maps.ndim > 2 else maps


class Network:
    """What Quantus asks of a model (its ``ModelInterface``), answered by an engine.

    Args:
        engine: of an explainer, or with other weights.
        softmax: whether predictions are probabilities: the softmax of the logits. Else they are the logits.
    """

    channel_first = True

    def __init__(self, engine: Engine, *, softmax: bool = False) -> None:
        self.model = engine
        self.softmax = softmax
        self.model_predict_kwargs: dict[str, Any] = {}
        if len(self._manifest.inputs) != 1:
            names = ", ".join(tensor.name for tensor in self._manifest.inputs)
            raise OptionError(f"Quantus gives its models one input; this one takes {names}")

    # ----- Quantus' interface -----

    def predict(self, x: Any, **_: Any) -> Array:
        """Logits, or probabilities, (N, classes)."""
        output = choose_output(self._manifest, None)
        if len(output.logits_shape) != 2:
            raise TargetError(f"Quantus judges scores (N, classes); output {output.name!r} has {output.logits_shape}")
        logits = self._values(
            x, [Tensor("logits", output.logits, output.dtype, output.logits_shape, output.logits_axes)]
        )[0]
        if not self.softmax:
            return logits
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def shape_input(
        self,
        x: Array,
        shape: Sequence[int],
        channel_first: bool | None = None,
        batched: bool = False,
    ) -> Array:
        """Of that shape, with a batch axis, channels first: :meth:`predict` and :func:`explain_func` turn them."""
        del channel_first
        return x.reshape(tuple(shape) if batched else (1, *shape))

    def get_model(self) -> Network:
        """What :func:`explain_func` gets as its model."""
        return self

    def get_softmax_arg_model(self) -> Network:
        """The same: ``softmax`` says what predictions are."""
        return self

    def state_dict(self) -> dict[str, Array]:
        """The learned arrays by the names of the file's initializers."""
        return {name: weight_of(self.model, name) for group in self._learned for name in group.names}

    def get_random_layer_generator(self, order: str = "top_down", seed: int = 42) -> Iterator[tuple[str, Network]]:
        """Layer after layer with its weights in a random order, from the output, from the input, or each alone."""
        if order not in ORDERS:
            raise OptionError(f"order={order!r}: expected one of {', '.join(ORDERS)}")
        groups = self._learned[::-1] if order == "top_down" else self._learned
        for i, group in enumerate(groups):
            engine = randomised(self.model, [group] if order == "independent" else groups[: i + 1], seed)
            yield group.layer, Network(engine, softmax=self.softmax)
            engine.close()

    @property
    def random_layer_generator_length(self) -> int:
        """How many layers have learned anything."""
        return len(self._learned)

    def get_hidden_representations(
        self, x: Any, layer_names: Sequence[str] | None = None, layer_indices: Sequence[int] | None = None
    ) -> Array:
        """Outputs of layers side by side, (N, numbers): of those named or numbered, or of all with a batch axis."""
        table = self._manifest.layers
        chosen = [t for t in table if t.name in (layer_names or ())] + [table[i] for i in layer_indices or ()]
        if missing := set(layer_names or ()) - {layer.name for layer in table}:
            raise LayerError(f"there is no layer {min(missing)!r}")
        layers = chosen if layer_names or layer_indices else [layer for layer in table if layer.axes.batch is not None]
        values = self._values(x, layers)
        rows = [np.moveaxis(v, t.axes.batch or 0, 0) for v, t in zip(values, layers, strict=True)]
        return np.concatenate([row.reshape(len(row), -1) for row in rows], 1)

    def add_mean_shift_to_first_layer(self, input_shift: float, shape: Sequence[int]) -> Network:
        """Refused: it is not known how a file's first layer takes a shift of its input."""
        raise OptionError(
            f"a first layer that takes its input shifted (input_shift={input_shift}, shape={tuple(shape)}) is not "
            f"offered: leave Quantus' InputInvariance out"
        )

    # ----- the network -----

    def own(self, x: Array) -> Array:
        """Channels from where Quantus has them to where the file has them."""
        tensor = self._manifest.inputs[0]
        channel = tensor.axes.channel
        turned = x if channel is None or x.ndim < 3 else np.moveaxis(x, 1, channel)
        return turned.astype(tensor.dtype) if np.issubdtype(x.dtype, np.floating) else turned

    @property
    def _manifest(self) -> Manifest:
        return self.model.bundle.manifest

    @cached_property
    def _learned(self) -> tuple[Weighted, ...]:
        return weighted_layers(self.model)

    def _values(self, x: Any, tensors: Sequence[Tensor]) -> list[Array]:
        feeds, batch = as_feeds(self.own(array(x)), self._manifest)
        values = self.model.values(feeds, [t.value for t in tensors], batch, {t.value: t.axes.batch for t in tensors})
        return [np.asarray(values[t.value], np.float32) for t in tensors]


def _register() -> None:
    """Let Quantus take explainers, besides what it takes."""
    try:
        utils: Any = importlib.import_module("quantus.helpers.utils")
        interface = importlib.import_module("quantus.helpers.model.model_interface").ModelInterface
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this module needs {error.name!r}, which is not installed: pip install quantus"
        ) from error
    original = utils.get_wrapped_model

    @wraps(original)
    def get_wrapped_model(model: Any, channel_first: bool, softmax: bool, *arguments: Any, **named: Any) -> Any:
        if isinstance(model, Explainer | Network):
            engine = model.engine if isinstance(model, Explainer) else model.model
            return Network(engine, softmax=bool(softmax))
        return original(model, channel_first, softmax, *arguments, **named)

    utils.get_wrapped_model = get_wrapped_model
    interface.register(Network)


_register()
