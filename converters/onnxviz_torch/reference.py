"""The PyTorch network, asked for the numbers that the file must reproduce."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from onnxviz.errors import LayerError
from onnxviz.source import Array, Feeds, Request
from onnxviz_torch.state import laid_open
from onnxviz_torch.subject import Subject
from onnxviz_torch.taps import Recorder, named_outputs


@dataclass(frozen=True)
class TorchReference:
    """Runs and differentiates the network in eval mode, and leaves it as it was (``onnxviz.source.Reference``).

    Attributes:
        subject: the network.
        taps: names of the layers of interest.
    """

    subject: Subject
    taps: tuple[str, ...]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Values of all outputs and taps; where both share a name, the output."""
        tensors = self._tensors(feeds)
        with laid_open(self.subject.model), torch.inference_mode(mode=False), torch.no_grad():
            with Recorder(self.subject.names, self.taps) as recorder:
                outputs = named_outputs(self.subject(list(tensors.values())))
            return {name: as_array(tensor) for name, tensor in (recorder.values | outputs).items()}

    def gradients(self, feeds: Feeds, requests: Sequence[Request]) -> list[dict[str, Array]]:
        """Vector-Jacobian products of one forward pass by ``torch.autograd.grad``; nothing accumulates in parameters.

        Raises:
            LayerError: a name that is no float input, output or tap.
        """
        model, names = self.subject.model, self.subject.names
        wanted = {name for of, wrt in requests for name in (*of, *wrt)}
        with (
            laid_open(model),
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autograd.graph.allow_mutation_on_saved_tensors(),
        ):
            inputs = {name: _differentiable(tensor) for name, tensor in self._tensors(feeds).items()}
            with Recorder(names, wanted, on_path=True) as recorder:
                outputs = named_outputs(self.subject(list(inputs.values())))
            answers = []
            for of, wrt in requests:
                values = _floats(recorder.values | outputs, of)
                sources = _floats(recorder.values | inputs, wrt)
                cotangents = [torch.from_numpy(of[name].copy()).to(value) for name, value in values.items()]
                found = _gradients(list(values.values()), cotangents, list(sources.values()))
                answers.append(dict(zip(wrt, found, strict=True)))
            return answers

    def gradient(self, feeds: Feeds, of: Mapping[str, Array], wrt: Sequence[str]) -> dict[str, Array]:
        """The answer to a single request."""
        return self.gradients(feeds, [(of, wrt)])[0]

    def _tensors(self, feeds: Feeds) -> dict[str, torch.Tensor]:
        return {name: self.subject.tensor(feeds[name], name) for name in self.subject.inputs}


def _gradients(
    values: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]
) -> list[Array]:
    """Vector-Jacobian products; zeros where nothing depends on a source."""
    pairs = [(value, cotangent) for value, cotangent in zip(values, cotangents, strict=True) if value.requires_grad]
    if not pairs:
        return [as_array(torch.zeros_like(source)) for source in sources]
    of, given = zip(*pairs, strict=True)
    return [
        as_array(grad) for grad in torch.autograd.grad(of, sources, given, retain_graph=True, materialize_grads=True)
    ]


def _floats(tensors: Mapping[str, torch.Tensor], wanted: Iterable[str]) -> dict[str, torch.Tensor]:
    for name in wanted:
        if name not in tensors or not tensors[name].is_floating_point():
            what = "is not a float" if name in tensors else "is unknown"
            message = f"{name!r} {what}, so it has no gradient"
            raise LayerError(message)
    return {name: tensors[name] for name in wanted}


def _differentiable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.requires_grad_(tensor.is_floating_point())


def as_array(tensor: torch.Tensor) -> Array:
    """A numpy array of its own memory."""
    return tensor.detach().cpu().contiguous().numpy().copy()
