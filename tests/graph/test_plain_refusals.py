"""What is no model, or none that can be read, is refused in words."""

from __future__ import annotations

import onnx
import pytest

from onnxviz.errors import (
    FileFormatError,
    InputError,
    LayerError,
    OnnxvizError,
    UnsupportedModelError,
    UnsupportedOperatorError,
)
from onnxviz.graph.plain import source
from tests.graph.plain_models import check, cnn
from tests.graph.texts import proto


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


def test_every_refusal_is_one_of_ours():
    for error in (FileFormatError, UnsupportedModelError, UnsupportedOperatorError, InputError, LayerError):
        assert issubclass(error, OnnxvizError)
