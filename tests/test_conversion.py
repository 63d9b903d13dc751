"""``convert``: what it refuses and in which words, what it leaves alone when it fails, what it says of outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import (
    CheckFailedError,
    ConversionError,
    FileFormatError,
    LayerError,
    OnnxvizError,
    OptionError,
    UnsupportedModelError,
    UnsupportedOperatorError,
)
from tests.support import assert_close, convert, model_of, network, normal, tensors, torch_gradient, torch_values

# ----- what is no model -----


def foreign(module: str, name: str) -> object:
    """An object that looks as if it came from another framework."""
    return type(name, (), {"__module__": module})()


MODELS = {
    "an object": (object(), ["builtins.object", "torch.nn.Module", ".onnx"]),
    "an array": (np.zeros(3), ["numpy.ndarray"]),
    "a class": (nn.Linear, ["builtins.type"]),
    "nothing": (None, ["NoneType"]),
    "weights": ("weights.pth", ["weights.pth", "holds weights", "example="]),
    "TorchScript": (Path("model.pt"), ["model.pt", "TorchScript", "torch.export.save"]),
    "a checkpoint": ("model.ckpt", ["model.ckpt", "nn.Module"]),
    "safetensors": ("model.safetensors", ["model.safetensors", "nn.Module"]),
    "a SavedModel": ("saved_model", ["saved_model", "without suffix", "SavedModel"]),
    "text": ("model.txt", [".txt", ".onnx", ".pt2"]),
    "tf_keras": (foreign("tf_keras.src.engine", "Model"), ["tf_keras", "Keras 3"]),
    "a function of JAX": (foreign("jaxlib.xla", "PjitFunction"), ["jaxlib.xla.PjitFunction", "torch.nn.Module"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_is_no_model(tmp_path, case):
    model, words = MODELS[case]
    with pytest.raises(UnsupportedModelError) as refusal:
        ov.convert(model, tmp_path / "net.onnx")
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert list(tmp_path.iterdir()) == []


def test_refusals_of_a_kind_of_model_are_type_errors(tmp_path):
    with pytest.raises(TypeError):
        ov.convert(3, tmp_path / "net.onnx")


TANH = model_of(
    "h = MatMul(x, w)  a = Tanh(h)  y = MatMul(a, m)",
    "float[N, 6] x",
    "float[N, 3] y",
    {"w": normal(6, 8), "m": normal(8, 3, seed=1)},
)

OPTIONS = {
    "gradient": ({"gradient": "yes"}, ["gradient='yes'", "'available'"]),
    "gradient None": ({"gradient": None}, ["gradient=None", "True, False or 'available'"]),
    "input": ({"input": {"size": 3}}, ["input={'size': 3}", "onnxviz.ImageInput"]),
    "pictures": ({"input": ov.ImageInput(3)}, ["makes arrays ['N', 3, 3, 3]", "takes ['N', 6]", "layout"]),
    "classes": ({"classes": "cat"}, ["classes", "sequence of text"]),
    "classes by number": ({"classes": 3}, ["classes", "sequence of text"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_impossible_options(tmp_path, case):
    options, words = OPTIONS[case]
    with pytest.raises(OptionError) as refusal:
        ov.convert(TANH, tmp_path / "net.onnx", quiet=True, **options)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert list(tmp_path.iterdir()) == []


# ----- an operator without a rule -----


class Determinants(nn.Module):
    """Determinants (of 1 × 1) between two layers: ONNX's Det has no gradient rule."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.middle = nn.Identity()
        self.after = nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, table):
        return self.head(torch.tanh(self.after(torch.linalg.det(self.before(table)[..., None, None]))))


def determinants() -> nn.Module:
    torch.manual_seed(0)
    return Determinants().eval()


