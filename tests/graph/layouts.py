"""Graphs from a convolution to channels last and back, and the check that they compute the same when they are moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from onnxviz.graph.channels_first import to_first, to_last
from onnxviz.graph.layout import channels_first
from onnxviz.graph.probe import probe
from tests.support import assert_close, model_of, normal

SIZES = {3: (6,), 4: (6, 5), 5: (4, 6, 5)}
"""Rank → the spatial sizes of the input, which has 3 channels; the first convolution makes 4 of them."""
LIMITS = {"low": np.float32(-0.5), "high": np.float32(0.5)}
"""Of a Clip."""


def transpose(result: str, x: str, perm: list[int]) -> str:
    return f"{result} = Transpose<perm = {perm}>({x}) "


def between(body: str, rank: int = 4, weights: Mapping[str, np.ndarray] | None = None, outputs: str = "") -> ir.Model:
    """Channels first ``c`` → channels last ``h`` → body → ``z`` → channels first → ``y``."""
    nodes = (
        f"c = Conv(x, k) {transpose('h', 'c', to_last(rank))} {body} {transpose('f', 'z', to_first(rank))} y = Neg(f)"
    )
    return graph(nodes, rank, {"k": normal(4, 3, *[1] * (rank - 2), seed=1), **(weights or {})}, outputs)


def graph(nodes: str, rank: int, weights: Mapping[str, np.ndarray], outputs: str = "") -> ir.Model:
    declared = ", ".join(f"float[] {name}" for name in ["y", *outputs.split()])
    dims = ", ".join(str(size) for size in (3, *SIZES[rank]))
    model = ir.from_proto(model_of(nodes, f"float[N, {dims}] x", declared, weights))
    probe(model, {"x": normal(2, 3, *SIZES[rank])})
    return model


def run(model: ir.Model, batch: int, *, optimized: bool = True) -> dict[str, np.ndarray]:
    proto, options = ir.to_proto(model), onnxruntime.SessionOptions()
    onnx.checker.check_model(proto)
    if not optimized:  # it moves Transposes itself, at times wrongly
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    x = normal(batch, *[int(size) for size in list(model.graph.inputs[0].shape)[1:]], seed=7)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def passed(model: ir.Model, *keep: str) -> Counter[str]:
    """Run the pass, compare outputs and declared shapes with what is computed, and count the operators left."""
    before = [run(model, batch, optimized=False) for batch in (1, 3)]
    channels_first(model, [v for node in model.graph for v in node.outputs if v.name in keep])
    for expected, batch in zip(before, (1, 3), strict=True):
        got = run(model, batch)
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(got[name], value, 1e-6)
    declared = {v.name: list(v.shape) for node in model.graph for v in node.outputs if v.shape is not None}
    probe(model, {"x": normal(2, *[int(d) for d in list(model.graph.inputs[0].shape)[1:]])})
    measured = {v.name: list(v.shape) for node in model.graph for v in node.outputs}
    assert measured.items() >= declared.items()
    return operators(model)
