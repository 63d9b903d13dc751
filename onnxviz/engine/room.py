"""Inputs that are too small for a network of open sizes: onnxruntime's kernels divide by the size of what is empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from onnxviz.engine.cut import Graph, cut


def first_empty(graph: Graph, values: Iterable[str], shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The first value on the way to ``values`` that has no elements where inputs have these shapes; None if all have.

    Args:
        graph: of the file.
        values: of the forward pass.
        shapes: input → sizes.
    """
    model = cut(graph, values).model()
    for given in model.graph.input:
        sizes = shapes.get(given.name, ())
        for dim, size in zip(given.type.tensor_type.shape.dim, sizes, strict=False):
            dim.dim_value = size
    inferred = {v.name: v.type.tensor_type.shape.dim for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for node in model.graph.node:
        for name in map(str, node.output):
            if any(dim.HasField("dim_value") and dim.dim_value < 1 for dim in inferred.get(name, ())):
                return name
    return None
