"""Exported files are plain ONNX, and stock onnxruntime makes of them what the engine makes of the explainable file."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import onnxviz as ov
from onnxviz.errors import FileFormatError, InputError, LayerError, OptionError, TargetError, UnsupportedModelError
from onnxviz.export import file
from onnxviz.export.plan import SAMPLED, SINGLE
from tests.networks import normal
from tests.support import assert_close, convert, model_of, torch_gradient


def run(path, feeds):
    """All outputs of a file by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, feeds), strict=True))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plain.onnx"


CASES = {
    "gradient": {}, "saliency": {}, "input_x_gradient": {}, "guided_backprop": {}, "deconvnet": {}, "grad_cam": {},
    "grad_cam_pp": {}, "layer_cam": {}, "hires_cam": {"upsample": False}, "xgrad_cam": {},
    "smooth_grad": {"n_samples": 3}, "integrated_gradients": {"n_steps": 5, "baseline": 0.5},
}  # fmt: skip
VARIANTS = [
    ("saliency", {"reduce": "mean"}), ("saliency", {"reduce": None}), ("gradient", {"layer": "features.1"}),
    ("grad_cam", {"layer": "features.1"}), ("gradient", {"of": "probability"}),
    ("smooth_grad", {"n_samples": 4, "kind": "variance", "around": "guided_backprop", "seed": 3}),
    ("smooth_grad", {"n_samples": 2, "kind": "square", "of": "probability"}),
    ("integrated_gradients", {"n_steps": 4, "baseline": normal(3, 12, 12, seed=8)}),
]  # fmt: skip
TARGETS = {"the top": None, "one class": 2, "a weighting": normal(5, seed=1)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("method", "options"), [*CASES.items(), *VARIANTS])
def test_the_map_is_the_engines(cnn, path, method, options, target):
    cnn.explainer.export(path, method, TARGETS[target], **options)
    for batch in (1, 3):
        found = run(path, {"image": cnn.x(batch)})
        assert_close(found["map"], cnn.explainer.explain(cnn.x(batch), method, TARGETS[target], **options).values)
        assert_close(found["prediction"], cnn.explainer.predict(cnn.x(batch)))


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("network", ["series", "volume", "segmenter"])
def test_whatever_the_input_is(subjects, path, network, method):
    subject = subjects(network)
    options = CASES[method]
    subject.explainer.export(path, method, "input", **options)
    ((name, x),) = subject.feeds(2).items()
    for classes in ([-1, -1], [0, -1]):
        found = run(path, {name: x, "class": np.array(classes)})["map"]
        targets = [None if k < 0 else k for k in classes]
        expected = [subject.explainer.explain(x[[i]], method, k, **options).values for i, k in enumerate(targets)]
        assert_close(found, np.concatenate(expected))


def test_several_inputs_keep_their_names(subjects, path):
    subject = subjects("two heads")
    written = subject.explainer.export(path, "smooth_grad", 1, n_samples=3)
    assert list(written.inputs) == list(subject.feeds())
    expected = subject.explainer.smooth_grad(subject.feeds(2), 1, n_samples=3)
    assert_close(run(path, subject.feeds(2))["map"], expected.values)


def test_it_is_what_pytorch_makes(cnn, path):
    cnn.explainer.export(path, "gradient", 3)
    expected = torch_gradient(cnn.model, cnn.feeds(2), lambda scores: scores[:, 3])
    assert_close(run(path, cnn.feeds(2))["map"], expected)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("method", [*CASES, None])
def test_it_is_plain(cnn, path, method, precision):
    cnn.explainer.export(path, method, precision=precision, **CASES.get(method, {}))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not {"CastLike", "Identity"} & {node.op_type for node in model.graph.node}
    assert model.ir_version == 8


# ----- what goes in and comes out -----


