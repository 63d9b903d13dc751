"""Plain ``.onnx`` files of every kind: read, lifted, tapped, or refused in words."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from onnxviz.errors import (
    ConversionError,
    FileFormatError,
    InputError,
    LayerError,
    OnnxvizError,
    UnsupportedModelError,
    UnsupportedOperatorError,
)
from onnxviz.graph.normalise import normalise
from onnxviz.graph.plain import source
from onnxviz.source import Source, seeded

RNG = np.random.default_rng(0)


def package_file(package: str, path: str) -> Path:
    """A file of an installed package that is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


LIGHT = sorted(package_file("onnx", "backend/test/data/light").glob("light_*.onnx"))

CNN = """
g (float[batch, 3, 8, 8] image) => (float[batch, 5] scores) {
  conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(image, w, b)
  norm = BatchNormalization(conv, s, s, s, v)
  act = Relu(norm)
  pool = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(act)
  both = Concat<axis = 1>(pool, pool)
  flat = Flatten(both)
  scores = Gemm<transB = 1>(flat, m, c)
}
"""
WEIGHTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "s": np.linspace(0.5, 1.5, 4, dtype=np.float32),
    "v": np.linspace(1, 2, 4, dtype=np.float32),
    "m": RNG.standard_normal((5, 128)).astype(np.float32),
    "c": RNG.standard_normal(5).astype(np.float32),
}


def proto(
    text: str, *, opset: int = 18, ir_version: int = 8, imports: str = "", **weights: np.ndarray
) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}{imports}]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def cnn(**options: int) -> onnx.ModelProto:
    return proto(CNN, **options, **WEIGHTS)


def check(plain: Source, *batches: int) -> None:
    """The normalised graph is valid and gives, for every output and layer, what the original gives."""
    normalise(plain.model)
    model = ir.to_proto(plain.model)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_outputs()]
    assert set(names) == {*plain.outputs.values(), *(tap.value for tap in plain.taps)}
    for batch in batches or (None,):
        feeds = {k: np.resize(v, (batch, *v.shape[1:])) if batch else v for k, v in plain.example.items()}
        got = dict(zip(names, session.run(names, feeds), strict=True))
        expected = plain.reference.run(feeds)
        assert set(expected) == {*plain.outputs, *(tap.name for tap in plain.taps)}
        for public, value in {**{t.name: t.value for t in plain.taps}, **plain.outputs}.items():
            scale = np.abs(expected[public]).max()
            assert np.abs(got[value] - expected[public]).max() <= 1e-4 * scale, public


# ------------------------------------------------------------------------------------------------------ whole models


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


# ----------------------------------------------------------------------------------------------- where weights lie


def as_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    model.ir_version = 3
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    return model


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
@pytest.mark.parametrize("place", [as_constants, as_inputs])
def test_weights_in_other_places(place, opset):
    plain = source(place(cnn(opset=opset)))
    assert [value.name for value in plain.model.graph.inputs] == ["image"]
    assert sum(tap.parameters for tap in plain.taps) == 765
    check(plain, 3)


LARGE = RNG.standard_normal((200, 200)).astype(np.float32)
LARGE_MODEL = "g (float[N, 200] x) => (float[N, 200] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
@pytest.mark.parametrize(
    "place", [lambda model: model, as_constants, as_inputs], ids=["initializer", "constant", "input"]
)
def test_large_weights(place, opset):
    model = place(proto(LARGE_MODEL, opset=opset, w=LARGE))
    given = model.SerializeToString()
    plain = source(model)
    assert model.SerializeToString() == given
    check(plain, 3)


@pytest.fixture
def external(tmp_path):
    model = proto(LARGE_MODEL, opset=13, w=LARGE)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def relocated(path: Path, location: str) -> Path:
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data(external, monkeypatch):
    plain = source(external)
    stored = plain.model.graph.initializers["w"].const_value
    assert stored is not None
    assert isinstance(stored.numpy(), np.memmap)
    check(plain, 3)
    monkeypatch.chdir(external.parent)
    check(source("model.onnx"), 3)


