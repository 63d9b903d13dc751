"""PyTorch networks as :class:`~onnxviz.source.Source`: every submodule's output under its qualified name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from typing import Any

import torch
from torch import nn

from onnxviz.errors import InputError, UnsupportedModelError
from onnxviz.source import Axes, OpenSizes, Source, Tap, open_axes, selected
from onnxviz_torch import processors, program
from onnxviz_torch.export import export
from onnxviz_torch.reference import TorchReference, as_array
from onnxviz_torch.state import laid_open
from onnxviz_torch.subject import MISFIT, Example, Subject, of_module
from onnxviz_torch.taps import Recorder, named_outputs

__all__ = ["source"]

Model = nn.Module | torch.export.ExportedProgram | str | PathLike[str]


def source(
    model: Model,
    *,
    example: Example | None = None,
    layers: str | Sequence[str] | None = None,
    open_sizes: OpenSizes = None,
    processor: Any = None,
    trust_code: bool = False,
) -> Source:
    """The network in eval mode as an ONNX graph in which every layer's output is an output.

    Args:
        model: a module (also inside ``torch.compile`` or ``DataParallel``), an ``ExportedProgram`` or the path of a
            ``.pt2`` file. It is left as it was.
        example: inputs for one call, with the batch first: a tensor or array, a tuple of them (positional), or a dict
            (keywords). Only a program can do without. Floats are cast to the network's precision.
        layers: names or patterns (``features.*``) of the modules to tap; None means all of them. All calls and all
            parts of a module's output belong to its name.
        open_sizes: which sizes stay open, see :func:`onnxviz.source.open_axes`. A module declares none; what it could
            leave open are the axes behind the channels, of integers all behind the batch.
        processor: of ``transformers``; makes the example of a module, where none is given.
        trust_code: run Python code that a ``.pt2`` file contains.

    Raises:
        UnsupportedModelError: TorchScript, no model at all, or a network that ``torch.onnx.export`` cannot export.
        InputError: the example is missing or does not fit.
        LayerError: a name in ``layers`` that no computed layer has.
        OptionError: a processor that makes nothing that the module takes.
    """
    if isinstance(model, str | PathLike):
        model = program.load(model, trust_code=trust_code)
    made = example is None and processor is not None and isinstance(model, nn.Module)
    if made:
        example = processors.example(processor, model)
    with torch.inference_mode(mode=False), torch.no_grad():
        subject, inputs = _subject(model, example)
        with laid_open(subject.model):
            outputs, computed = _rehearse(subject, inputs, made=made)
            own = {tap: subject.names[module] for tap, module in computed.items()}
            taps = selected(layers, own, subject.names.values())
            (graph, values), notes = export(subject, inputs, taps, _opened(open_sizes, subject, inputs))
    assert len(values) == len(outputs) + len(taps)
    layer_values = zip(taps, values[len(outputs) :], strict=True)
    return Source(
        model=graph,
        outputs=dict(zip(outputs, values, strict=False)),
        taps=[Tap(name, value, *_described(computed[name], subject)) for name, value in layer_values],
        framework="pytorch",
        versions=_versions(subject.model),
        example={name: as_array(tensor) for name, tensor in inputs.items()},
        reference=TorchReference(subject, tuple(taps)),
        notes=notes,
        caveats=list(subject.caveats),
        classes=processors.class_names(subject.model),
    )


def _subject(model: object, example: Example | None) -> tuple[Subject, dict[str, torch.Tensor]]:
    if isinstance(model, torch.export.ExportedProgram):
        return program.of_program(model, example)
    if isinstance(model, nn.Module):
        if example is None:
            message = (
                "a torch module does not declare the size of its inputs; give example=torch.randn(1, 3, 224, 224), or "
                "processor= of a model of transformers"
            )
            raise InputError(message)
        return of_module(model, example)
    message = (
        f"expected a torch.nn.Module, a torch.export.ExportedProgram or the path of a .pt2 file, "
        f"got {type(model).__name__}; a compiled or scripted function has no layers: convert its module"
    )
    raise UnsupportedModelError(message)


def _opened(wanted: OpenSizes, subject: Subject, inputs: Mapping[str, torch.Tensor]) -> Axes:
    if subject.open_axes is not None:
        return open_axes(wanted, subject.open_axes, {})
    first = {name: 2 if tensor.is_floating_point() else 1 for name, tensor in inputs.items()}
    free = {name: tuple(range(first[name], tensor.ndim)) for name, tensor in inputs.items()}
    return open_axes(wanted, {}, {name: axes for name, axes in free.items() if axes})


def _rehearse(
    subject: Subject, inputs: Mapping[str, torch.Tensor], *, made: bool
) -> tuple[list[str], dict[str, nn.Module]]:
    """Names of the outputs, and the layers that one call computes, by their names and in their order."""
    with Recorder(subject.names) as recorder:
        try:
            outputs = list(named_outputs(subject(list(inputs.values()))))
        except MISFIT as error:
            shapes = ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in inputs.items())
            message = f"the model cannot be called with the example ({shapes}): {type(error).__name__}: {error}"
            if made:
                message += "; processor= made the example: is it this model's? Else give example="
            raise InputError(message) from error
    if not outputs:
        message = "the model returns no float or integer tensor (looked for in tuples, lists and mappings)"
        raise UnsupportedModelError(message)
    return outputs, recorder.modules


def _described(module: nn.Module, subject: Subject) -> tuple[str, int]:
    return subject.types[module], sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _versions(model: nn.Module) -> dict[str, str]:
    """torch, the translator, and transformers for a network of its."""
    package = type(model).__module__.partition(".")[0]
    packages = ["torch", "onnxscript"] + (["transformers"] if package == "transformers" else [])
    return {name: version(name) for name in packages}
