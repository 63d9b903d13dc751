"""Weights of plain ``.onnx`` files: in initializers, constants and inputs, or in files beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxviz.errors import FileFormatError, UnsupportedModelError
from onnxviz.graph.plain import source
from tests.graph.plain_models import check, cnn
from tests.graph.texts import proto
from tests.support import normal


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


LARGE = normal(200, 200)
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
