"""Keras models as :class:`~onnxviz.source.Source`: every layer's output under its own name, in Keras's own layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from onnxviz.errors import InputError, OptionError, UnsupportedModelError
from onnxviz.source import OpenSizes, Source, Tap, open_axes, selected
from onnxviz_keras.quiet import quiet


def _require_tensorflow(backend: str) -> None:
    if backend != "tensorflow":
        raise UnsupportedModelError(
            f"Keras runs on {backend!r} here; only models on TensorFlow are taken. Set the environment variable "
            f"KERAS_BACKEND=tensorflow before keras is imported, and load the saved model there"
        )


_require_tensorflow(os.environ.get("KERAS_BACKEND", "tensorflow"))  # with another, importing keras may fail
with quiet():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for devices, and tells of it, at the first use
    _require_tensorflow(keras.backend.backend())
    from onnxviz_keras.export import export
    from onnxviz_keras.reference import KerasReference
    from onnxviz_keras.subject import MISFIT, Subject, load, of_model, reason
    from onnxviz_keras.taps import STEPPING, Recorder

__all__ = ["source"]


def source(
    model: keras.layers.Layer | str | PathLike[str],
    *,
    example: Any = None,
    layers: str | Sequence[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    open_sizes: OpenSizes = None,
) -> Source:
    """The model in inference mode as an ONNX graph in which every layer's output is an output.

    Args:
        model: a Functional, Sequential or subclassed model, or the path of a ``.keras``, ``.h5`` or ``.hdf5`` file. It
            is left as it was.
        example: inputs for one call, with the batch first: an array, a list of them, or a dict by name. Needed by
            subclassed models, integer inputs and unknown sizes.
        layers: names or patterns (``block5_*``) of the layers to tap; None means all of them. All calls and all parts
            of a layer's output belong to its name.
        custom_objects: name → class or function of what Keras does not know in the file.
        trust_code: whether Python code in the file (Lambda layers) may be run.
        open_sizes: which sizes stay open that the model declares as None, see :func:`onnxviz.source.open_axes`.

    Raises:
        UnsupportedModelError: no model that can be loaded or traced.
        UnsupportedOperatorError: an operator has no translation to ONNX.
        InputError: the example is missing or does not fit.
        LayerError: a name in ``layers`` that no computed layer has.
        OptionError: ``custom_objects`` for a model that is not a file.
    """
    if isinstance(model, str | PathLike):
        model = load(Path(model), custom_objects=custom_objects, trust_code=trust_code)
    elif custom_objects is not None:
        raise OptionError("custom_objects= is for loading a file; the model that was given is loaded already")
    subject, inputs = of_model(model, example)
    computed = _rehearse(subject, inputs)
    known = {layer.name for layer in model._flatten_layers(include_self=False)}  # noqa: SLF001 - no public word for it
    taps = selected(layers, computed.names, known)
    opened = open_axes(open_sizes, {name: axes for name, axes in subject.open_axes.items() if axes}, {})
    graph, outputs, values, notes = export(subject, inputs, taps, opened)
    return Source(
        model=graph,
        outputs=outputs,
        taps=[Tap(name, value, *_described(computed.layers[name])) for name, value in values.items()],
        framework="keras",
        versions={"keras": keras.__version__, "tensorflow": tf.__version__, "tf2onnx": version("tf2onnx")},
        example=inputs,
        reference=KerasReference(subject, tuple(taps)),
        notes=notes,
    )


def _rehearse(subject: Subject, inputs: Mapping[str, Any]) -> Recorder:
    """The layers that one call computes, by their names and in their order."""
    with quiet(), keras.StatelessScope(), Recorder(subject.model) as recorder:
        try:
            result = subject(subject.tensors(inputs))
        except MISFIT as error:
            shapes = ", ".join(f"{name} {x.shape} {x.dtype}" for name, x in inputs.items())
            raise InputError(
                f"the model cannot be called with the example ({shapes}): {reason(error)}; "
                f"give example=… as the model takes it"
            ) from error
    if not subject.outputs(result, recorder.values):
        raise UnsupportedModelError("the model returns no float or integer tensor")
    return recorder


def _described(layer: keras.layers.Layer) -> tuple[str, int]:
    """The layer's type and the number of its own trainable numbers; with those inside it if these are not tapped."""
    inner = layer._flatten_layers(include_self=False)  # noqa: SLF001 - Keras has no public word for it
    own = [layer, *inner] if isinstance(layer, STEPPING) else [layer]
    variables = {id(v): v for part in own for v in part._trainable_variables}  # noqa: SLF001 - trainable or frozen
    return type(layer).__name__, sum(int(v.value.shape.num_elements()) for v in variables.values())
