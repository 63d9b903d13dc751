"""Models that come as files: what is loaded, what is refused, and that nothing is left behind."""

from __future__ import annotations

import tempfile
import warnings
import zipfile

import keras
import pytest
from keras import layers as L

import onnxviz as ov
from onnxviz.errors import FileFormatError, UnsupportedModelError
from tests.converters.keras.support import fill, global_state, normal
from tests.models.comparison import assert_values


class Doubling(L.Layer):
    def call(self, x):
        return 2 * x


def wave(x):
    return keras.ops.sin(x)


def network(*layers):
    x = keras.Input((6,), name="table")
    value = L.Dense(4, activation="tanh", name="hidden")(x)
    for layer in layers:
        value = layer(value)
    return fill(keras.Model(x, L.Dense(3, name="head")(value)))


MODELS = {
    "plain": network,
    "lambda": lambda: network(L.Lambda(lambda x: 2 * x, name="twice")),
    "layer": lambda: network(Doubling(name="twice")),
    "function": lambda: network(L.Activation(wave, name="wave")),
    "named lambda": lambda: network(L.Lambda(wave, name="wave")),
}


@pytest.fixture
def save(tmp_path):
    """A function that writes a model into a folder of its own, and the model."""

    def write(name, suffix):
        folder = tmp_path / "saved"
        folder.mkdir()
        model = MODELS[name]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Keras asks numpy for a copy as numpy 1 had it
            (model.save_weights if suffix == ".weights.h5" else model.save)(folder / f"model{suffix}")
        return folder / f"model{suffix}", model

    return write


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path, monkeypatch):
    """Nothing stays where temporary files go, where one is, or where refused files would have gone."""
    folders = [tmp_path / name for name in ("temporary", "here", "out")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders[0]))
    monkeypatch.chdir(folders[1])
    state = global_state()
    yield
    assert global_state() == state
    for folder in folders:
        assert [path.name for path in folder.iterdir()] == (["net.onnx"] if (folder / "net.onnx").exists() else [])


suffixes = pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
KNOWN = {"Doubling": Doubling, "wave": wave}
OPTIONS = {
    "plain": {},
    "lambda": {"trust_code": True},
    "layer": {"custom_objects": KNOWN},
    "function": {"custom_objects": KNOWN},
    "named lambda": {"custom_objects": KNOWN},
}


@suffixes
@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_converted_as_its_model_is(save, name, suffix, tmp_path):
    path, model = save(name, suffix)
    table = normal(4, 6)
    with ov.load(ov.convert(path, tmp_path / "out" / "net.onnx", quiet=True, **OPTIONS[name])) as explainer:
        assert [layer.name for layer in explainer.layers] == [layer.name for layer in model.layers[1:]]
        assert_values(explainer.predict(table), model(table).numpy(), "output", 1e-5)
        assert explainer.metadata["framework"] == "keras"


UNKNOWN = {
    "lambda": "holds Python code .a Lambda layer.*trust_code=True",
    "layer": r"holds 'Doubling', which Keras does not know: if it is yours, pass custom_objects=\{'Doubling'",
    "function": "holds 'wave'.*custom_objects",
    "named lambda": "holds 'wave'.*custom_objects",
}


@suffixes
@pytest.mark.parametrize("name", UNKNOWN)
def test_code_is_neither_run_nor_guessed(save, name, suffix, tmp_path):
    path, _ = save(name, suffix)
    with pytest.raises(UnsupportedModelError, match=rf"model\{suffix} {UNKNOWN[name]}"):
        ov.convert(path, tmp_path / "out" / "net.onnx")


def test_weights_alone_are_no_model(save, tmp_path):
    path, _ = save("plain", ".weights.h5")
    with pytest.raises(UnsupportedModelError, match="holds weights only: build the model"):
        ov.convert(path, tmp_path / "out" / "net.onnx")


@suffixes
def test_there_is_no_file(suffix, tmp_path):
    with pytest.raises(FileFormatError, match="there is no file"):
        ov.convert(tmp_path / f"model{suffix}", tmp_path / "out" / "net.onnx")


def damaged(path, how):
    content = path.read_bytes()
    if how == "entries":
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, entry in entries.items():
                archive.writestr(name, entry[: len(entry) // 2])
    else:
        path.write_bytes({"empty": b"", "nonsense": b"nonsense", "cut": content[: len(content) // 2]}[how])


@pytest.mark.parametrize(
    ("suffix", "how"),
    [(suffix, how) for suffix in (".keras", ".h5") for how in ("empty", "nonsense", "cut")] + [(".keras", "entries")],
)
def test_damaged_files(save, suffix, how, tmp_path):
    path, _ = save("plain", suffix)
    damaged(path, how)
    with pytest.raises(UnsupportedModelError, match=rf"model\{suffix} (is no .keras archive|holds no model)"):
        ov.convert(path, tmp_path / "out" / "net.onnx")


def test_a_file_that_was_there_stays_where_the_conversion_fails(save, tmp_path):
    path, _ = save("lambda", ".keras")
    out = tmp_path / "out" / "net.onnx"
    out.write_bytes(b"before")
    with pytest.raises(UnsupportedModelError):
        ov.convert(path, out)
    assert out.read_bytes() == b"before"


def test_a_small_archive_of_something_large(save, tmp_path):
    path, _ = save("plain", ".keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(10**7))
    with pytest.raises(UnsupportedModelError, match="would unpack to 10 MiB"):
        ov.convert(path, tmp_path / "net.onnx", quiet=True)
