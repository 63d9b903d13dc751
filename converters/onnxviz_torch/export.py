"""The export to ONNX with the value of every layer as an output."""

from __future__ import annotations

import re
from collections.abc import Collection
from types import MappingProxyType

import onnx_ir as ir
import torch
from torch import nn
from torch.onnx import OnnxExporterError

from onnxviz.errors import UnsupportedModelError
from onnxviz.graph.symbols import usual_names
from onnxviz.source import BATCH, Axes
from onnxviz_torch.inference import require_inference
from onnxviz_torch.operators import TRANSLATIONS
from onnxviz_torch.quiet import quiet
from onnxviz_torch.subject import MISFIT, Subject
from onnxviz_torch.taps import Recorder, named_outputs

OPSET = 18
SYMBOL = re.compile(r"\bs\d+\b")
"""How ``torch.export`` calls a size that is open."""

UNTRACEABLE = (*MISFIT, AttributeError, AssertionError, ArithmeticError)
"""What ``torch.export`` raises: errors of its own, which are ``RuntimeError``, and whatever the network raises when it
is given tensors without values."""

Exported = tuple[ir.Model, list[str]]
"""The model, and the names of the values that hold the outputs and then the taps."""


class _Tapped(nn.Module):
    """The network that returns its outputs and its layers' values as one flat tuple."""

    def __init__(self, subject: Subject, recorder: Recorder) -> None:
        super().__init__()
        self.model = subject.model
        self._subject = subject
        self._recorder = recorder

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._recorder.clear()
        outputs = named_outputs(self._subject(inputs))
        return (*outputs.values(), *self._recorder.values.values())


def export(
    subject: Subject, example: dict[str, torch.Tensor], taps: Collection[str], opened: Axes
) -> tuple[Exported, list[str]]:
    """Export the network, which must be laid open, with a symbolic batch and other sizes where that is possible.

    Returns:
        The model with its inputs under their names, and what is to be said about the batch and the sizes.

    Raises:
        UnsupportedModelError: torch cannot export the network.
    """
    notes: list[str] = []
    sizes = {len(tensor) for tensor in example.values() if tensor.ndim}
    if subject.batch_may_vary and len(sizes) > 1:
        notes.append(f"the batch stays fixed: the inputs' first axes differ ({sorted(sizes)})")
    elif subject.batch_may_vary:
        batch = torch.export.Dim(BATCH)
        if opened:
            try:
                return _translated(_traced(subject, _batched(example), taps, batch, opened), list(example)), notes
            except (*UNTRACEABLE, OnnxExporterError) as error:
                notes.append(f"all sizes but the batch stay as they are in the example: when open, {_reason(error)}")
        try:
            return _translated(_traced(subject, _batched(example), taps, batch), list(example)), notes
        except (*UNTRACEABLE, OnnxExporterError) as error:
            notes.append(f"the batch stays fixed at {min(sizes, default=1)}: when symbolic, {_reason(error)}")
    try:
        traced = _traced(subject, example, taps, None)
    except UNTRACEABLE as error:
        raise UnsupportedModelError(_refusal("tracing it with torch.export", error)) from error
    try:
        return _translated(traced, list(example)), notes
    except OnnxExporterError as error:
        raise UnsupportedModelError(_refusal("translating the traced program to ONNX", error)) from error


def _traced(
    subject: Subject,
    example: dict[str, torch.Tensor],
    taps: Collection[str],
    batch: torch.export.Dim | None,
    opened: Axes = MappingProxyType({}),
) -> torch.export.ExportedProgram:
    shapes = tuple(
        {0: batch, **dict.fromkeys(opened.get(name, ()), torch.export.Dim.AUTO)} if batch and tensor.ndim else None
        for name, tensor in example.items()
    )
    with Recorder(subject.names, taps, on_path=True) as recorder, quiet():
        module = _Tapped(subject, recorder).eval()
        traced = torch.export.export(module, tuple(example.values()), dynamic_shapes=(shapes,), strict=False)
    require_inference(traced)
    return traced


def _translated(traced: torch.export.ExportedProgram, inputs: list[str]) -> Exported:
    with quiet():
        exported = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            verbose=False,
            external_data=False,
            custom_translation_table=TRANSLATIONS,
            optimize=False,  # it would merge a layer that passes its input on with that input, on all paths
        )
    assert exported is not None
    graph = exported.model.graph
    _name_sizes(graph)
    _keep_names_of_inputs(graph)
    for node in graph.all_nodes():
        node.metadata_props.clear()  # stack traces of the user's program
    return exported.model, [str(value.name) for value in graph.outputs]


def _batched(example: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The example with at least two samples: a size of 1 is taken for a constant by the tracer."""
    return {
        name: torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == 1 else tensor
        for name, tensor in example.items()
    }


def _values(graph: ir.Graph) -> list[ir.Value]:
    outputs = (output for node in graph.all_nodes() for output in node.outputs)
    return [*graph.inputs, *graph.initializers.values(), *outputs]


def _name_sizes(graph: ir.Graph) -> None:
    """Give the symbols of the inputs' sizes public names, in all shapes (``2*s77`` → ``2*N``)."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        opened = [str(d) for axis, d in enumerate(value.shape or ()) if axis and not isinstance(d, int)]
        names.update(zip(opened, usual_names(len(opened)), strict=True))
    names.update((str(v.shape[0]), BATCH) for v in graph.inputs if v.shape and not isinstance(v.shape[0], int))
    for value in _values(graph):
        if value.shape is not None:
            value.shape = ir.Shape(
                d if isinstance(d, int) else SYMBOL.sub(lambda m: names.get(m[0], m[0]), str(d)) for d in value.shape
            )


def _keep_names_of_inputs(graph: ir.Graph) -> None:
    """Rename other values that have an input's public name."""
    names = {value.name for value in graph.inputs}
    for value in _values(graph):
        if value.name in names and not value.is_graph_input():
            value.name = f"{value.name}#value"


def _reason(error: BaseException) -> str:
    """What the error says in its first line, or in its first point where it lists several."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    first = next((line.strip() for line in lines if line.strip().startswith("- ")), lines[0])
    return f"{type(error).__name__}: {first.removeprefix('- ')}"


def _refusal(step: str, error: BaseException) -> str:
    way_out = (
        'load it with attn_implementation="eager"'
        if "scaled_dot_product" in str(error)
        else "write what is named here with operators that torch.onnx.export(dynamo=True) knows and without control "
        "flow that depends on the data, or convert the part of the model that exports"
    )
    return f"torch cannot export the model: {step} failed with {_reason(error)}; {way_out}"
