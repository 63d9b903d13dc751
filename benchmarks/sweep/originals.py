"""The model as its framework runs it, asked for one layer's gradient.

Nothing here is taken from the converters: a hook of PyTorch's, a tape of TensorFlow's, and for an ``.onnx`` file the
file itself, cut at the layer, whose slopes ONNX Runtime measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

if TYPE_CHECKING:
    import keras
    from torch import Tensor, nn

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-7)
"""Of finite differences, relative to the layer's own size: large ones cross kinks, small ones drown in
rounding but for logarithms of next to nothing."""


@dataclass(frozen=True)
class Difference:
    """How far one gradient is from another, relative to the other's largest absolute value."""

    largest: float
    median: float
    cosine: float

    @classmethod
    def between(cls, got: Array, expected: Array) -> Difference:
        """Of arrays of one shape."""
        assert got.shape == expected.shape, (got.shape, expected.shape)
        a, b = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
        error = np.abs(a - b) / (np.abs(b).max() or 1.0)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return cls(float(error.max()), float(np.median(error)), float(a @ b) / norms if norms else 0.0)


class Original(Protocol):
    """What :mod:`benchmarks.sweep.middle` asks.

    Attributes:
        by: what the gradient is compared with.
        everywhere: the largest difference, on one input at least.
        usually: the median difference.
    """

    by: str
    everywhere: float
    usually: float

    def knows(self, layer: str) -> bool:
        """Whether the layer is one float tensor that can be differentiated by."""
        ...

    def logits(self, output: str) -> str | None:
        """What stands before the softmax or sigmoid that an output ends in, where that has a name."""
        ...

    def difference(self, feeds: Feeds, layer: str, output: str, weights: Array, gradient: Array) -> Difference | None:
        """How far a gradient of Σ weights · output with respect to a layer is from the original's; None if rounding
        hides it.
        """
        ...


def original_of(model: Any) -> Original:
    """The one for this kind of model."""
    if isinstance(model, Path):
        return OnnxFile(model)
    ancestors = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    return KerasModel(model) if "keras.Model" in ancestors else TorchModule(model)


class TorchModule:
    """A module, by a forward hook and autograd."""

    by, everywhere, usually = "autograd", 1e-4, 1e-6

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval()
        self._modules = dict(model.named_modules())

    def knows(self, layer: str) -> bool:
        """A module that returns one tensor: calls after the first and parts of a structure have other names."""
        return layer in self._modules

    def logits(self, output: str) -> None:
        """They have no name: the gradient is that of the output."""

    def difference(self, feeds: Feeds, layer: str, output: str, weights: Array, gradient: Array) -> Difference:
        """By ``torch.autograd.grad``."""
        import torch

        tensors = {name: torch.from_numpy(array.copy()) for name, array in feeds.items()}
        for tensor in tensors.values():
            tensor.requires_grad_(tensor.is_floating_point())
        with torch.enable_grad(), self._kept(layer) as kept:
            found = _part(self.model(**tensors), output)
            score = (found * torch.from_numpy(weights)).sum()
        return Difference.between(gradient, torch.autograd.grad(score, kept[0])[0].numpy())

    @contextmanager
    def _kept(self, layer: str) -> Iterator[list[Tensor]]:
        """The layer's output at its calls: copies that are its own where it hands on its input, and that nothing
        overwrites, since the model goes on with further ones.
        """
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, result: Tensor) -> Tensor:
            kept.append(result.clone())
            return kept[-1].clone()

        handle = self._modules[layer].register_forward_hook(keep)
        try:
            yield kept
        finally:
            handle.remove()


def _part(result: Any, name: str) -> Tensor:
    """An output by its public name: ``logits`` of a mapping, ``output:0`` of a tuple."""
    first, *rest = name.split(":")
    whole = result[first] if isinstance(result, Mapping) else result
    part: Tensor = reduce(lambda inner, key: inner[int(key) if key.isdigit() else key], rest, whole)
    return part


