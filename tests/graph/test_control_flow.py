"""If, Loop and Scan: folded away where their conditions are constant, else refused by name, with the ways out."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.errors import UnsupportedOperatorError
from onnxviz.graph.normalise import normalise
from onnxviz.graph.plain import source
from tests.networks import normal
from tests.support import model_of

HEAD, TAIL = "r = Relu(x)", "q = Tanh(v) y = MatMul(q, w)"
IF = """
m = ReduceMean<keepdims=0>(x) z = Constant<value_float=0.0>() c = Greater(m, z)
v = If(c) <
  then_branch = a () => (float[N, 4] p) { p = Tanh(r) }, else_branch = b () => (float[N, 4] s) { s = Sigmoid(r) }
>
"""
NODES = {
    "If": IF,
    "Loop": """
        t = Constant<value_int=1>() go = Cast<to=9>(t)
        v = Loop(n, go, r) <
          body = step (int64 i, bool c, float[N, 4] s) => (bool k, float[N, 4] o) { k = Identity(c) o = Tanh(s) }
        >
    """,
    "Scan": """
        z = Constant<value_floats=[0.0, 0.0, 0.0, 0.0]>()
        f, v = Scan <num_scan_inputs = 1,
          body = add (float[4] s, float[4] e) => (float[4] t, float[4] o) { t = Add(s, e) o = Tanh(t) }
        >(z, r)
    """,
}


def network(nodes: str, *inputs: str):
    return model_of(
        f"{HEAD} {nodes} {TAIL}", ", ".join(("float[N, 4] x", *inputs)), "float[N, 3] y", {"w": normal(4, 3)}
    )


@pytest.mark.parametrize("name", NODES)
def test_control_flow_is_refused_by_name_and_what_lies_behind_can_be_explained(name, tmp_path):
    proto, feeds = network(NODES[name]), {"x": normal(3, 4)}
    if name == "Loop":
        proto, feeds = network(NODES[name], "int64 n"), {**feeds, "n": np.array(2)}
    named = rf"no gradient rule for {name} '{name}' \(output '[vf]'\) before layer 'q'\. Control flow must fold away"
    with pytest.raises(UnsupportedOperatorError, match=named + r".*gradient=False.*'available' for the 2 layers"):
        ov.convert(proto, tmp_path / "net.onnx", example=feeds)
    ov.convert(proto, tmp_path / "net.onnx", example=feeds, gradient="available", quiet=True)
    with ov.load(tmp_path / "net.onnx", providers="cpu") as ex:
        assert {layer.name: layer.has_gradient for layer in ex.layers} == {"r": False, "q": True, "y": True}
        assert np.asarray(ex.gradient(feeds, target=0, layer="q")).shape == (3, 4)
    ov.convert(proto, tmp_path / "net.onnx", example=feeds, gradient=False, quiet=True)


def test_layers_that_cannot_be_explained_are_not_offered(tmp_path):
    """Behind the loop stands only what comes after the logits."""
    proto = model_of(f"{HEAD} {NODES['If']} y = Sigmoid(v)", "float[N, 4] x", "float[N, 4] y")
    with pytest.raises(UnsupportedOperatorError, match=r"gradient=False to have the layers' values alone$"):
        ov.convert(proto, tmp_path / "net.onnx", example=normal(3, 4))


def test_control_flow_of_constants_folds_away():
    plain = source(network(IF.replace("Greater(m, z)", "Greater(z, z)")))
    normalise(plain.model)
    assert "If" not in {node.op_type for node in plain.model.graph}
