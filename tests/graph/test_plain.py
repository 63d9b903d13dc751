"""Plain ``.onnx`` files of every kind and opset: read, lifted, and the layers that are tapped in them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from onnxviz.errors import InputError, LayerError
from onnxviz.graph.plain import source
from onnxviz.source import seeded
from tests.graph.plain_models import check, cnn
from tests.graph.texts import proto


def package_file(package: str, path: str) -> Path:
    """A file of an installed package that is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


LIGHT = sorted(package_file("onnx", "backend/test/data/light").glob("light_*.onnx"))


# ----- whole models -----


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_topologies_of_opset_9(path):
    plain = source(path)
    assert len(plain.taps) >= 20
    assert any("fixed batch 1" in note for note in plain.notes)
    assert any("opset 9 to 18" in note for note in plain.notes)
    check(plain)


def test_there_are_nine_of_them():
    assert len(LIGHT) == 9


def test_open_length():
    path = package_file("swift_f0", "model.onnx")
    with pytest.raises(InputError, match=r"'audio'.*samples.*axis 1.*example="):
        source(path)
    example = (seeded((1, 8000)), np.array(46, np.float32), np.array(2000, np.float32))
    for open_sizes, length in ((None, "samples"), (False, "8000")):
        plain = source(path, example=example, open_sizes=open_sizes)
        assert [[str(size) for size in value.shape] for value in plain.model.graph.inputs] == [["1", length], [], []]
        check(plain)


def test_a_channels_last_export():
    plain = source(package_file("basic_pitch", "saved_models/icassp_2022/nmp.onnx"))
    [value] = plain.model.graph.inputs
    assert [str(size) for size in value.shape] == ["N", "43844", "1"]
    assert len(plain.outputs) == 3
    check(plain, 1, 3)


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset(opset):
    plain = source(cnn(opset=opset))
    assert [(tap.name, tap.type, tap.parameters) for tap in plain.taps] == [
        ("conv", "Conv", 112),
        ("norm", "BatchNormalization", 8),
        ("act", "Relu", 0),
        ("pool", "MaxPool", 0),
        ("both", "Concat", 0),
        ("scores", "Gemm", 645),
    ]
    assert plain.outputs == {"scores": "scores"}
    assert plain.example["image"].shape == (2, 3, 8, 8)
    assert plain.framework == "onnx"
    assert {"onnx", "onnxruntime"} <= set(plain.versions)
    assert list(plain.reference.gradients(plain.example, [])) == []
    check(plain, 1, 2, 5)


# ----- layers -----

PATTERNS = {
    "name": ("pool", ["pool"]),
    "names": (["scores", "conv"], ["conv", "scores"]),
    "pattern": ("*o*", ["conv", "norm", "pool", "both", "scores"]),
    "patterns": (["fl?t", "[ab]*"], ["act", "both", "flat"]),
    "all": ("*", ["conv", "norm", "act", "pool", "both", "flat", "scores"]),
}


@pytest.mark.parametrize(("layers", "chosen"), PATTERNS.values(), ids=PATTERNS)
def test_layers(layers, chosen):
    plain = source(cnn(opset=11), layers=layers)
    assert [tap.name for tap in plain.taps] == chosen
    check(plain, 3)


@pytest.mark.parametrize(("layers", "nearest"), [("pol", "'pool'"), (["conv", "noorm"], "'norm'"), ("w", "pattern")])
def test_unknown_layers(layers, nearest):
    with pytest.raises(LayerError, match=nearest):
        source(cnn(), layers=layers)


def test_names_with_brackets_are_names():
    model = proto("g (float[N, 3] x) => (float[N, 3] y) { a = Relu(x) y = Neg(a) }")
    for node in model.graph.node:
        node.input[:] = [name.replace("a", "layer[0]") for name in node.input]
        node.output[:] = [name.replace("a", "layer[0]") for name in node.output]
    assert [tap.name for tap in source(model, layers="layer[0]").taps] == ["layer[0]"]


def test_integer_layers_are_refused():
    model = proto("g (float[N, 3] x) => (float[N, 3] y) { i = Cast<to = 7>(x) y = Cast<to = 1>(i) }")
    with pytest.raises(LayerError, match=r"'i' is tensor\(int64\)"):
        source(model, layers="i")


def test_what_does_not_depend_on_the_input_is_no_layer():
    model = proto(
        "g (float[N, 3] x) => (float[N, 3] y) "
        "{ k = Add(w, w) s = Shape(x) f = Cast<to = 1>(s) r = Relu(f) z = Relu(x) m = ReduceSum(r) "
        "n = Mul(z, m) y = Add(n, k) }",
        w=np.ones(3, np.float32),
    )
    assert [tap.name for tap in source(model).taps] == ["z", "y"]


def test_layers_behind_a_condition_depend_on_what_its_branches_read():
    model = proto(
        "g (float[N, 3] x, bool c) => (float[N, 3] y) { h = Relu(x) i = If(c)<"
        "then_branch = a () => (float[N, 3] p) { p = Neg(h) }, else_branch = b () => (float[N, 3] p) { p = Exp(h) }> "
        "y = Relu(i) }"
    )
    plain = source(model, example={"x": np.ones((2, 3), np.float32), "c": np.array(True)})
    assert [tap.name for tap in plain.taps] == ["h", "y"]


def test_own_functions_are_inlined():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "mine": 1]> g (float[N, 6] x) => (float[N, 6] y) '
        "{ a = mine.Block(x) y = mine.Block(a) } "
        '<domain: "mine", opset_import: ["": 17]> Block (a) => (b) { c = Add(a, a) b = Relu(c) }'
    )
    plain = source(model)
    assert not plain.model.functions
    assert [tap.type for tap in plain.taps] == ["Add", "Relu", "Add", "Relu"]
    assert {"a", "y"} < {tap.name for tap in plain.taps}
    check(plain, 3)


def test_an_input_handed_through_keeps_its_public_name():
    model = proto("g (float[N, 6] x) => (float[N, 6] x, float[N, 6] y) { y = Relu(x) }")
    plain = source(model)
    assert plain.outputs == {"x": "x#out", "y": "y"}
    check(plain, 3)


def test_operators_of_onnxruntime_are_kept():
    model = proto(
        "g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) y = com.microsoft.Gelu(a) }",
        opset=13,
        imports=', "com.microsoft": 1',
    )
    plain = source(model)
    assert [(tap.name, tap.type) for tap in plain.taps] == [("a", "Relu"), ("y", "Gelu")]
    check(plain, 3)