def test_an_operator_without_a_rule_is_named(tmp_path):
    with pytest.raises(UnsupportedOperatorError) as refusal:
        ov.convert(determinants(), tmp_path / "net.onnx", example=normal(2, 6))
    message = str(refusal.value)
    assert "no gradient rule for Det 'n0' (output 'linalg_det')" in message
    assert "gradient=False" in message
    assert "gradient='available' for the 2 layers behind it" in message
    assert "'after', 'head'" in message


def test_the_layer_that_it_computes_is_named(tmp_path):
    model = model_of("a = Tanh(x)  d = Det(a)  e = Exp(d)  y = Neg(e)", "float[N, 3, 3] x", "float[N] y")
    with pytest.raises(
        UnsupportedOperatorError, match=r"no gradient rule for Det .* in layer 'd'.* 2 layers .*'d', 'e'"
    ):
        ov.convert(model, tmp_path / "net.onnx", layers=["a", "d", "e"])


def test_what_can_be_explained_of_it(tmp_path):
    model, feeds = determinants(), {"table": normal(3, 6, seed=3)}
    path = ov.convert(model, tmp_path / "net.onnx", example=normal(2, 6), gradient="available", quiet=True)
    ex = ov.load(path)
    assert {t.name: (t.has_gradient, t.reason) for t in ex.layers} == {
        "before": (False, "it lies before Det, which has no gradient rule"),
        "after": (True, None),
        "head": (True, None),
    }
    for name in ("before", "after", "head"):
        assert_close(ex.features(feeds, name)[name], torch_values(model, feeds, name))
    expected = torch_gradient(model, feeds, lambda y: y[:, 1], layer="after")
    assert_close(ex.gradient(feeds, 1, layer="after"), expected)
    with pytest.raises(LayerError, match=r"'before' has no gradient: it lies before Det"):
        ex.gradient(feeds, 1, layer="before")
    with pytest.raises(LayerError, match=r"no input .* layer='after'"):
        ex.gradient(feeds, 1)
    assert "no: it lies before Det" in str(ex.layers)
    assert set(ex.residuals["layers"]) == {"before", "after", "head"}
    assert ex.residuals["gradient"]["of"] == ["after"]


def test_without_a_gradient(tmp_path):
    model, feeds = determinants(), {"table": normal(3, 6, seed=3)}
    path = ov.convert(model, tmp_path / "net.onnx", example=normal(2, 6), gradient=False, quiet=True)
    ex = ov.load(path)
    assert {t.reason for t in ex.layers} == {"the file was converted with gradient=False"}
    assert not any(t.has_gradient for t in (*ex.layers, *ex.inputs, *ex.outputs))
    assert_close(ex.predict(feeds), model(**tensors(feeds)).detach().numpy())
    assert [row[0][0] for row in ex.top(feeds)] == model(**tensors(feeds)).argmax(1).tolist()
    assert "gradient" not in ex.residuals
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["table"]
    assert not any("grad" in node.name.lower() for node in onnx.load(path).graph.node)
    for question in (ex.gradient, ex.saliency, ex.grad_cam):
        with pytest.raises(OnnxvizError, match=r"gradient=(True|False)"):
            question(feeds, 1)


class Best(nn.Module):
    """The index of the best class, and nothing else."""

    def forward(self, table):
        return torch.tanh(table).argmax(1)


def test_nothing_to_take_the_gradient_of(tmp_path):
    with pytest.raises(ConversionError, match=r"nothing to take the gradient of.*gradient=False"):
        ov.convert(Best(), tmp_path / "net.onnx", example=normal(2, 6))
    ex = ov.load(ov.convert(Best(), tmp_path / "net.onnx", example=normal(2, 6), gradient=False, quiet=True))
    assert ex.predict(normal(3, 6)).tolist() == normal(3, 6).argmax(1).tolist()


# ----- what a failed conversion leaves -----


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 6)

    def forward(self, table):
        return self.body(table) + torch.rand_like(table)


