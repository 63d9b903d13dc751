"""The graph that answers each kind of question, cut from the file's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from onnxviz.engine.asked import RESULT, Asked
from onnxviz.engine.cut import Graph, Sketch, cut
from onnxviz.engine.overlays import NO_CHANGES, Changes, apply_overlay
from onnxviz.engine.targets import add_seed
from onnxviz.manifest import seed_name


def of_values(graph: Graph, names: Iterable[str], given: Iterable[str] = ()) -> tuple[Sketch, Changes]:
    """Values of the forward pass, where ``given`` ones are fed."""
    sketch = cut(graph, names, given=set(given))
    for name in names:
        if name in sketch.inputs:
            sketch.output(name, f"head/{name}")
        else:
            sketch.outputs.append(name)
    return sketch, NO_CHANGES


def of_linear(
    graph: Graph, gradients: Sequence[str], given: Sequence[str], seeds: Sequence[str]
) -> tuple[Sketch, Changes]:
    """Values of the backward pass, where ``given`` ones are fed, and ``seeds`` under the name ``<seed>#given``."""
    sketch = cut(graph, gradients, given=given, live=seeds)
    for seed in seeds:
        fed = sketch.input(f"{seed}#given", element_type(graph, seed), None)
        sketch.seeding.append(onnx.helper.make_node("Identity", [fed], [seed], name=seed))
    for name in gradients:
        sketch.output(name, f"{RESULT}/{name}")
    return sketch, NO_CHANGES


def of_target(graph: Graph, asked: Asked, *, top: bool) -> tuple[Sketch, Changes]:
    """Forward pass, seed (of the class on top, or fed), backward pass and head."""
    reads = [*asked.head.reads, asked.output.logits]
    return closed(cut(graph, reads, live=[seed_name(asked.output.name)]), asked, top=top)


def of_one_of_several(graph: Graph, asked: Asked, boundary: Sequence[str]) -> tuple[Sketch, Changes]:
    """Backward pass and head, where what they read of the forward pass is fed."""
    sketch = cut(graph, asked.head.reads, given=boundary, live=[seed_name(asked.output.name)])
    sketch.inputs.setdefault(asked.output.logits, graph.info[asked.output.logits])
    return closed(sketch, asked, top=False)


def closed(sketch: Sketch, asked: Asked, *, top: bool) -> tuple[Sketch, Changes]:
    """A sketch with the head, the seed and the overlay, and what that changed."""
    sketch.output(asked.head.build(sketch), RESULT)
    add_seed(sketch, asked.output, asked.of, top=top, dtype=element_type(sketch.graph, asked.output.logits))
    changes = apply_overlay(sketch, asked.overlay, asked.head.at) if asked.overlay else NO_CHANGES
    return sketch, changes


def element_type(graph: Graph, value: str) -> int:
    """ONNX's type of a value's elements; float where the graph does not say."""
    info = graph.info.get(value)
    return int(info.type.tensor_type.elem_type if info is not None else 0) or onnx.TensorProto.FLOAT
