"""What is to be converted: a Keras model, and how it is called with named inputs."""

from __future__ import annotations

import inspect
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onnxviz.errors import InputError, UnsupportedModelError
from onnxviz.source import seeded
from onnxviz_keras.quiet import quiet
from onnxviz_keras.taps import leaves

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Example = Any

MISFIT = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ArithmeticError, tf.errors.OpError)
"""What a Keras model raises when its inputs do not fit it."""


MOST_UNPACKED = 50
"""How many times its size an archive may unpack to: Keras packs nothing, and configurations shrink tenfold."""

_OTHER_ARGUMENTS = ("training", "mask", "args", "kwargs")
"""Arguments of ``call`` that are no inputs."""


@dataclass(frozen=True)
class Subject:
    """A model that can be called with its inputs in order.

    Attributes:
        model: the model.
        inputs: public names of the inputs, in the order of the call.
        dtypes: their element types.
        arrange: puts the inputs in the form in which ``call`` takes them.
        open_axes: input → axes behind the batch whose sizes the model leaves open.
    """

    model: keras.layers.Layer
    inputs: tuple[str, ...]
    dtypes: tuple[str, ...]
    arrange: Callable[[Sequence[tf.Tensor]], Arguments]
    open_axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, tensors: Sequence[tf.Tensor]) -> Any:
        """What ``call`` returns in inference mode."""
        args, kwargs = self.arrange(tensors)
        if self.model._call_has_training_arg:  # noqa: SLF001 - Keras has no public word for it
            kwargs = {**kwargs, "training": False}
        return self.model(*args, **kwargs)

    def tensors(self, feeds: Mapping[str, Any]) -> list[tf.Tensor]:
        """The inputs as tensors of the model's types, in the order of the call."""
        return [tf.constant(feeds[name], dtype) for name, dtype in zip(self.inputs, self.dtypes, strict=True)]

    def try_another_batch(self, feeds: Mapping[str, Any]) -> None:
        """Call a model that does not declare its batch to be free with one sample more.

        A number of samples that is written down in the model is not noticed while it is traced.

        Raises:
            MISFIT: the model takes no other batch.
        """
        declared = getattr(self.model, "inputs", None) or ()
        if not declared or any(x.shape[0] is not None for x in declared):
            with keras.StatelessScope():
                self([tf.concat([tensor, tensor[:1]], axis=0) for tensor in self.tensors(feeds)])

    def outputs(self, result: Any, taps: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The tensors that the model returned, under the names that it declares for them, or ``output``.

        Where that name belongs to another value as well, an output that is a layer's is called as the layer's tap, any
        other gets ``#out``.
        """
        found = _named(self.model, result)
        layers = {id(tensor): tap for tap, tensor in taps.items()}
        counts = Counter(name for name, _ in found)
        named: dict[str, tf.Tensor] = {}
        for name, tensor in found:
            clashes = counts[name] > 1 or taps.get(name, tensor) is not tensor
            public = layers.get(id(tensor), f"{name}#out") if clashes else name
            while public in named:
                public += "#out"
            named[public] = tensor
        return named


def _named(model: keras.layers.Layer, result: Any) -> list[tuple[str, tf.Tensor]]:
    """The numeric outputs, each with its key, its declared name, or ``output``, ``output:0`` …"""
    if isinstance(result, Mapping):
        return [leaf for key, child in result.items() for leaf in leaves(child, str(key))]
    found = list(leaves(result, "output"))
    declared = getattr(getattr(model, "_functional", model), "output_names", ())  # a Sequential has a Functional inside
    if len(declared) == len(found):
        found = [(name, tensor) for name, (_, tensor) in zip(declared, found, strict=True)]
    return found


def load(
    path: Path, *, custom_objects: Mapping[str, Any] | None = None, trust_code: bool = False
) -> keras.layers.Layer:
    """The model in a ``.keras``, ``.h5`` or ``.hdf5`` file.

    Raises:
        UnsupportedModelError: the file holds no whole model, code that is not trusted, or objects that are not known.
    """
    if path.suffix == ".keras":
        _require_archive(path)
    try:
        with quiet():
            return keras.saving.load_model(
                path, custom_objects=dict(custom_objects or {}), compile=False, safe_mode=not trust_code
            )
    except (*MISFIT, OSError, zipfile.BadZipFile, RuntimeError, ImportError, MemoryError) as error:
        raise UnsupportedModelError(f"{path.name} {_not_loaded(error)}") from error


def _require_archive(path: Path) -> None:
    """UnsupportedModelError unless the file is an archive that unpacks to about what it says."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise UnsupportedModelError(f"{path.name} is no .keras archive: it is damaged, or of another format") from error
    if unpacked > MOST_UNPACKED * path.stat().st_size:
        raise UnsupportedModelError(
            f"{path.name} would unpack to {unpacked / 2**20:,.0f} MiB, more than {MOST_UNPACKED} times its size, as no "
            f"model does: save it anew"
        )


def _not_loaded(error: BaseException) -> str:
    """What is wrong with a file, and the way out."""
    said = str(error)
    if "safe_mode" in said or "enable_unsafe_deserialization" in said or "unsafe" in said.lower():
        return (
            "holds Python code (a Lambda layer), which would be run: if you trust the file's origin, pass "
            "trust_code=True"
        )
    if "No model config" in said:
        return "holds weights only: build the model, load the weights into it and pass the model"
    if unknown := re.search(r"(?:Could not locate|Unknown) \w+:? '([^']+)'", said):
        name = unknown[1].rpartition(">")[2]
        return f"holds {name!r}, which Keras does not know: if it is yours, pass custom_objects={{{name!r}: {name}}}"
    return f"holds no model that this Keras loads ({reason(error)})"


def of_model(model: keras.layers.Layer, example: Example | None) -> tuple[Subject, dict[str, np.ndarray[Any, Any]]]:
    """The subject that a model is, and the example under the names of its inputs.

    Raises:
        UnsupportedModelError: the model has not been built, or computes in bfloat16.
        InputError: the example is needed, or does not fit.
    """
    if not model.built:
        raise UnsupportedModelError(
            f"the model {model.name!r} has no weights yet; call it once on an example (or build it) before"
        )
    types = {layer.compute_dtype for layer in model._flatten_layers()}  # noqa: SLF001 - Keras has no public word for it
    if "bfloat16" in types:
        raise UnsupportedModelError(
            f"the model {model.name!r} computes in bfloat16, which ONNX Runtime's CPU does not: build it after "
            f"keras.config.set_dtype_policy('float32') and load its weights into that"
        )
    subject, values = _declared(model, example) if _is_functional(model) else _called(model, example)
    arrays = {name: _array(v, name) for name, v in zip(subject.inputs, values, strict=True)}
    dtypes = dict(zip(subject.inputs, subject.dtypes, strict=True))
    return subject, {name: array.astype(tf.as_dtype(dtypes[name]).as_numpy_dtype) for name, array in arrays.items()}


def _is_functional(model: keras.layers.Layer) -> bool:
    """Whether the model declares its inputs: Functional, or a Sequential whose input shape is known."""
    return isinstance(model, keras.Sequential) or hasattr(model, "_inputs_struct")


def _declared(model: keras.Model, example: Example | None) -> tuple[Subject, list[Any]]:
    inputs = list(model.inputs)
    names = tuple(_unique([x._keras_history.operation.name for x in inputs]))  # noqa: SLF001 - as the summary shows
    if isinstance(example, Mapping):
        given = _by_name(example, names)
    elif example is not None:
        given = list(example) if isinstance(example, list | tuple) and len(inputs) > 1 else [example]
        if len(inputs) == 1 and isinstance(given[0], list | tuple) and len(given[0]) == 1:
            given = list(given[0])
    else:
        given = [_drawn(x, name, k) for k, (x, name) in enumerate(zip(inputs, names, strict=True))]
    if len(given) != len(inputs):
        raise InputError(f"the model's inputs are {list(names)}, the example has {len(given)}; give a dict by name")
    structure = getattr(model, "_inputs_struct", None)

    def arrange(tensors: Sequence[tf.Tensor]) -> Arguments:
        if structure is None or (len(tensors) == 1 and not isinstance(structure, Mapping | list | tuple)):
            return (tensors[0],), {}
        return (keras.tree.pack_sequence_as(structure, list(tensors)),), {}

    axes = {
        name: tuple(axis for axis, size in enumerate(x.shape) if axis and size is None)
        for name, x in zip(names, inputs, strict=True)
    }
    return Subject(model, names, tuple(x.dtype for x in inputs), arrange, axes), given


def _by_name(example: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    if set(example) != set(names):
        raise InputError(f"the model's inputs are {list(names)}, the example has {list(example)}")
    return [example[name] for name in names]


def _drawn(declared: Any, name: str, seed: int) -> np.ndarray[Any, Any]:
    """N(0, 1) of the declared shape, the batch of 2."""
    sizes = list(declared.shape)[1:]
    if None in sizes or not keras.backend.is_float_dtype(declared.dtype):
        raise InputError(
            f"input {name!r} is declared as {tuple(declared.shape)} {declared.dtype}: what may stand there cannot be "
            f"drawn at random; give example=… with one or more samples"
        )
    return seeded((declared.shape[0] or 2, *sizes), seed=seed)


def _called(model: keras.layers.Layer, example: Example | None) -> tuple[Subject, list[Any]]:
    """A subclassed model, which declares nothing: the example tells what its inputs are."""
    if example is None:
        raise InputError(
            f"{type(model).__name__} is a subclassed model, which does not declare its inputs; give example=…"
        )
    parameters = [p for p in inspect.signature(model.call).parameters if p not in _OTHER_ARGUMENTS]
    if isinstance(example, Mapping) and set(example) <= set(parameters):
        names, values = tuple(example), list(example.values())
        arrange = lambda tensors: ((), dict(zip(names, tensors, strict=True)))  # noqa: E731 - one of three cases
    elif isinstance(example, tuple) and 1 < len(example) <= len(parameters):
        names, values = tuple(parameters[: len(example)]), list(example)
        arrange = lambda tensors: (tuple(tensors), {})  # noqa: E731 - one of three cases
    else:
        flat = keras.tree.flatten_with_path(example)
        first = parameters[0] if parameters else "inputs"
        names = (first,)
        if isinstance(example, Mapping):
            names = tuple(_unique(["_".join(map(str, path)) for path, _ in flat]))
        elif isinstance(example, list | tuple):
            names = tuple(f"{first}_{k}" for k in range(len(flat)))
        values = [value for _, value in flat]
        arrange = lambda tensors: ((keras.tree.pack_sequence_as(example, list(tensors)),), {})  # noqa: E731
    arrays = [_array(value, name) for name, value in zip(names, values, strict=True)]
    dtypes = tuple("float32" if a.dtype == np.float64 else a.dtype.name for a in arrays)
    return Subject(model, names, dtypes, arrange), arrays


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise InputError(
            f"input {name!r} is a {type(value).__name__} ({array.dtype}, {array.ndim} axes), expected a numeric array "
            f"with the batch first"
        )
    return array


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen[name] = seen.get(name, -1) + 1
        result.append(f"{name}_{count}" if count else name)
    return result


def reason(error: BaseException) -> str:
    """What is wrong, in one line: Keras says before that where it is, and colours it."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    where = "Exception encountered when "
    if len(lines) > 1 and lines[0].startswith(where):
        lines[0] = f"{lines[1].rstrip('.')} ({lines[0].removeprefix(where).rstrip('.')})"
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