def test_a_class_is_chosen_at_each_call(cnn, path):
    written = cnn.explainer.export(path, "saliency", "input")
    assert written.inputs == {"image": "float32[N, 3, 12, 12]", "class": "int64[N]"}
    assert written.outputs == {"prediction": "float32[N, 5]", "map": "float32[N, 12, 12]"}
    found = run(path, {"image": cnn.x(3), "class": np.array([4, -1, 99])})["map"]
    top = cnn.explainer.top(cnn.x(3), k=1)[1][0][0]
    assert_close(found[:2], cnn.explainer.saliency(cnn.x(3)[:2], [4, top]).values)
    assert not found[2].any()  # there is no such class


def test_normalised_maps(cnn, path):
    for method in ("grad_cam", "gradient"):
        cnn.explainer.export(path, method, "input", normalize=True)
        found = run(path, {"image": cnn.x(3), "class": np.array([1, 1, 99])})["map"]
        assert_close(found[:2], cnn.explainer.explain(cnn.x(3)[:2], method, 1).normalize().values)
        assert np.array_equal(found[2], np.zeros_like(found[2]))


def test_layers_are_further_outputs(cnn, path):
    layers = ["features.0", "features.2"]
    for method, options in ((None, {}), ("grad_cam", {}), ("integrated_gradients", {"n_steps": 3})):
        written = cnn.explainer.export(path, method, layers=layers, **options)
        found, expected = run(path, {"image": cnn.x(2)}), cnn.explainer.features(cnn.x(2), layers)
        assert list(written.outputs) == ["prediction", *(["map"] if method else []), *layers]
        for layer in layers:
            assert_close(found[layer], expected[layer])


IMAGES = {
    "RGB": ov.ImageInput(12, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)),
    "BGR": ov.ImageInput(12, channels="BGR", mean=(103.9, 116.8, 123.7)),
    "channels last": ov.ImageInput(12, layout="NHWC", scale=1 / 127.5, mean=1.0),
    "grey": ov.ImageInput(12, channels="L", scale=1 / 255),
}


class Pictured(nn.Module):
    def __init__(self, *, last: bool, channels: int) -> None:
        super().__init__()
        self.last, self.conv, self.head = last, nn.Conv2d(channels, 4, 3), nn.Linear(4, 3)

    def forward(self, image):
        image = image.permute(0, 3, 1, 2) if self.last else image
        return self.head(torch.relu(self.conv(image)).mean((2, 3)))


@pytest.mark.parametrize("kind", IMAGES)
def test_pixels_are_prepared_in_the_file(path, tmp_path, kind):
    image, rng = IMAGES[kind], np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 12, 12, 3), np.uint8)
    x = image.encode(pixels)
    torch.manual_seed(0)
    network = Pictured(last=image.layout == "NHWC", channels=len(image.channels))
    with ov.load(ov.convert(network, tmp_path / "net.onnx", example=x, input=image, quiet=True)) as ex:
        written = ex.export(path, "input_x_gradient", 1, pixels=True)
        expected = ex.input_x_gradient(x, 1).values
    assert written.inputs == {"pixels": "uint8[N, 12, 12, channels]"}
    alpha = rng.integers(0, 256, (2, 12, 12, 1), np.uint8)
    for given in (pixels, np.concatenate([pixels, alpha], axis=3)):
        assert_close(run(path, {"pixels": given})["map"], expected)


