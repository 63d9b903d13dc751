"""The Keras model, asked for the numbers that the file must reproduce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onnxviz.errors import LayerError
from onnxviz.source import Array, Feeds, Request
from onnxviz_keras.quiet import quiet
from onnxviz_keras.subject import Subject
from onnxviz_keras.taps import Recorder

Names = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
"""For each request the names that it is about: of what, with respect to what."""


@dataclass(frozen=True)
class KerasReference:
    """Runs and differentiates the model in inference mode, and leaves it as it was (``onnxviz.source.Reference``).

    Attributes:
        subject: the model.
        taps: names of the layers of interest.
    """

    subject: Subject
    taps: tuple[str, ...]
    _traced: dict[Names, Any] = field(default_factory=dict, repr=False, compare=False)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Values of all outputs and taps, computed eagerly; where both share a name, the output."""
        with quiet(), keras.StatelessScope(), Recorder(self.subject.model, self.taps, on_path=True) as recorder:
            result = self.subject(self.subject.tensors(feeds))
        outputs = self.subject.outputs(result, recorder.values)
        return {name: tensor.numpy() for name, tensor in (recorder.values | outputs).items()}

    def gradients(self, feeds: Feeds, requests: Sequence[Request]) -> Iterable[dict[str, Array]]:
        """Vector-Jacobian products by TensorFlow's differentiation of one forward pass.

        It is ``tf.gradients`` in a traced function: a ``GradientTape`` goes back to the very beginning for every
        request, which is too slow where each of several hundred layers is asked about.

        Raises:
            LayerError: a name that is no float input, output or tap.
        """
        asked = tuple((tuple(of), tuple(wrt)) for of, wrt in requests)
        with quiet():
            if asked not in self._traced:
                self._traced[asked] = tf.function(partial(self._answers, asked), autograph=False)
            arguments = self.subject.tensors(feeds), [[tf.constant(c) for c in of.values()] for of, _ in requests]
            # A concrete function is a graph even where tf.config.run_functions_eagerly holds.
            found = self._traced[asked].get_concrete_function(*arguments)(*arguments)
        return [
            {name: _array(gradient) for name, gradient in zip(wrt, gradients, strict=True)}
            for (_, wrt), gradients in zip(asked, found, strict=True)
        ]

    def _answers(
        self, asked: Names, inputs: list[tf.Tensor], cotangents: list[list[tf.Tensor]]
    ) -> list[list[tf.Tensor]]:
        """The graph that :meth:`gradients` runs; it is traced once for the same names and shapes."""
        with keras.StatelessScope(), Recorder(self.subject.model, self.taps, on_path=True) as recorder:
            outputs = self.subject.outputs(self.subject(inputs), recorder.values)
        values = recorder.values | outputs
        sources = dict(zip(self.subject.inputs, inputs, strict=True)) | recorder.values
        _refuse_others((name for of, wrt in asked for name in (*of, *wrt)), values | sources)
        return [
            tf.gradients(
                [values[name] for name in of],
                [sources[name] for name in wrt],
                given,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for (of, wrt), given in zip(asked, cotangents, strict=True)
        ]


def _refuse_others(wanted: Iterable[str], known: dict[str, Any]) -> None:
    for name in wanted:
        if name not in known or not known[name].dtype.is_floating:
            what = "is not a float" if name in known else "is unknown"
            raise LayerError(f"{name!r} {what}, so it has no gradient")


def _array(gradient: tf.Tensor | tf.IndexedSlices) -> Array:
    return np.asarray(tf.convert_to_tensor(gradient))
