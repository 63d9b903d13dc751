"""The weights' way into and out of a file, against onnx's own reader."""

from __future__ import annotations

import io
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from onnxviz import wire
from onnxviz.errors import FileFormatError
from tests.support import model_of, normal

LARGE = {
    "odd": normal(307, 1),
    "square": normal(64, 64, seed=1),
    "half": normal(33, 35, seed=2).astype(np.float16),
    "double": normal(300, 3, seed=3).astype(np.float64),
    "brain": normal(40, 41, seed=4).astype(ml_dtypes.bfloat16),
    "integers": np.arange(700, dtype=np.int64),
    "bytes": np.arange(5000, dtype=np.uint8),
    "truths": (np.arange(3000) % 3 == 0),
}
SMALL = {
    "scalar": np.array(3.5, np.float32),
    "few": np.arange(100, dtype=np.float32),
    "none": np.zeros((0, 4), np.float32),
}


def skeleton() -> onnx.ModelProto:
    model = model_of("y = Relu(x)", "float[N, 3] x", "float[N, 3] y", SMALL)
    model.metadata_props.add(key="before", value="1")
    return model


def written(path: Path, weights: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as file:
        wire.write(file, skeleton(), [(name, ir.tensor(array, name=name)) for name, array in weights.items()])
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return written(tmp_path / "weights.onnx", LARGE)


def test_onnx_reads_the_same_weights(path):
    loaded = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert list(loaded) == [*SMALL, *LARGE]
    for name, array in {**SMALL, **LARGE}.items():
        assert loaded[name].dtype == array.dtype, name
        assert loaded[name].shape == array.shape, name
        assert loaded[name].tobytes() == array.tobytes(), name


def test_regions_hold_the_same_bytes_aligned(path):
    _, regions = wire.read_skeleton(path)
    content = path.read_bytes()
    assert list(regions) == list(LARGE)
    for name, region in regions.items():
        assert region.file == path
        assert region.offset % wire.ALIGNMENT == 0, name
        assert region.dims == LARGE[name].shape
        assert content[region.offset : region.offset + region.length] == LARGE[name].tobytes(), name


@pytest.mark.parametrize("size", [1028, 4096, 2**14 - 40, 2**14 - 64, 2**21 - 40, 2**21 - 100])
def test_alignment_holds_where_lengths_take_more_bytes(tmp_path, size):
    arrays = {f"w{i}": normal(size // 4 + i, seed=i) for i in range(9)}
    path = written(tmp_path / "m.onnx", arrays)
    _, regions = wire.read_skeleton(path)
    assert {r.offset % wire.ALIGNMENT for r in regions.values()} == {0}
    loaded = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())


def filled(path: Path) -> onnx.ModelProto:
    """The skeleton with the bytes of its weights put back."""
    model, regions = wire.read_skeleton(path)
    content = path.read_bytes()
    for tensor in model.graph.initializer:
        if tensor.name in regions:
            region = regions[tensor.name]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = content[region.offset : region.offset + region.length]
    return model


def without_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
    return model


def test_the_skeleton_is_what_onnx_reads(path):
    assert without_padding(filled(path)) == without_padding(onnx.load(path))


def test_weights_as_lists_of_numbers_stay_in_the_skeleton(tmp_path):
    path, listed = tmp_path / "typed.onnx", skeleton()
    listed.graph.initializer.append(onnx.helper.make_tensor("typed", onnx.TensorProto.FLOAT, [600], list(range(600))))
    onnx.save(listed, path)
    model, regions = wire.read_skeleton(path)
    assert regions == {}
    assert model == onnx.load(path)


def test_what_is_appended_is_read(path):
    more = onnx.ModelProto()
    more.metadata_props.add(key="after", value="2")
    with path.open("ab") as file:
        file.write(more.SerializeToString())
    read = [(p.key, p.value) for p in wire.read_skeleton(path)[0].metadata_props]
    assert read == [("before", "1"), ("after", "2")] == [(p.key, p.value) for p in onnx.load(path).metadata_props]


def test_only_one_weight_is_in_memory_at_a_time():
    class Held:
        alive = peak = 0

        def __init__(self, array):
            self.tensor = ir.tensor(array)
            self.dtype, self.shape, self.nbytes = self.tensor.dtype, self.tensor.shape, self.tensor.nbytes

        def tobytes(self):
            class Bytes(bytes):
                def __del__(self):
                    Held.alive -= 1

            Held.alive += 1
            Held.peak = max(Held.peak, Held.alive)
            return Bytes(self.tensor.tobytes())

    wire.write(io.BytesIO(), skeleton(), [(f"w{i}", Held(normal(1000, seed=i))) for i in range(6)])
    assert Held.peak == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x00" * 64, "not an ONNX file"),
        (b"PK\x03\x04" + b"zip" * 50, "not an ONNX file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not an ONNX file"),
        (b"<html>not found</html>", "not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "not an ONNX file"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "cut off"),
        (b"\x08", "cut off"),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content, words):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as refusal:
        wire.read_skeleton(path)
    assert str(path) in str(refusal.value)