def test_any_size(path, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    source = ov.convert(network, tmp_path / "net.onnx", example=torch.randn(1, 3, 20, 20), open_sizes=True, quiet=True)
    with ov.load(source) as ex:
        with pytest.raises(OptionError, match=r"noise stands in the file.*open_sizes=False"):
            ex.export(path, "smooth_grad")
        for method in ("grad_cam", "saliency", "integrated_gradients"):
            ex.export(path, method, 1)
            for size in ((20, 20), (31, 26)):
                x = normal(2, 3, *size)
                (name,) = (i.name for i in onnxruntime.InferenceSession(path).get_inputs())
                assert_close(run(path, {name: x})["map"], ex.explain(x, method, 1).values)


def test_a_fixed_batch_stays_fixed(path, tmp_path):
    plain = model_of("h = Conv(x, w)  a = Relu(h)  g = GlobalAveragePool(a)  y = Flatten(g)",
                     "float[2, 3, 6, 6] x", "float[2, 4] y", {"w": normal(4, 3, 3, 3)})  # fmt: skip
    with ov.load(ov.convert(plain, tmp_path / "net.onnx", quiet=True)) as ex:
        written = ex.export(path, "grad_cam", "input")
        assert written.inputs == {"image": "float32[2, 3, 6, 6]", "class": "int64[2]"}
        x = normal(2, 3, 6, 6)
        found = run(path, {"image": x, "class": np.array([1, -1])})["map"]
        assert_close(found[:1], ex.grad_cam(x, 1).values[:1])
        assert_close(found[1:], ex.grad_cam(x).values[1:])
        with pytest.raises(OptionError, match=r"as further samples.*takes 2 of them"):
            ex.export(path, "integrated_gradients")


def test_names_of_the_models_own_do_not_get_in_the_way(path, tmp_path):
    nodes = "map = Conv(prediction, image)  class = Relu(map)  g = GlobalAveragePool(class)  pixels = Flatten(g)"
    weights = {"image": normal(4, 3, 3, 3)}
    plain = model_of(nodes, "float[N, 3, 6, 6] prediction", "float[N, 4] pixels", weights)
    with ov.load(ov.convert(plain, tmp_path / "net.onnx", quiet=True)) as ex:
        ex.export(path, "saliency", "input")
        x = normal(2, 3, 6, 6)
        found = run(path, {"image": x, "class": np.array([1, 2])})
        assert_close(found["map"], ex.saliency(x, [1, 2]).values)
        assert_close(found["prediction"], ex.predict(x))
        with pytest.raises(OptionError, match="layer 'map' has the name of an input or output of the file"):
            ex.export(path, "saliency", layers=["map"])


# ----- float16 -----


@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("network", ["cnn", "segmenter"])
def test_halves_are_near(subjects, path, network, method):
    subject = subjects(network)
    written = subject.explainer.export(path, method, 1, precision="float16", **CASES[method])
    assert written.outputs["map"].startswith("float32")
    expected = subject.explainer.explain(subject.x(2), method, 1, **CASES[method]).values
    assert_close(run(path, subject.feeds(2))["map"], expected, bar=2e-2)


def test_halves_take_half_the_room(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 300), nn.ReLU(), nn.Linear(300, 3))
    sizes = {}
    with ov.load(ov.convert(network, tmp_path / "net.onnx", example=torch.randn(2, 6), quiet=True)) as ex:
        for precision in ("float32", "float16"):
            written = ex.export(tmp_path / precision, "saliency", precision=precision)
            sizes[precision] = written.bytes
            assert written.bytes == (tmp_path / precision).stat().st_size
    weights = 4 * sum(math.prod(p.shape) for p in network.parameters())
    assert weights < sizes["float32"] < weights + 20_000
    assert weights / 2 < sizes["float16"] < weights / 2 + 20_000
    kinds = {t.data_type for t in onnx.load(tmp_path / "float16").graph.initializer if math.prod(t.dims) >= 300}
    assert kinds == {onnx.TensorProto.FLOAT16}


# ----- the file -----


def test_it_says_what_it_is(pictured, path):
    written = pictured.export(path, "layer_cam", "input", pixels=True)
    model = onnx.load(path)
    (entry,) = model.metadata_props
    told = json.loads(entry.value)
    assert entry.key == "onnxviz.export"
    assert told == written.details
    assert (told["method"], told["layer"], told["target"]) == ("layer_cam", "features.3", "input")
    assert told["image"] == pictured.image_input.to_dict()
    assert told["classes"] == list(pictured.classes)
    assert told["versions"]["onnxviz"] == model.producer_version == ov.__version__
    assert repr(written).startswith(
        f"{path}: layer_cam at features.3, {path.stat().st_size / 2**10:.1f} KiB; pixels uint8["
    )
    with pytest.raises(FileFormatError, match="plain ONNX file, exported"):
        ov.load(path)
    with pytest.raises(UnsupportedModelError, match="was exported for other runtimes"):
        ov.convert(path, path.with_name("again.onnx"))