class KerasModel:
    """A model with one output, by a tape."""

    by, everywhere, usually = "autograd", 1e-4, 1e-6

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._layers = {layer.name: layer for layer in model.layers}

    def knows(self, layer: str) -> bool:
        """A layer of the model itself: those in others, calls after the first and parts of outputs have other names."""
        return layer in self._layers

    def logits(self, output: str) -> None:
        """They have no name: the gradient is that of the output."""

    def difference(self, feeds: Feeds, layer: str, output: str, weights: Array, gradient: Array) -> Difference:
        """By ``tf.GradientTape``."""
        import tensorflow as tf

        given = [tf.constant(array) for array in feeds.values()]
        with tf.GradientTape() as tape, self._kept(layer) as kept:
            tape.watch([tensor for tensor in given if tensor.dtype.is_floating])
            found = self.model(given if len(given) > 1 else given[0], training=False)
            score = tf.reduce_sum((found[output] if isinstance(found, Mapping) else found) * weights)
        return Difference.between(gradient, np.asarray(tape.gradient(score, kept[0])))

    @contextmanager
    def _kept(self, layer: str) -> Iterator[list[Any]]:
        """What the layer returns at its calls."""
        kept, computed = [], self._layers[layer].call

        def call(*args: Any, **options: Any) -> Any:
            kept.append(computed(*args, **options))
            return kept[-1]

        with patch.object(self._layers[layer], "call", call):
            yield kept


class OnnxFile:
    """A file, by the slopes of its outputs when it is cut at the layer."""

    by, everywhere, usually = "finite differences", 1e-2, 1e-2

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self._producers = {name: node for node in self.model.graph.node for name in node.output}
        self._sessions: dict[tuple[str, str], onnxruntime.InferenceSession] = {}

    def knows(self, layer: str) -> bool:
        """A value that a node with no other output computes."""
        return layer in self._producers and list(self._producers[layer].output) == [layer]

    def logits(self, output: str) -> str:
        """The input of the last softmax or sigmoid: after it saturated outputs have no slope."""
        node = self._producers[output]
        while node.op_type not in ("Softmax", "LogSoftmax", "Sigmoid"):
            node = self._producers[node.input[0]]
        return str(node.input[0])

    def difference(self, feeds: Feeds, layer: str, output: str, weights: Array, gradient: Array) -> Difference | None:
        """Along the gradient and random halves of it: of a function of many numbers a random slope is next to nothing.

        The largest and the median of the three, each at the best of several steps. None where the rounding of the
        output is no tiny part of what the largest step gains, since what is rounded on the way there is many times
        that: so it is behind constant weights, as of a mere topology.
        """
        value = self._run(feeds, "", layer)

        def terms(moved: Array) -> Array:
            found = self._run({**feeds, layer: moved.astype(value.dtype)}, layer, output)
            return found.astype(np.float64).ravel() * weights.ravel()

        noise = float(np.finfo(np.float32).eps * np.linalg.norm(terms(value)))
        rng, errors = np.random.default_rng(0), []
        for kept in (np.ones(gradient.shape), *(rng.integers(0, 2, gradient.shape) for _ in range(2))):
            direction = gradient.astype(np.float64) * kept
            predicted = float((gradient * direction).sum())
            size = (np.linalg.norm(value) or 1.0) / np.linalg.norm(direction)
            steps = [step * size for step in STEPS]
            if noise > 1e-5 * 2 * steps[0] * predicted:
                return None
            rises = [(terms(value + step * direction) - terms(value - step * direction)).sum() for step in steps]
            slopes = [rise / (2 * step) for rise, step in zip(rises, steps, strict=True)]
            errors.append(min(abs(slope / predicted - 1) for slope in slopes))
        return Difference(max(errors), float(np.median(errors)), 1.0)

    def _run(self, feeds: Feeds, given: str, wanted: str) -> Array:
        """A value of the graph, where ``given`` (if any) is fed and not computed."""
        if (given, wanted) not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # that initializers are no longer used
            self._sessions[given, wanted] = onnxruntime.InferenceSession(
                self._cut(given, wanted).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        session = self._sessions[given, wanted]
        names = {tensor.name for tensor in session.get_inputs()}
        (value,) = session.run([wanted], {name: array for name, array in feeds.items() if name in names})
        return np.asarray(value)

    def _cut(self, given: str, wanted: str) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        del graph.output[:]
        graph.output.append(onnx.ValueInfoProto(name=wanted))
        kept, needed = [], {wanted}
        for node in reversed(self.model.graph.node):
            if needed.intersection(node.output) and given not in node.output:
                kept.append(node)
                needed.update(_read(node))
        del graph.node[:]
        graph.node.extend(reversed(kept))
        if given:
            graph.input.append(onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, None))
        return model


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, also in the bodies of control flow."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)
