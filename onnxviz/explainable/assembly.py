"""The steps from a source to the explainable graph and its manifest, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from onnxviz.explainable.appending import GradientChoice, append_gradient
from onnxviz.explainable.description import described_input, described_layer, described_output
from onnxviz.explainable.heads import Head, head_of, shape_of
from onnxviz.graph import axes, composites, layout, lean, normalise, pads, probe, taps
from onnxviz.manifest import IR_VERSION, OPSET, Manifest, seed_name
from onnxviz.source import BATCH, Feeds, Source, Tap


def explain(
    source: Source,
    *,
    gradient: GradientChoice = True,
    image: dict[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[ir.Model, Manifest]:
    """The explainable graph of a source (its model is changed in place) and the manifest that describes it.

    Args:
        source: what a converter handed over.
        gradient: True demands a gradient for everything that the output depends on; ``"available"`` leaves out what
            lies before an operator without a rule; False builds none.
        image: the preprocessing of the first image-like input.
        classes: names of the classes.

    Raises:
        UnsupportedOperatorError: an operator has no gradient rule.
    """
    model, graph = source.model, source.model.graph
    batched = any(shape_of(v)[:1] == (BATCH,) for v in graph.inputs)
    placed, heads, measured = _prepared(source)
    batch = None if batched else next((len(x) for x in source.example.values() if x.ndim), 1)
    roles = axes.AxisRoles(graph, batch, measured.symbols)
    values = {v.name or "": v for v in _values(graph)}
    reached: set[str] = set()
    reasons: dict[str, str] = {}
    if gradient is not False:
        reached, reasons = append_gradient(model, heads, [values[t.value] for t in placed], gradient)
    manifest = Manifest(
        framework=source.framework,
        versions=source.versions,
        static_batch=batch,
        inputs=tuple(
            described_input(v, roles, reached, image if i == 0 else None)
            for i, v in enumerate(graph.inputs)
            if not (v.name or "").startswith("seed/")
        ),
        outputs=tuple(described_output(h, roles, gradient=bool(reached) and _differentiable(h, graph)) for h in heads),
        layers=tuple(described_layer(t, values[t.value], roles, reached, reasons) for t in placed),
        classes=tuple(classes) if classes is not None else None,
        activation_bytes=measured.activation_bytes,
        sizes=measured.symbols.sizes,
        caveats=tuple(source.caveats),
    )
    _finish(model)
    return model, manifest


def _prepared(source: Source) -> tuple[list[Tap], list[Head], probe.Measured]:
    """Bring the model into normal form: its layers, where its gradients start, and what was measured of its values."""
    model, graph = source.model, source.model.graph
    with taps.protected(model, source.taps):
        renamed = normalise.normalise(model)
    composites.recognise(model)
    placed, outputs = taps.name_taps(
        model,
        [replace(tap, value=renamed.get(tap.value, tap.value)) for tap in source.taps],
        {name: renamed.get(value, value) for name, value in source.outputs.items()},
    )
    measured = probe.probe(model, source.example)
    source.resized = measured.resized
    source.notes.extend(_fixed_sizes(name, axes, source.example) for name, axes in measured.fixed.items())
    pads.whole_pads(model)
    pads.explicit_pads(model, {v.name or "": shape_of(v) for v in _values(graph)})
    lean.make_lean(model)
    values = {v.name or "": v for v in _values(graph)}
    heads = [head_of(name, values[value]) for name, value in outputs.items()]
    layout.channels_first(model, keep=_fixed(source, heads))
    pads.separate_pads(model)
    return placed, heads, measured


def _fixed_sizes(name: str, opened: Sequence[int], example: Feeds) -> str:
    sizes = ", ".join(f"{example[name].shape[axis]} (axis {axis})" for axis in opened)
    return f"the sizes {sizes} of input {name!r} stay as they are in the example: the model runs at no others"


def _fixed(source: Source, heads: list[Head]) -> list[ir.Value]:
    """What is computed as it stands: outputs from their logits on, and all that a plain file calls a layer."""
    written = source.model.graph.outputs if source.framework == "onnx" else ()
    return [*written, *(value for head in heads for value in (head.value, head.logits, *head.between))]


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values(), *(y for node in graph for y in node.outputs)]


def _differentiable(head: Head, graph: ir.Graph) -> bool:
    return any(v.name == seed_name(head.name) for v in graph.inputs)


def _finish(model: ir.Model) -> None:
    """Remove what nothing reads, and stamp the versions of the format."""
    from onnx_ir.passes.common import RemoveUnusedFunctionsPass, RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    model.ir_version = IR_VERSION
    model.graph.opset_imports[""] = OPSET
    model.producer_name = "onnxviz"
    model.metadata_props.clear()