def test_external_constants(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(
        as_constants(proto(LARGE_MODEL, w=LARGE)),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    assert (tmp_path / "weights.bin").stat().st_size == LARGE.nbytes
    check(source(path), 3)


def test_missing_external_data_is_named(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(FileFormatError, match=r"'model.onnx'.*'weights.bin'.*beside"):
        source(external)


def test_short_external_data_is_named(external):
    data = external.parent / "weights.bin"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"'weights.bin'.*1000 bytes.*160000"):
        source(external)


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin", "C:\\w.bin", "..\\w", ""]
)
def test_external_data_elsewhere_is_refused(external, location):
    with pytest.raises(UnsupportedModelError, match=r"outside of the model's own folder"):
        source(relocated(external, location))


def test_a_protobuf_with_external_data_is_refused(external):
    with pytest.raises(UnsupportedModelError, match=r"path"):
        source(onnx.load(external, load_external_data=False))


# ------------------------------------------------------------------------------------------------- what is no model


def test_every_truncation_is_refused(tmp_path):
    data = cnn(opset=13).SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data)
    check(source(path))
    for length in {0, 1, 2, 3, len(data) - 1, *range(1, len(data), 97), *range(len(data) - 40, len(data))}:
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError, match=r"'cut.onnx'"):
            source(path)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a zip file", b"hello, world\n", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(100), b"{}"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"'other.onnx' is not"):
        source(path)


def test_directories_are_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"is a directory.*SavedModel"):
        source(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"there is no file .*none\.onnx"):
        source(tmp_path / "none.onnx")


def test_explainable_files_are_for_load():
    model = cnn()
    onnx.helper.set_model_props(model, {"onnxviz.format": "1"})
    with pytest.raises(UnsupportedModelError, match=r"explainable file already.*onnxviz\.load"):
        source(model)


REFUSED = {
    "custom domain": (
        "g (float[N, 3] x) => (float[N, 3] y) { y = my.shop.Blur(x) }",
        UnsupportedOperatorError,
        "Blur of 'y' of the operator set 'my.shop'",
    ),
    "unknown operator": (
        "g (float[N, 3] x) => (float[N, 3] y) { y = Blur(x) }",
        UnsupportedOperatorError,
        "Blur of 'y' of the operator set 'ai.onnx'",
    ),
    "undefined value": (
        "g (float[N, 3] x) => (float[N, 3] y) { y = Relu(z) }",
        FileFormatError,
        "damaged: Relu '' reads 'z'",
    ),
    "no inputs": ("g () => (float[1] y) { y = Constant<value_floats = [1.0]>() }", UnsupportedModelError, "no inputs"),
    "sequence input": (
        "g (seq(float[N]) x) => (float[N] y) { y = ConcatFromSequence<axis = 0>(x) }",
        UnsupportedModelError,
        "'x' is sequence_type",
    ),
    "sequence output": (
        "g (float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }",
        UnsupportedModelError,
        "output 'y' is seq",
    ),
}


@pytest.mark.parametrize(("text", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(text, error, message):
    with pytest.raises(error, match=message):
        source(proto(text, imports=', "my.shop": 1'))


def test_a_newer_opset_than_onnxruntime_reads_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"newer than onnxruntime .* reads: .*Opset 99"):
        source(cnn(opset=99))


# ------------------------------------------------------------------------------------------------------------ shapes


def test_a_batch_that_only_seems_open_is_fixed():
    model = proto(
        "g (float[N, 6] x) => (float[1, 2] y) "
        "{ s = Constant<value_ints = [1, 6]>() r = Reshape(x, s) a = Relu(r) y = MatMul(a, w) }",
        w=np.ones((6, 2), np.float32),
    )
    plain = source(model)
    assert plain.example["x"].shape == (1, 6)
    assert list(plain.model.graph.inputs[0].shape) == [1, 6]
    assert any("does not run at 2; the file keeps 1" in note for note in plain.notes)
    check(plain)
    with pytest.raises(ConversionError, match=r"(?s)x \(3, 6\).*example="):
        source(model, example=np.ones((3, 6), np.float32))


def test_several_inputs():
    model = proto("g (float[rows, 3] a, float[others, 3] b) => (float[N, 3] y) { y = Sub(a, b) }")
    plain = source(model, layers="y")
    assert not np.array_equal(plain.example["a"], plain.example["b"])
    assert {value.name: [str(d) for d in value.shape] for value in plain.model.graph.inputs} == {
        "a": ["N", "3"],
        "b": ["N", "3"],
    }
    check(plain, 1, 4)


def test_declared_shapes_inside_are_not_believed():
    model = proto("g (float[N, 4] x) => (float[1, 4] y) { a = Relu(x) y = Neg(a) }")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, [1, 4]))
    check(source(model), 1, 3)


