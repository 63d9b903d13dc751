"""Names of layers, and the wrapped ``Layer.__call__`` that collects what each layer computes."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from types import TracebackType

STEPPING = (keras.layers.RNN, keras.layers.TimeDistributed)
"""Layers that call what is inside them once per time step: they are tapped, what is inside them is not."""


def is_numeric(value: object) -> bool:
    """Whether the value is a dense tensor of floats or integers, which is what a layer's value can be."""
    return isinstance(value, tf.Tensor) and (value.dtype.is_floating or value.dtype.is_integer)


def leaves(structure: object, name: str) -> Iterator[tuple[str, tf.Tensor]]:
    """The numeric tensors in nested tuples, lists and mappings, each with its name.

    The k-th entry of a list is ``name:k``, the entry of a mapping ``name:key``. A list of one entry is that entry.
    """
    if is_numeric(structure):
        yield name, structure
    elif isinstance(structure, Mapping):
        for key, child in structure.items():
            yield from leaves(child, f"{name}:{key}")
    elif isinstance(structure, tuple | list):
        for position, child in enumerate(structure):
            yield from leaves(child, f"{name}:{position}" if len(structure) > 1 else name)


class Recorder:
    """While it is entered, every layer's output is kept in :attr:`values`, in the order of completion.

    A layer is called by the path of the layers that called it, the model left out: ``encoder/conv1``; its second call
    is ``encoder/conv1#1``.

    Args:
        model: layers are recorded while it runs; other models and other threads are not.
        wanted: the taps to keep; None keeps all.
        on_path: the values become part of the computation (each is an identity of its own, which later layers read),
            so that it can be differentiated with respect to them.
    """

    def __init__(
        self, model: keras.layers.Layer, wanted: Collection[str] | None = None, *, on_path: bool = False
    ) -> None:
        self.values: dict[str, tf.Tensor] = {}
        self.layers: dict[str, keras.layers.Layer] = {}
        self.names: dict[str, str] = {}
        self._model = model
        self._wanted = wanted
        self._on_path = on_path
        self._calls: Counter[str] = Counter()
        self._path: list[keras.layers.Layer] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        self._original = keras.layers.Layer.__call__

        @functools.wraps(self._original)
        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread or not (self._path or layer is self._model):
                return self._original(layer, *args, **kwargs)
            self._path.append(layer)
            try:
                output = self._original(layer, *args, **kwargs)
                return self._recorded(output) if self._listens() else output
            finally:
                self._path.pop()

        keras.layers.Layer.__call__ = call
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        keras.layers.Layer.__call__ = self._original

    def _listens(self) -> bool:
        return len(self._path) > 1 and not any(isinstance(layer, STEPPING) for layer in self._path[:-1])

    def _recorded(self, output: Any) -> Any:
        name = "/".join(layer.name for layer in self._path[1:])
        call = self._calls[name]
        self._calls[name] += 1
        replaced: dict[int, tf.Tensor] = {}
        for tap, tensor in leaves(output, f"{name}#{call}" if call else name):
            if self._wanted is None or tap in self._wanted:
                self.values[tap] = replaced[id(tensor)] = _identity(tensor) if self._on_path else tensor
                self.layers[tap], self.names[tap] = self._path[-1], name
        if not self._on_path or not replaced:
            return output
        return keras.tree.map_structure(lambda leaf: replaced.get(id(leaf), leaf), output)


def _identity(tensor: tf.Tensor) -> tf.Tensor:
    """A tensor of its own with the same value, and with the mask that Keras hangs on tensors."""
    copy = tf.identity(tensor)
    if (mask := getattr(tensor, "_keras_mask", None)) is not None:
        copy._keras_mask = mask  # noqa: SLF001 - where Keras itself keeps it
    return copy
