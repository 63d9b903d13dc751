"""What is damaged, cut off, foreign or plain is refused, and the message says what it is and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxviz as ov
from onnxviz import bundle, wire
from onnxviz.errors import FileFormatError, OnnxvizError
from tests.support import data_files


def test_truncated_at_any_place(tmp_path, file):
    content, cut = file.read_bytes(), tmp_path / "cut.onnx"
    residuals = content.rindex(b"onnxviz.residuals") - 8
    for length in [
        *range(1, 200, 7),
        *np.linspace(200, residuals, 80, dtype=int),
        *range(len(content) - 40, len(content)),
    ]:
        cut.write_bytes(content[:length])
        with pytest.raises(FileFormatError) as refusal:
            ov.load(cut)
        assert str(cut) in str(refusal.value), length


def test_random_bytes_are_refused(tmp_path):
    path, rng = tmp_path / "random.onnx", np.random.default_rng(0)
    for length in (1, 2, 3, 10, 100, 1000, 10_000) * 20:
        path.write_bytes(rng.bytes(length))
        with pytest.raises(FileFormatError):
            ov.load(path)


def test_one_damaged_byte_never_gives_another_kind_of_error(tmp_path, cnn):
    content, path = bytearray(cnn.path.read_bytes()), tmp_path / "damaged.onnx"
    rng = np.random.default_rng(0)
    weights = [(r.offset, r.offset + r.length) for r in wire.read_skeleton(cnn.path)[1].values()]
    places = [p for p in rng.integers(0, len(content), 900) if not any(a <= p < b for a, b in weights)]
    refused = 0
    for place in places[:300]:
        damaged = content.copy()
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            bundle.read(path)
        except FileFormatError:
            refused += 1
    assert refused > 30


def changed(path: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())


def metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        (entry,) = [p for p in model.metadata_props if p.key == f"onnxviz.{key}"]
        entry.value = value

    return edit


def external(**entries: str) -> Callable[[onnx.ModelProto], None]:
    """Change where the first external weight is said to lie."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.external_data)
        kept = {e.key: e.value for e in tensor.external_data} | entries
        tensor.ClearField("external_data")
        for key, value in kept.items():
            if value:
                tensor.external_data.add(key=key, value=value)

    return edit


def without(kind: str, name: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        values = getattr(model.graph, kind)
        values.remove(next(v for v in values if v.name == name))

    return edit


def told(key: str, *path: str | int, value: object) -> Callable[[onnx.ModelProto], None]:
    """Change a value inside of a table of the metadata."""

    def edit(model: onnx.ModelProto) -> None:
        (entry,) = [p for p in model.metadata_props if p.key == f"onnxviz.{key}"]
        inside = table = json.loads(entry.value)
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = value
        entry.value = json.dumps(table)

    return edit


def constant_elsewhere(model: onnx.ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["elsewhere"])
    tensor = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t
    tensor.name, tensor.data_type, tensor.data_location = "far", onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")


def overflowing(model: onnx.ModelProto) -> None:
    external(length="0")(model)
    next(t for t in model.graph.initializer if t.external_data).dims[:] = [2**62, 4]


DAMAGES = {
    "other version": (metadata("format_version", "2"), ["format version 2", "reads 1", "convert the model again"]),
    "metadata is no JSON": (metadata("layers", "{"), ["damaged", "convert the model again"]),
    "metadata of another kind": (metadata("layers", '"text"'), ["damaged"]),
    "metadata is a number": (metadata("inputs", "3"), ["damaged"]),
    "an unknown key in a table": (metadata("outputs", '[{"name": "y", "colour": 3}]'), ["damaged"]),
    "a version without an end": (metadata("format_version", "9" * 10_000), ["format version 99", "convert"]),
    "differences of nothing": (metadata("residuals", "{}"), ["metadata", "damaged", "'layers'"]),
    "differences that are text": (told("residuals", "layers", value={"h": "<b>"}), ["damaged", "'<b>' is no float"]),
    "differences that are a list": (told("residuals", "outputs", value=[1]), ["damaged", "[1]"]),
    "a gradient's that is text": (told("residuals", "gradient", value="small"), ["damaged", "'small'"]),
    "an input of no shape": (told("residuals", "recipe", "x", value={}), ["damaged", "'dtype'"]),
    "a digest of nothing": (
        told("residuals", "digests", "values", "h", value=None),
        ["damaged", "is no Digest"],
    ),
    "a batch of a fixed size": (
        told("layers", 0, "axes", value={"batch": 1, "channel": 0, "spatial": []}),
        ["damaged", "batch of 'h'"],
    ),
    "a constant in another file": (constant_elsewhere, ["'far'", "another file"]),
    "sizes whose product overflows": (overflowing, ["impossible shape"]),
    "a missing output": (without("output", "h"), ["lacks 'h'", "metadata promises"]),
    "a missing gradient": (without("output", "grad/x"), ["lacks 'grad/x'"]),
    "a missing seed": (without("input", "seed/y"), ["lacks 'seed/y'"]),
    "data in another folder": (external(location="../secret"), ["../secret", "beside"]),
    "data at an absolute path": (external(location="/etc/passwd"), ["/etc/passwd", "beside"]),
    "data without a place": (external(location=""), ["beside"]),
    "data in a folder": (external(location="."), ["'.'"]),
    "missing data": (external(location="net.0123456789abcdef.data"), ["net.0123456789abcdef.data", "missing"]),
    "data past the end": (external(offset="99999999"), ["outside", "cut off"]),
    "data before the start": (external(offset="-64"), ["outside"]),
    "data of no length": (external(length=""), ["not stated"]),
    "data at a word": (external(offset="here"), ["not stated"]),
    "data of another length": (external(length="8"), ["'", "takes", "8 are there"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_say_what_is_wrong(tmp_path, beside, damage):
    edit, words = DAMAGES[damage]
    (tmp_path / "secret").write_bytes(bytes(20_000))
    changed(beside, edit)
    with pytest.raises(FileFormatError) as refusal:
        ov.load(beside)
    assert all(word in str(refusal.value) for word in [str(beside.parent), *words]), refusal.value


def test_data_behind_a_link_is_refused(beside):
    (name,) = data_files(beside.parent)
    data = beside.with_name(name)
    data.rename(beside.with_name("elsewhere"))
    data.symlink_to(beside.with_name("elsewhere"))
    with pytest.raises(FileFormatError, match="only a file beside it"):
        ov.load(beside)


def test_a_truncated_data_file(beside):
    (name,) = data_files(beside.parent)
    beside.with_name(name).write_bytes(beside.with_name(name).read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=r"outside of 'net\.[0-9a-f]{16}\.data', which is cut off"):
        ov.load(beside)


def test_a_plain_onnx_file_wants_convert(plain):
    with pytest.raises(FileFormatError, match=r"plain ONNX file.*onnxviz\.convert\("):
        ov.load(plain)


@pytest.mark.parametrize(("name", "words"), [("missing.onnx", "there is no file"), (".", "is not a file")])
def test_what_is_no_file(tmp_path, name, words):
    with pytest.raises(FileFormatError, match=words):
        ov.load(tmp_path / name)


def test_a_folder_that_does_not_exist(tmp_path, plain):
    with pytest.raises(OnnxvizError, match=r"there is no folder .*nowhere"):
        ov.convert(plain, tmp_path / "nowhere" / "net.onnx", quiet=True)