EXAMPLE = np.ones((2, 3, 8, 8), np.float32)
ACCEPTED = {"array": EXAMPLE, "tuple": (EXAMPLE,), "mapping": {"image": EXAMPLE}, "one sample": EXAMPLE[:1]}


@pytest.mark.parametrize("example", ACCEPTED.values(), ids=ACCEPTED)
def test_examples(example):
    plain = source(cnn(), example=example)
    assert np.all(plain.example["image"] == 1)
    assert str(plain.model.graph.inputs[0].shape[0]) == "N"


BAD_EXAMPLES = {
    "dtype": (EXAMPLE.astype(np.float64), r"'image'.*float64.*expected float32.*astype"),
    "rank": (EXAMPLE[0], r"'image'.*\(3, 8, 8\); expected float32 \(batch, 3, 8, 8\)"),
    "size": (EXAMPLE[:, :, :4], r"'image'.*\(2, 3, 4, 8\)"),
    "not finite": (EXAMPLE * np.nan, "'image'.*not finite"),
    "empty": (EXAMPLE[:0], "'image'.*empty"),
    "name": ({"img": EXAMPLE}, r"\['img'\]; the inputs are \['image'\]"),
    "number": ((EXAMPLE, EXAMPLE), r"2 array.*1 input.*'image'"),
}


@pytest.mark.parametrize(("example", "message"), BAD_EXAMPLES.values(), ids=BAD_EXAMPLES)
def test_bad_examples(example, message):
    with pytest.raises(InputError, match=message):
        source(cnn(), example=example)


def test_inputs_of_different_batch_are_refused():
    model = proto("g (float[N, 3] a, float[M, 3] b) => (float[N, 3] y) { y = Add(a, b) }")
    with pytest.raises(InputError, match=r"differ in batch size.*'a': 2.*'b': 1"):
        source(model, example=(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)))


NEED_EXAMPLE = {
    "integers": ("g (int64[N, 3] ids) => (float[N, 3] y) { y = Cast<to = 1>(ids) }", "'ids' is int64"),
    "size": ("g (float[N, T] x) => (float[N, T] y) { y = Relu(x) }", "'x'.*dimension T .axis 1"),
    "unnamed size": ("g (float[2, ?] x) => (float[2, ?] y) { y = Relu(x) }", "'x'.*dimension . .axis 1"),
}


@pytest.mark.parametrize(("text", "message"), NEED_EXAMPLE.values(), ids=NEED_EXAMPLE)
def test_examples_are_asked_for(text, message):
    with pytest.raises(InputError, match=f"{message}.*example="):
        source(proto(text))


def test_integer_inputs_with_an_example():
    model = proto(
        "g (int64[N, T] ids) => (float[N, T, 4] y) { e = Gather(table, ids) r = Relu(e) y = Add(r, r) }",
        table=RNG.standard_normal((10, 4)).astype(np.float32),
    )
    plain = source(model, example=np.array([[1, 2, 3]]))
    assert [str(size) for size in plain.model.graph.inputs[0].shape] == ["N", "T"]
    assert [tap.name for tap in plain.taps] == ["r", "y"]
    check(plain, 2)


# ------------------------------------------------------------------------------------------------------------ layers

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


def test_every_refusal_is_one_of_ours():
    for error in (FileFormatError, UnsupportedModelError, UnsupportedOperatorError, InputError, LayerError):
        assert issubclass(error, OnnxvizError)
