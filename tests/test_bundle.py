"""The file's contract: what is written is what is read, by onnx and onnxruntime too; what is damaged is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import onnxviz as ov
from onnxviz import bundle
from onnxviz.errors import ConversionError
from onnxviz.manifest import FORMAT_VERSION, Manifest
from tests.support import (
    WEIGHTS,
    assert_close,
    convert,
    data_files,
    mlp,
    model_of,
    network,
    normal,
    tensors,
    torch_gradient,
)


def stock(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def numpy_mlp(x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ WEIGHTS["w"] + WEIGHTS["c"], 0) @ WEIGHTS["m"]


# ----- what is written -----


def test_weights_are_stored_once_and_unchanged(file):
    opened = bundle.read(file)
    assert {name: a.shape for name, a in opened.weights.items()} == {name: a.shape for name, a in WEIGHTS.items()}
    for name, array in WEIGHTS.items():
        assert opened.weights[name].tobytes() == array.tobytes(), name
        assert file.read_bytes().count(array.tobytes()) == 1, name
    assert opened.weight_bytes == sum(a.nbytes for a in WEIGHTS.values())


def test_weights_are_mapped_and_cannot_be_written(file):
    with pytest.raises(ValueError, match="read-only"):
        bundle.read(file).weights["w"][0, 0] = 1


@pytest.mark.parametrize("external", [False, True])
def test_onnx_and_onnxruntime_take_the_file(file, beside, external):
    path = beside if external else file
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import if o.domain == ""]) == (10, [("", 18)])
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer if t.name in WEIGHTS} == {
        name: array.tobytes() for name, array in WEIGHTS.items()
    }
    x = normal(4, 6, seed=5)
    (y,) = stock(path).run(["y"], {"x": x})
    assert_close(y, numpy_mlp(x))


def test_metadata_is_json_under_one_prefix(file):
    entries = {p.key: json.loads(p.value) for p in onnx.load(file).metadata_props}
    assert all(key.startswith("onnxviz.") for key in entries)
    assert entries["onnxviz.format_version"] == FORMAT_VERSION
    assert entries["onnxviz.framework"] == "onnx"
    assert entries["onnxviz.versions"]["onnx"] == onnx.__version__
    assert [row["name"] for row in entries["onnxviz.layers"]] == ["h", "a", "y"]
    assert set(entries["onnxviz.residuals"]) == {"outputs", "layers", "gradient", "recipe", "digests"}


def test_the_manifest_survives_the_file(cnn):
    manifest = bundle.read(cnn.path).manifest
    assert Manifest.from_metadata(manifest.metadata(), cnn.path) == manifest


# ----- the file in stock onnxruntime -----


@pytest.mark.parametrize("batch", [1, 3])
def test_without_a_seed_it_is_the_plain_model(cnn, batch):
    feeds = cnn.feeds(batch)
    (got,) = stock(cnn.path).run(["head"], feeds)
    assert_close(got, cnn.model(**tensors(feeds)).detach().numpy())


@pytest.mark.parametrize("batch", [1, 3])
def test_without_a_seed_gradients_are_zero(cnn, batch):
    (got,) = stock(cnn.path).run(["grad/image"], cnn.feeds(batch))
    assert got.shape == (batch, 3, 12, 12)
    assert not got.any()


@pytest.mark.parametrize("batch", [1, 3])
def test_a_seed_gives_the_gradient(cnn, batch):
    feeds = cnn.feeds(batch)
    seed = np.zeros((batch, 5), np.float32)
    seed[:, 2] = 1
    got, inner = stock(cnn.path).run(["grad/image", "grad/features.1"], {**feeds, "seed/output": seed})
    assert_close(got, torch_gradient(cnn.model, feeds, lambda y: y[:, 2]))
    assert_close(inner, torch_gradient(cnn.model, feeds, lambda y: y[:, 2], layer="features.1"))
    assert_close(cnn.explainer.gradient(feeds, 2), got, bar=1e-6)


def test_a_seed_of_batch_one_serves_every_sample(cnn):
    feeds, seed = cnn.feeds(3), normal(1, 5, seed=4)
    (got,) = stock(cnn.path).run(["grad/image"], {**feeds, "seed/output": seed})
    assert_close(got, torch_gradient(cnn.model, feeds, lambda y: (y * y.new_tensor(seed)).sum(1)))


def test_names_of_inputs_and_outputs(subjects):
    session = stock(subjects("two heads").path)
    assert [i.name for i in session.get_inputs()] == ["first", "second"]
    assert [i.name for i in session.get_overridable_initializers()] == ["seed/both", "seed/one"]
    gradients = ["grad/first", "grad/second", "grad/left", "grad/right", "grad/out"]
    assert sorted(o.name for o in session.get_outputs()) == sorted(["left", "right", "out", "one", *gradients])
    assert [(o.name, o.value) for o in subjects("two heads").explainer.outputs] == [("both", "out"), ("one", "one")]


@pytest.mark.parametrize("name", ["cnn", "series", "volume", "tokens", "two heads", "mixed"])
def test_shapes_of_outputs_keep_the_batch_symbolic(subjects, name):
    model = onnx.load(subjects(name).path)
    for value in model.graph.output:
        first = value.type.tensor_type.shape.dim[0]
        assert first.dim_param, value.name
        assert value.name.startswith("grad/") == (first.dim_param == "N_of_gradient"), value.name


def test_the_graph_is_in_the_training_vocabulary(cnn):
    model = onnx.load(cnn.path)
    nodes = [(n.domain, n.op_type) for n in model.graph.node]
    assert nodes.count(("com.microsoft", "ReluGrad")) == 2
    assert nodes.count(("com.microsoft", "ConvGrad")) == 2
    assert {("com.microsoft", "ReluGrad"), ("com.microsoft", "ConvGrad")} == {
        (f.domain, f.name) for f in model.functions
    }


# ----- weights beside the file -----


def test_external_data(file, beside):
    (name,) = data_files(beside.parent)
    assert sorted(p.name for p in beside.parent.iterdir()) == sorted(["net.onnx", name])
    stem, digest, _ = name.rsplit(".", 2)
    assert (stem, len(digest), digest.strip("0123456789abcdef")) == ("net", 16, "")
    assert file.stat().st_size - beside.stat().st_size > 0.9 * sum(a.nbytes for a in WEIGHTS.values())
    opened = bundle.read(beside)
    assert all(np.array_equal(opened.weights[name], array) for name, array in WEIGHTS.items())
    x = normal(2, 6)
    assert_close(ov.load(beside).gradient(x, 1), ov.load(file).gradient(x, 1))
    assert_close(ov.load(beside).predict(x), numpy_mlp(x))


def test_the_old_data_file_goes_when_the_file_is_replaced(tmp_path, plain):
    folder = tmp_path / "out"
    folder.mkdir()
    ov.convert(plain, folder / "net.onnx", external_data=True, quiet=True)
    (old,) = data_files(folder)
    onnx.save(mlp(m=normal(400, 3, seed=9)), plain)
    ov.convert(plain, folder / "net.onnx", external_data=True, quiet=True)
    (new,) = data_files(folder)
    assert new != old
    ov.convert(plain, folder / "net.onnx", external_data=True, quiet=True)
    assert data_files(folder) == [new]
    ov.convert(plain, folder / "net.onnx", external_data=False, quiet=True)
    assert data_files(folder) == []


def test_data_files_of_other_models_stay(tmp_path, plain):
    for name in ("net.onnx", "net.b.onnx", "network.onnx"):
        ov.convert(plain, tmp_path / name, external_data=True, quiet=True)
    ov.convert(plain, tmp_path / "net.onnx", quiet=True)
    assert {name.rsplit(".", 2)[0] for name in data_files(tmp_path)} == {"net.b", "network"}


@pytest.mark.parametrize("name", ["net[1].onnx", "net*.onnx", "a b.onnx", "net", "ünï.onnx", ".hidden.onnx"])
def test_file_names_with_odd_characters(tmp_path, plain, name):
    x = normal(2, 6)
    path = ov.convert(plain, tmp_path / name, external_data=True, quiet=True)
    assert_close(ov.load(path).predict(x), numpy_mlp(x))
    path = ov.convert(plain, tmp_path / name, quiet=True)
    assert_close(ov.load(path).predict(x), numpy_mlp(x))
    assert data_files(tmp_path) == []


def unrunnable(path: Path) -> None:
    """A model that converts up to the check: its operator has no gradient rule."""
    onnx.save(
        model_of("d = Det(x)  s = Shape(d)  y = Reshape(d, s)", "float[N, 3, 3] x", "float[N] y", {"w": normal(300)}),
        path,
    )


def test_old_data_stays_when_the_conversion_fails(tmp_path, plain):
    folder = tmp_path / "out"
    folder.mkdir()
    path = ov.convert(plain, folder / "net.onnx", external_data=True, quiet=True)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    unrunnable(plain)
    with pytest.raises(ConversionError):
        ov.convert(plain, path, external_data=True, quiet=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("calls", [0, 1])
def test_a_process_killed_while_renaming_leaves_a_loadable_file(tmp_path, plain, monkeypatch, calls):
    folder = tmp_path / "out"
    folder.mkdir()
    path = ov.convert(plain, folder / "net.onnx", external_data=True, quiet=True)
    onnx.save(mlp(m=normal(400, 3, seed=9)), plain)
    replace, made = os.replace, []

    def killed(*paths):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        ov.convert(plain, path, external_data=True, quiet=True)
    x = normal(2, 6)
    assert_close(ov.load(path).predict(x), numpy_mlp(x))


def test_a_torch_file_with_weights_beside_explains(tmp_path):
    path = convert("cnn", tmp_path / "cnn.onnx", external_data=True)
    feeds = {"image": normal(2, 3, 12, 12, seed=3)}
    assert_close(ov.load(path).gradient(feeds, 1), torch_gradient(network("cnn"), feeds, lambda y: y[:, 1]))