def test_weights_are_those_of_the_file(cnn, path):
    cnn.explainer.export(path, "saliency")
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for name, parameter in cnn.model.named_parameters():
        assert any(np.array_equal(parameter.detach(), array) for array in found.values()), name


def test_what_was_there_stays_where_the_new_file_cannot_be_written(cnn, path, monkeypatch):
    cnn.explainer.export(path, "saliency")
    before = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file.wire, "write", full)
    with pytest.raises(OSError, match="No space left"):
        cnn.explainer.export(path, "grad_cam")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_two_gibibytes_are_too_much(cnn, path, monkeypatch):
    monkeypatch.setattr(file, "EMBEDDED_LIMIT", 1000)
    with pytest.raises(OptionError, match="holds 2 GiB at most: precision='float16' halves it"):
        cnn.explainer.export(path)
    with pytest.raises(OptionError, match="the model is too large"):
        cnn.explainer.export(path, precision="float16")
    assert not path.exists()


# ----- what is refused -----

REFUSED = [
    ({"method": "grad_cma"}, OptionError, "there is no method 'grad_cma'.*did you mean 'grad_cam'"),
    ({"method": "rise"}, OptionError, "rise is more than one graph can say.*A file can have gradient, saliency"),
    ({"method": "guided_grad_cam"}, OptionError, "guided_grad_cam is more than one graph"),
    ({"layer": ["features.0", "features.1"]}, OptionError, "a file has one map; export one for each layer"),
    ({"layer": "features.9"}, LayerError, "there is no layer 'features.9'"),
    ({"layers": ["features.9"]}, LayerError, "there is no layer 'features.9'"),
    ({"target": [[1, 2]]}, TargetError, "one map per sample.*target='input'"),
    ({"target": 5}, TargetError, "out of range"),
    ({"target": "cat"}, TargetError, "target='cat': expected a class.*'input'"),
    ({"method": "saliency", "layer": "auto"}, OptionError, "saliency has no option 'layer'"),
    ({"method": "saliency", "reduce": "median"}, OptionError, "reduce='median'"),
    ({"method": "smooth_grad", "n_samples": 0}, OptionError, "n_samples=0: expected a positive integer"),
    ({"method": "integrated_gradients", "baseline": normal(2, 2)}, InputError, r"baseline has shape \[2, 2\]"),
    ({"precision": "int8"}, OptionError, "precision='int8': expected 'float32' or 'float16'"),
    ({"pixels": True}, OptionError, "does not say how pictures are prepared"),
    ({"of": "logit"}, OptionError, "of='logit'"),
    ({"output": "scores"}, TargetError, "there is no output 'scores'"),
    ({"method": None, "output": "scores"}, TargetError, "there is no output 'scores'"),
    ({"method": None, "target": 1}, OptionError, "target belongs to a method"),
    ({"method": None, "normalize": True}, OptionError, "normalize belongs to a method"),
    ({"method": None, "layer": "auto"}, OptionError, "layer belongs to a method"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=str)
def test_what_is_refused(cnn, path, arguments, error, message):
    with pytest.raises(error, match=message):
        cnn.explainer.export(path, **arguments)
    assert not path.exists()


def test_the_explainable_file_is_not_overwritten(tmp_path):
    source = convert("cnn", tmp_path / "net.onnx")
    with ov.load(source) as ex, pytest.raises(OptionError, match="is the explainable file itself"):
        ex.export(source)


def test_a_folder_that_is_not_there(cnn, tmp_path):
    with pytest.raises(FileFormatError, match="there is no folder"):
        cnn.explainer.export(tmp_path / "nowhere" / "cam.onnx")


def test_every_method_is_in_a_case():
    assert set(CASES) == {*SINGLE, *SAMPLED}
