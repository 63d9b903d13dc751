"""``onnxviz.coverage``: what of a model has a gradient and what has not, and which operators have a rule at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import onnx_ir as ir

from onnxviz import bundle, wire
from onnxviz.conversion import source_of
from onnxviz.engine.explainer import Explainer
from onnxviz.engine.overlays import CLIPS, Step, activation, bending, counted, rectifies
from onnxviz.errors import ConversionError, OptionError
from onnxviz.gradient import backward as differentiate
from onnxviz.gradient.refusals import refusals
from onnxviz.gradient.registry import NO_GRADIENT, describe
from onnxviz.manifest import Layer, Manifest
from onnxviz.source import Source
from onnxviz.support import Registry, registered, table

Status = Literal["rule", "zero", "no rule", "not on the path"]


@dataclass(frozen=True, order=True)
class Operator:
    """Nodes of one operator and one status in a model.

    Attributes:
        domain: ``""`` for ONNX's own; ``"onnxviz"`` for activations that were found written as several nodes.
        name: of the operator.
        status: ``"rule"``: gradients pass. ``"zero"``: the derivative is zero wherever it exists, or the result is no
            float (Floor, Greater, Shape). ``"no rule"``: a gradient would have to pass and cannot, for there is no rule
            or it refuses the node. ``"not on the path"``: not between an input or layer and the logits.
        count: how many nodes.
        nodes: each node without a rule, and each that its rule refuses, with the reason.
    """

    domain: str
    name: str
    status: Status
    count: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """What of a model can be explained; prints as tables.

    Attributes:
        operators: of the forward pass at opset 18, by domain and name.
        layers: in the order of their computation; ``has_gradient``, and ``reason`` where there is none.
        rewritten: activation → how many of it guided backprop and deconvnet rewrite.
        kept: activation → how many of it keep their derivative under these methods.
        refusal: why ``convert(…, gradient="available")`` would refuse the model, or None.
    """

    operators: tuple[Operator, ...]
    layers: tuple[Layer, ...]
    rewritten: Mapping[str, int]
    kept: Mapping[str, int]
    refusal: str | None = None

    @property
    def missing(self) -> tuple[Operator, ...]:
        """The operators that gradients would have to pass and cannot."""
        return tuple(operator for operator in self.operators if operator.status == "no rule")

    @property
    def complete(self) -> bool:
        """Whether ``convert(…, gradient=True)`` finds a rule for all that it needs."""
        return not self.missing and self.refusal is None

    @property
    def explainable_layers(self) -> tuple[str, ...]:
        """The names of the layers that have a gradient."""
        return tuple(layer.name for layer in self.layers if layer.has_gradient)

    def __repr__(self) -> str:
        rows = [("operator", "domain", "count", "gradient")]
        rows += [(o.name, o.domain or "ai.onnx", str(o.count), "; ".join([o.status, *o.nodes])) for o in self.operators]
        layers = [("layer", "operator", "gradient")]
        layers += [(t.name, t.operator, "yes" if t.has_gradient else f"no: {t.reason}") for t in self.layers]
        able = len(self.explainable_layers)
        said = [f"{able} of {len(self.layers)} layers can be explained by their gradient"]
        said += [f"a conversion with gradients is refused: {self.refusal}"] if self.refusal else []
        said += [f"guided backprop and deconvnet rewrite: {counted(self.rewritten) or 'nothing'}"]
        said += [f"they leave as they are: {counted(self.kept)}"] if self.kept else []
        return "\n\n".join([table(rows), table(layers), "\n".join(said)])


@overload
def coverage() -> Registry: ...
@overload
def coverage(model: Any, *, example: Any = None, layers: Sequence[str] | str | None = None) -> Coverage: ...
def coverage(
    model: Any = None, *, example: Any = None, layers: Sequence[str] | str | None = None
) -> Coverage | Registry:
    """Which nodes of a model have gradient rules, which have none, and what can still be explained.

    Args:
        model: an :class:`onnxviz.Explainer`, the path of an explainable file, or whatever :func:`onnxviz.convert`
            takes (a network or a file, which is exported but neither checked nor written). Without it the registry of
            rules is listed.
        example: of the inputs, as in :func:`onnxviz.convert`; a PyTorch module needs it.
        layers: names or patterns, as in :func:`onnxviz.convert`.

    Raises:
        OptionError: ``example`` or ``layers`` for what is not exported.
        ConversionError: the model cannot be exported or brought to opset 18.
        FileFormatError: the file is damaged, or is none.
    """
    path = model.path if isinstance(model, Explainer) else _explainable(model)
    exported = model is not None and path is None and not isinstance(model, Source)
    if not exported and not (example is None and layers is None):
        raise OptionError("example= and layers= are for a model that is exported; an explainable file has its own")
    if model is None:
        return registered()
    if path is not None:
        return _of_file(path)
    if exported:
        model = source_of(model, example=example, layers=layers)
    return _of_source(model)


# ----- of a model -----


def _explainable(model: Any) -> Path | None:
    """The path, if it is that of an explainable file."""
    if not isinstance(model, str | os.PathLike) or not (path := Path(model)).is_file() or path.suffix != ".onnx":
        return None
    skeleton, _ = wire.read_skeleton(path)
    return path if any(entry.key.startswith("onnxviz.") for entry in skeleton.metadata_props) else None


def _of_file(path: Path) -> Coverage:
    file = bundle.read(path)
    return _measured(ir.from_proto(file.skeleton), file.manifest)


def _of_source(source: Source) -> Coverage:
    """Of the graph that a conversion would write: with all gradients that are possible, else with none."""
    from onnxviz.explainable import explain  # runs the graph, for which onnxruntime is needed

    spare = replace(source, model=source.model.clone())
    try:
        return _measured(*explain(source, gradient="available"))
    except ConversionError as error:
        model, manifest = explain(spare, gradient=False)
        layers = tuple(replace(layer, reason="no gradient can be built") for layer in manifest.layers)
        return _measured(model, replace(manifest, layers=layers), str(error))


def _measured(model: ir.Model, manifest: Manifest, refusal: str | None = None) -> Coverage:
    nodes = list(model.graph)
    values = {y.name: y for y in (*model.graph.inputs, *(y for node in nodes for y in node.outputs))}
    logits = [values[output.logits] for output in manifest.outputs]
    wrt = [values[t.value] for t in (*manifest.inputs, *manifest.layers)]
    shown = differentiate.upstream([*logits, *wrt, *(values[o.value] for o in manifest.outputs)], nodes)
    forward = [node for node in nodes if node in shown]
    explained = {t.value for t in (*manifest.inputs, *manifest.layers) if t.has_gradient}
    operators = _operators(forward, logits, wrt, explained)
    rewritten, kept = _activations([node for node in nodes if node not in shown])
    if explained:
        kept += bending(map(_step, forward), explained, [y.name or "" for y in logits])
    return Coverage(operators, manifest.layers, dict(sorted(rewritten.items())), dict(sorted(kept.items())), refusal)


def _step(node: ir.Node) -> Step:
    inputs = [x.name or "" for x in differentiate.operands(node)]
    return Step(node.domain, node.op_type, inputs, [y.name or "" for y in node.outputs])


def _operators(
    forward: list[ir.Node], logits: list[ir.Value], wrt: list[ir.Value], explained: Collection[str | None]
) -> tuple[Operator, ...]:
    """The status of each node, counted; ``explained`` are the names of those of ``wrt`` that have a gradient."""
    active = differentiate.downstream(wrt, forward)
    needed = differentiate.upstream([value for value in logits if value in active], forward)
    missing = dict.fromkeys(differentiate.missing_rules([n for n in forward if n in needed], active), "")
    passed = differentiate.downstream([value for value in wrt if value.name in explained], forward)
    before = [n for n in forward if n in needed and passed.isdisjoint(differentiate.operands(n))]
    missing |= {node: f": its gradient {why}" for node, why in refusals(before, active).items()}
    counts: Counter[tuple[str, str, Status]] = Counter()
    where: dict[tuple[str, str, Status], list[str]] = {}
    for node in forward:
        status: Status = "rule"
        if node not in needed or not any(x in active for x in differentiate.operands(node)):
            status = "not on the path"
        elif (node.domain, node.op_type) in NO_GRADIENT or not any(y in active for y in node.outputs):
            status = "zero"
        elif node in missing:
            status = "no rule"
            where.setdefault((node.domain, node.op_type, status), []).append(f"{describe(node)}{missing[node]}")
        counts[node.domain, node.op_type, status] += 1
    return tuple(sorted(Operator(*key, count, tuple(where.get(key, ()))) for key, count in counts.items()))


def _activations(backward: Iterable[ir.Node]) -> tuple[Counter[str], Counter[str]]:
    """What guided backprop would rewrite in a backward pass, and what it would leave."""
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for node in backward:
        bound = node.inputs[2] if node.op_type in CLIPS and len(node.inputs) > 2 else None
        low = None if bound is None or bound.const_value is None else bound.const_value.numpy()
        if node.domain and (changed := rectifies(node.op_type, low)) is not None:
            counts[changed][activation(node.op_type, rectifies=changed)] += 1
    return counts[True], counts[False]