def wrong_values(monkeypatch) -> nn.Module:
    from onnxviz_torch.reference import TorchReference

    run = TorchReference.run
    monkeypatch.setattr(TorchReference, "run", lambda self, feeds: {k: 1.01 * v for k, v in run(self, feeds).items()})
    return network("classifier")


FAILURES = {
    "no rule": (lambda _: determinants(), UnsupportedOperatorError),
    "other values": (wrong_values, CheckFailedError),
    "random values": (lambda _: Random(), ConversionError),
    "no such model": (lambda _: "nowhere.onnx", FileFormatError),
}


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("case", FAILURES)
def test_an_existing_file_survives_a_failed_conversion(tmp_path, monkeypatch, case, external):
    make, error = FAILURES[case]
    path = tmp_path / "net.onnx"
    path.write_bytes(b"what was there before")
    with pytest.raises(error):
        ov.convert(make(monkeypatch), path, example=normal(2, 6), external_data=external)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_random_networks_are_told_to_be_deterministic(tmp_path):
    with pytest.raises(CheckFailedError, match=r"output 'output'.*random at inference.*deterministic"):
        ov.convert(Random(), tmp_path / "net.onnx", example=normal(2, 6))


def test_an_existing_file_is_replaced_by_a_successful_one(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"what was there before")
    assert ov.convert(TANH, path, quiet=True) == path
    assert list(tmp_path.iterdir()) == [path]
    assert ov.load(path).predict(normal(2, 6)).shape == (2, 3)


def test_the_target_may_be_the_source(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(TANH, path)
    ov.convert(path, path, quiet=True)
    x = normal(2, 6)
    assert_close(ov.load(path).predict(x), np.tanh(x @ normal(6, 8)) @ normal(8, 3, seed=1))


def test_an_explainable_file_is_not_converted_again(tmp_path):
    ov.convert(TANH, tmp_path / "net.onnx", quiet=True)
    with pytest.raises(UnsupportedModelError, match=r"explainable file already.*onnxviz\.load"):
        ov.convert(tmp_path / "net.onnx", tmp_path / "again.onnx")


# ----- what a conversion says -----


def test_the_line_of_residuals(tmp_path, capsys):
    path = ov.convert(TANH, tmp_path / "net.onnx")
    line = capsys.readouterr().out
    assert line.startswith(f"{path}: onnx, 3 layers; values within ")
    assert "by finite differences" in line
    convert("classifier", tmp_path / "torch.onnx")
    assert capsys.readouterr().out == ""
    ov.convert(network("classifier"), tmp_path / "torch.onnx", example=normal(2, 6))
    line = capsys.readouterr().out
    assert "pytorch, 4 layers; values within " in line
    assert "of the original's, by autograd" in line


def test_the_file_says_where_it_came_from(cnn):
    metadata = cnn.explainer.metadata
    assert metadata["framework"] == "pytorch"
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["versions"]["onnx"] == onnx.__version__
    assert metadata["versions"]["onnxviz"] == ov.__version__
    assert metadata["static_batch"] is None


def test_classes_and_preprocessing_travel_with_the_file(tmp_path):
    names, image = [f"kind {i}" for i in range(5)], ov.ImageInput(size=12, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    ex = ov.load(convert("cnn", tmp_path / "net.onnx", classes=names, input=image))
    x = normal(2, 3, 12, 12)
    assert ex.classes == tuple(names)
    assert [name for _, name, _ in ex.top(x)[0]] == [names[i] for i, _, _ in ex.top(x)[0]]
    assert ex.gradient(x, 1).class_names == tuple(names)
    assert ex.image_input == image
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(ex.read_image(picture), image.read(picture))


def test_a_graph_without_layers(tmp_path):
    model = model_of("y = Sin(x)", "float[N, 3] x", "float[N, 3] y")
    ex = ov.load(ov.convert(model, tmp_path / "net.onnx", layers=["y"], quiet=True))
    assert_close(ex.gradient(normal(2, 3), 1), np.cos(normal(2, 3)) * np.eye(3)[1])
