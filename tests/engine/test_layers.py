"""The table of layers, and the choice of a layer for a class activation map."""

from __future__ import annotations

import pytest

from onnxviz.engine.layers import LayerTable
from onnxviz.errors import LayerError
from onnxviz.manifest import Axes, Layer

MAPS, LAST, FLAT = Axes(0, 1, (2, 3)), Axes(0, 3, (1, 2)), Axes(0, 1, ())


def layer(name: str, operator: str, shape: tuple, axes: Axes = MAPS, *, gradient: bool = True) -> Layer:
    reason = None if gradient else "no output depends on it"
    return Layer(
        name=name, value=name, dtype="float32", shape=("N", *shape), axes=axes, type=operator, operator=operator,
        parameters=3, has_gradient=gradient, reason=reason,
    )  # fmt: skip


CONV = layer("conv", "Conv", (8, 6, 6))
ACT = layer("act", "Relu", (8, 6, 6))

# layers, the one that "auto" chooses
AUTO = {
    "the last": ([CONV, ACT], "act"),
    "before pooling": ([CONV, layer("pool", "MaxPool", (8, 3, 3))], "conv"),
    "before the collapse": (
        [CONV, layer("pool", "GlobalAveragePool", (8, 1, 1)), layer("fc", "Gemm", (5,), FLAT)],
        "conv",
    ),
    "before a convolution over one place": ([CONV, layer("fc", "Conv", (5, 1, 1))], "conv"),
    "before dropout": ([ACT, layer("drop", "Dropout", (8, 6, 6))], "act"),
    "before padding": ([ACT, layer("pad", "Pad", (8, 8, 8))], "act"),
    "before reshaping": ([ACT, layer("shape", "Reshape", (8, 6, 6))], "act"),
    "with gradient": ([CONV, layer("side", "Conv", (8, 6, 6), gradient=False)], "conv"),
    "with known axes": ([CONV, layer("tokens", "Add", (36, 8), Axes(0, 2, ()))], "conv"),
    "with all axes known": ([CONV, layer("cells", "Add", (8, 3, 2, 6), Axes(0, 1, (4,)))], "conv"),
    "channels last": ([layer("norm", "LayerNormalization", (6, 6, 8), LAST)], "norm"),
    "a row is space too": ([layer("conv", "Conv", (8, 1, 6))], "conv"),
    "the layer rather than its container": (
        [CONV, layer("net.act", "Relu", (8, 6, 6)), layer("net", "Relu", (8, 6, 6))],
        "net.act",
    ),
    "the innermost": (
        [layer("a.b.c", "Relu", (8, 6, 6)), layer("a.b", "Relu", (8, 6, 6)), layer("a", "Relu", (8, 6, 6))],
        "a.b.c",
    ),
    "not another layer that ends alike": ([layer("act1", "Relu", (8, 6, 6)), layer("act", "Relu", (8, 6, 6))], "act"),
    "a container that adds something": ([layer("net.conv", "Conv", (8, 6, 6)), layer("net", "Add", (8, 6, 6))], "net"),
    "unknown sizes count as space": ([layer("conv", "Conv", (8, None, None))], "conv"),
}


@pytest.mark.parametrize("case", AUTO)
def test_auto(case):
    layers, expected = AUTO[case]
    assert LayerTable(layers).cam("auto").name == expected


def test_a_layer_that_is_called_auto():
    table = LayerTable([layer("auto", "Conv", (8, 6, 6)), ACT])
    assert table.cam("auto").name == "auto"


def test_lookup():
    table = LayerTable([CONV, ACT])
    assert table["act"] is table[1] is table[-1] is ACT
    assert [t.name for t in table[:1]] == ["conv"]
    assert isinstance(table[:1], LayerTable)
    assert list(table) == [CONV, ACT]
    assert len(table) == 2
    assert "act" in table
    assert ACT in table
    assert "nothing" not in table


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("cnv", ["no layer 'cnv'", "did you mean 'conv'?"]),
        ("zzzzzz", ["no layer 'zzzzzz'", "ex.layers lists them"]),
        (2, ["layer 2 is out of range", "2 layers"]),
        (-3, ["layer -3 is out of range"]),
        (None, ["no layer None"]),
        (1.0, ["no layer 1.0"]),
    ],
)
def test_unknown_layers(key, words):
    with pytest.raises(LayerError) as refusal:
        LayerTable([CONV, ACT])[key]
    assert all(word in str(refusal.value) for word in words), refusal.value


FLAT_TABLE = LayerTable([
    CONV, layer("fc", "Gemm", (5,), FLAT), layer("side", "Conv", (8, 6, 6), gradient=False),
    layer("cells", "Add", (8, 3, 2, 6), Axes(0, 1, (4,))),
])  # fmt: skip


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("fc", ["'fc'", "no class activation map", "the last that has: 'conv'"]),
        ("cells", ["'cells'", "no class activation map", "the last that has: 'conv'"]),
        ("side", ["'side' has no gradient", "no output depends on it"]),
    ],
)
def test_layers_without_maps(key, words):
    with pytest.raises(LayerError) as refusal:
        FLAT_TABLE.cam(key)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize("key", ["auto", "fc"])
def test_a_network_without_space(key):
    with pytest.raises(LayerError, match="saliency"):
        LayerTable([layer("fc", "Gemm", (5,), FLAT)]).cam(key)


def test_the_table_prints_what_matters():
    lines = str(FLAT_TABLE).splitlines()
    assert lines[0].split() == ["name", "type", "shape", "channel", "spatial", "parameters", "gradient"]
    assert lines[1].split() == ["0", "conv", "Conv", "N×8×6×6", "1", "2,3", "3", "yes"]
    assert lines[3].endswith("no: no output depends on it")
    assert len({line.index(word) for line, word in zip(lines[:3], ("shape", "N×8", "N×5"), strict=True)}) == 1
