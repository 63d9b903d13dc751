"""``ov.coverage``: what it says of models is what converting them finds; what it says of the rules stands in README."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxviz as ov
from onnxviz.errors import InputError, LayerError, OptionError, UnsupportedOperatorError
from onnxviz.gradient.registry import NO_GRADIENT, VJPS
from onnxviz.graph import plain as plain_files
from onnxviz.graph.decompositions import DECOMPOSITIONS
from onnxviz.graph.decompositions.registry import MICROSOFT, NEWER
from tests.support import model_of, network, normal

# ----- the registry -----


def test_the_registry_lists_every_rule_in_a_stable_order():
    listed = ov.coverage().operators
    keys = [(o.domain, o.name, o.status) for o in listed]
    assert keys == sorted(set(keys))
    rules = {(o.domain, o.name): o for o in listed if o.status == "rule"}
    assert rules.keys() == VJPS.keys()
    assert all(set(o.attributes) == VJPS[key].attributes for key, o in rules.items())
    assert {(o.domain, o.name) for o in listed if o.status == "zero"} == NO_GRADIENT - VJPS.keys()
    assert str(ov.coverage()) == str(ov.coverage())


def test_the_registry_lists_what_has_no_rule():
    assert {"If", "Loop", "Scan", "Det"} <= {o.name for o in ov.coverage().missing}
    assert "Scatter" not in {o.name for o in ov.coverage().operators}, "deprecated long before opset 18"


def test_the_registry_lists_what_is_decomposed():
    found = {(o.domain, o.name): o for o in ov.coverage().operators if o.status == "decomposed"}
    assert {key for key in DECOMPOSITIONS if key[0] == MICROSOFT} == {key for key in found if key[0] == MICROSOFT}
    newer = {name for domain, name in found if domain == ""}
    assert {name for domain, name in DECOMPOSITIONS if domain == NEWER} <= newer
    assert {"Gelu", "RMSNormalization", "Swish", "Attention", "GroupNormalization"} <= newer
    assert "activation_params" in found[MICROSOFT, "FusedConv"].attributes
    shown = ov.coverage().markdown()
    assert "| onnxruntime's fusions (com.microsoft), decomposed | " in shown
    assert "`Swish`" in shown
    assert re.search(r"FusedMatMul +com.microsoft +decomposed +alpha, transA", str(ov.coverage()))


def test_attributes_that_a_rule_refuses_are_told(monkeypatch):
    monkeypatch.setitem(VJPS, ("", "Gemm"), replace(VJPS["", "Gemm"], attributes=frozenset({"transA", "transB"})))
    (gemm,) = [o for o in ov.coverage().operators if o.name == "Gemm"]
    assert gemm.refused == ("alpha", "beta")
    assert "`Gemm` (not `alpha`, `beta`)" in ov.coverage().markdown()
    assert "transA, transB, not alpha, not beta" in str(ov.coverage())


def test_readme_has_the_table():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    block = re.search(r"<!-- coverage: .*?-->\n(.*?)\n<!-- /coverage -->", text, re.DOTALL)
    assert block is not None
    assert block.group(1) == ov.coverage().markdown()


def test_listing_the_registry_needs_no_framework():
    heavy = ["torch", "keras", "tensorflow", "onnxruntime", "matplotlib", "cv2"]
    code = f"import sys; sys.path[:] = {[p for p in sys.path if p]!r}; sys.modules.update(dict.fromkeys({heavy!r}))\n"
    code += "import onnxviz; print(len(onnxviz.coverage().operators), onnxviz.coverage.__name__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", [str(len(ov.coverage().operators)), "coverage"])


# ----- control flow -----


def value(name: str, dtype: int = TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, dtype, shape)


def branch(operator: str):
    return helper.make_graph([helper.make_node(operator, ["h"], ["r"])], operator, [], [value("r")])


def body(nodes: str, inputs: list, outputs: list):
    made = onnx.parser.parse_graph(f"body () => () {{ {nodes} }}")
    return helper.make_graph(made.node, "body", inputs, outputs)


CONTROL = {
    "If": helper.make_node(
        "If", ["positive"], ["i"], name="choice", then_branch=branch("Relu"), else_branch=branch("Neg")
    ),
    "Loop": helper.make_node(
        "Loop",
        ["trips", "", "h"],
        ["i"],
        name="choice",
        body=body(
            "more = Identity(go)  u = MatMul(v, q)  next = Tanh(u)",
            [value("n", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v")],
            [value("more", TensorProto.BOOL, []), value("next")],
        ),
    ),
    "Scan": helper.make_node(
        "Scan",
        ["start", "h"],
        ["last", "i"],
        name="choice",
        num_scan_inputs=1,
        body=body("t = Add(s, e)  o = Identity(t)", [value("s"), value("e")], [value("t"), value("o")]),
    ),
}


def controlled(operator: str) -> onnx.ModelProto:
    """A linear layer, control flow, and a second linear layer behind a Tanh."""
    model = model_of(
        "h = MatMul(x, w)  s = ReduceSum<keepdims = 0>(x)  positive = Greater(s, zero)  i = Identity(h)  "
        "a = Tanh(i)  y = MatMul(a, m)",
        "float[3, 4] x",
        "float[3, 2] y",
        {
            "w": normal(4, 5), "m": normal(5, 2, seed=1), "q": normal(5, 5, seed=2), "start": normal(5, seed=3),
            "zero": np.float32(0), "trips": np.int64(3),
        },
    )  # fmt: skip
    model.graph.node[3].CopyFrom(CONTROL[operator])
    return model


@pytest.mark.parametrize("operator", CONTROL)
def test_control_flow_is_shown_and_refused_by_name(operator, tmp_path):
    found = ov.coverage(controlled(operator))
    (missing,) = found.missing
    assert (missing.name, missing.count) == (operator, 1)
    assert "'choice'" in missing.nodes[0]
    assert not found.complete
    assert {"a", "y"} <= set(found.explainable_layers) <= {"h", "a", "y"}
    assert f"no rule; {operator} 'choice'" in str(found)
    with pytest.raises(UnsupportedOperatorError, match=rf"{operator} 'choice' .* convert with gradient=False"):
        ov.convert(controlled(operator), tmp_path / "net.onnx", quiet=True)


def test_control_flow_that_folds_away_is_none():
    model = controlled("If")
    model.graph.node[3].input[0] = "yes"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    found = ov.coverage(model)
    assert found.complete
    assert found.rewritten == {"Relu": 1}
    assert "If" not in {o.name for o in found.operators}


# ----- models -----


def statuses(found: ov.operators.Coverage) -> dict[str, set[tuple[str, int]]]:
    named: dict[str, set[tuple[str, int]]] = {}
    for o in found.operators:
        named.setdefault(o.name, set()).add((o.status, o.count))
    return named


def test_every_node_has_its_status():
    model = model_of(
        "h = MatMul(x, w)  f = Floor(h)  r = Relu(h)  g = Greater(h, f)  k = Where(g, r, f)  side = Tanh(k)  "
        "e = Sigmoid(k)  l = MatMul(e, m)  y = Softmax(l)",
        "float[N, 4] x",
        "float[N, 2] y",
        {"w": normal(4, 5), "m": normal(5, 2, seed=1)},
    )
    found = ov.coverage(model)
    assert statuses(found) == {
        "MatMul": {("rule", 2)},
        "Floor": {("zero", 1)},
        "Relu": {("rule", 1)},
        "Greater": {("zero", 1)},
        "Where": {("rule", 1)},
        "Tanh": {("not on the path", 1)},
        "Sigmoid": {("rule", 1)},
        "Softmax": {("not on the path", 1)},
    }
    assert (found.complete, found.missing, found.refusal) == (True, (), None)
    assert (found.rewritten, found.kept) == ({"Relu": 1}, {"Sigmoid": 1, "Where": 1})
    reasons = {t.name: t.reason for t in found.layers if not t.has_gradient}
    assert reasons.keys() == {"side", "y"}
    assert all(f"no: {reason}" in str(found) for reason in reasons.values())
    assert list(found.operators) == sorted(found.operators)


def refused_inside() -> onnx.ModelProto:
    """A rule that refuses its node, between two layers."""
    return model_of(
        'h = MatMul(x, w)  s = ScatterElements<axis = 1, reduction = "mul">(h, at, u)  r = Relu(s)  y = MatMul(r, m)',
        "float[2, 4] x",
        "float[2, 2] y",
        {"w": normal(4, 5), "m": normal(5, 2, seed=1), "at": np.array([[1], [0]]), "u": normal(2, 1)},
    )


def test_what_a_rule_refuses_is_named():
    found = ov.coverage(refused_inside())
    (missing,) = found.missing
    assert missing.name == "ScatterElements"
    assert "does not support reduction='mul'" in missing.nodes[0]
    assert statuses(found)["Relu"] == {("rule", 1)}
    assert (found.complete, found.refusal, found.explainable_layers) == (False, None, ("r", "y"))
    (before,) = [layer for layer in found.layers if not layer.has_gradient]
    assert before.name == "h"
    assert before.reason.startswith("it lies before ScatterElements, whose gradient does not support reduction='mul'")
    assert f"no: {before.reason}" in str(found)


def test_the_layers_behind_what_a_rule_refuses_are_explained(tmp_path):
    path = ov.convert(refused_inside(), tmp_path / "net.onnx", gradient="available", quiet=True)
    assert ov.coverage(path) == ov.coverage(refused_inside())
    onnx.checker.check_model(path, full_check=True)
    with ov.load(path, providers="cpu") as ex:
        x = normal(2, 4, seed=3)
        assert (ex.gradient(x, 1, layer="r").values == normal(5, 2, seed=1)[:, 1]).all()
        with pytest.raises(LayerError, match=r"'h' has no gradient: it lies before ScatterElements, whose gradient"):
            ex.gradient(x, 1, layer="h")


def test_a_refusal_names_node_layer_attribute_and_way_out(tmp_path):
    named = (
        r"no gradient rule for ScatterElements '\w+' \(output 's'\) before layer 'r' \(its gradient does not support "
        r"reduction='mul' .*Way out: convert with gradient=False .*gradient='available' for the 2 layers .*'r', 'y'\)"
    )
    with pytest.raises(UnsupportedOperatorError, match=named):
        ov.convert(refused_inside(), tmp_path / "net.onnx", quiet=True)
    assert not list(tmp_path.iterdir())


def test_an_attribute_that_a_rule_does_not_know_blocks_its_node_alone(monkeypatch):
    monkeypatch.setitem(VJPS, ("", "Gemm"), replace(VJPS["", "Gemm"], attributes=frozenset({"transA", "transB"})))
    model = model_of(
        "h = Gemm<alpha = 2.0>(x, w)  a = Tanh(h)  k = Gemm<transB = 1>(a, v)  y = Relu(k)",
        "float[N, 4] x",
        "float[N, 5] y",
        {"w": normal(4, 5), "v": normal(5, 5)},
    )
    found = ov.coverage(model)
    assert statuses(found)["Gemm"] == {("no rule", 1), ("rule", 1)}
    assert found.explainable_layers == ("h", "a", "k", "y")
    assert "does not support its attribute alpha=2.0 (supported: transA, transB)" in str(found)


def test_a_file_its_explainer_and_its_source_agree(subjects):
    subject = subjects("rectifiers")
    found = ov.coverage(subject.path)
    assert found == ov.coverage(str(subject.path)) == ov.coverage(subject.explainer)
    assert found == ov.coverage(network("rectifiers"), example=subject.feeds(2))
    assert found.explainable_layers == tuple(t.name for t in subject.explainer.layers)
    answer = subject.explainer.guided_backprop(subject.x(), 1)
    assert sum(found.rewritten.values()) == sum(answer.options["rewritten"].values()) == 6
    assert found.kept == {"Clip": 1, "Sigmoid": 1}
    assert statuses(found)["Silu"] == {("rule", 1)}


def test_a_plain_file_a_proto_and_a_source_agree(plain):
    found = ov.coverage(plain)
    assert found == ov.coverage(onnx.load(plain)) == ov.coverage(plain_files.source(plain))
    assert (found.explainable_layers, found.rewritten) == (("h", "a", "y"), {"Relu": 1})
    assert ov.coverage(plain, layers="a").explainable_layers == ("a",)
    assert plain.parent.joinpath("plain.onnx").exists()


def test_a_file_without_gradients(plain, tmp_path):
    found = ov.coverage(ov.convert(plain, tmp_path / "values.onnx", gradient=False, quiet=True))
    assert (found.complete, found.explainable_layers, found.rewritten) == (True, (), {})
    assert all("gradient=False" in (t.reason or "") for t in found.layers)


def test_refusals(file, plain, cnn):
    for given in (file, cnn.explainer, plain_files.source(plain), None):
        with pytest.raises(OptionError, match="example= and layers= are for a model that is exported"):
            ov.coverage(given, example=normal(2, 6))
    with pytest.raises(InputError, match="example="):
        ov.coverage(network("cnn"))
    with pytest.raises(ov.OnnxvizError, match="there is no file"):
        ov.coverage("nowhere.onnx")
