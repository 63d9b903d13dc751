"""Half, bfloat16 and double precision: converted, checked, explained, or refused in words."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import CheckFailedError, UnsupportedModelError, UnsupportedOperatorError
from tests.networks import normal
from tests.support import assert_close, model_of

HALF, BFLOAT = torch.float16, torch.bfloat16
IMAGE = normal(2, 3, 10, 10)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.SiLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.GELU()).eval()


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    ).eval()


def by_torch(model: nn.Module, x: np.ndarray) -> np.ndarray:
    given = torch.from_numpy(x).requires_grad_()
    model(given)[:, 1].sum().backward()
    return given.grad.numpy()


@pytest.mark.parametrize("dtype", [HALF, BFLOAT], ids=str)
def test_short_floats_are_explained_in_float32(dtype, tmp_path, capsys):
    model = network().to(dtype)
    path = ov.convert(model, tmp_path / "net.onnx", example=torch.from_numpy(IMAGE))
    assert next(model.parameters()).dtype is dtype
    assert ("float32, with the weights' bfloat16 values" in capsys.readouterr().out) == (dtype is BFLOAT)
    wide = network().to(dtype).float()
    bar = 2e-2 if dtype is HALF else 1e-5
    with ov.load(path, providers="cpu") as ex:
        assert ex.inputs[0].dtype == ("float16" if dtype is HALF else "float32")
        results = [ex.gradient(IMAGE, target=1), ex.saliency(IMAGE), ex.grad_cam(IMAGE), ex.guided_backprop(IMAGE)]
        assert {result.values.dtype for result in results} == {np.dtype(np.float32)}
        assert_close(results[0].values, by_torch(wide, IMAGE), bar)
        assert_close(ex.features(IMAGE, layers=["1"])["1"], wide[:2](torch.from_numpy(IMAGE)).detach().numpy(), bar)


def test_double_stays_double(tmp_path):
    x = normal(3, 5).astype(np.float64)
    path = ov.convert(dense().double(), tmp_path / "net.onnx", example=x, quiet=True)
    with ov.load(path, providers="cpu") as ex:
        assert ex.inputs[0].dtype == "float64"
        assert ex.residuals["gradient"]["max"] < 1e-14
        gradient = ex.gradient(x, target=1)
    assert gradient.values.dtype == np.float32
    assert_close(gradient.values, by_torch(dense().double(), x), 1e-7)


@pytest.mark.parametrize("of", ["module", "file"])
def test_double_without_a_kernel_names_the_operator_and_the_way_out(of, tmp_path):
    if of == "module":
        model, example = network().double(), torch.from_numpy(IMAGE).double()
    else:
        weights, example = {"w": normal(4, 3, 3, 3).astype(np.float64)}, IMAGE.astype(np.float64)
        model = model_of("y = Conv(x, w)", "double[N, 3, 10, 10] x", "double[N, 4, 8, 8] y", weights)
    with pytest.raises(UnsupportedOperatorError, match=r"operator Conv .* in double precision.*model\.float\(\)"):
        ov.convert(model, tmp_path / "net.onnx", example=example)


def test_a_bfloat16_program_is_refused():
    program = torch.export.export(dense().bfloat16(), (torch.zeros(2, 5, dtype=BFLOAT),))
    with pytest.raises(UnsupportedModelError, match=r"bfloat16.*export model.float\(\)"):
        ov.convert(program, "unused.onnx")


# ----- plain files -----

NODES = """
c = Conv(x, w) r = Relu(c) p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r)
f = Flatten(p) h = MatMul(f, m) y = Mul(h, half)
"""


def plain(kind: str, *dtypes: type) -> onnx.ModelProto:
    """A small network whose weights are rounded to one type after another."""
    weights = {"w": normal(6, 3, 3, 3), "m": normal(6 * 16, 3, seed=1), "half": np.array(0.5)}
    for dtype in dtypes:
        weights = {name: array.astype(dtype) for name, array in weights.items()}
    return model_of(NODES, f"{kind}[N, 3, 10, 10] x", f"{kind}[N, 3] y", weights)


@pytest.mark.parametrize("opset", [13, 18])
def test_plain_files_in_half_precision(opset, tmp_path):
    proto = plain("float16", np.float16)
    proto.opset_import[0].version = opset
    path = ov.convert(proto, tmp_path / "net.onnx", example=IMAGE.astype(np.float16), quiet=True)
    with ov.load(path, providers="cpu") as ex:
        got = ex.gradient(IMAGE, target=2).values
    ov.convert(plain("float", np.float32), tmp_path / "wide.onnx", example=IMAGE, quiet=True)
    with ov.load(tmp_path / "wide.onnx", providers="cpu") as ex:
        expected = ex.gradient(IMAGE, target=2).values
    assert got.dtype == np.float32
    assert np.median(np.abs(got - expected)) < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("beside", [False, True])
def test_plain_bfloat16_files_are_computed_in_float32(beside, tmp_path, capsys):
    proto = plain("bfloat16", ml_dtypes.bfloat16)
    proto.graph.node.insert(1, onnx.helper.make_node("Cast", ["c"], ["cast"], to=onnx.TensorProto.BFLOAT16))
    proto.graph.node[2].input[0] = "cast"
    onnx.save(proto, tmp_path / "narrow.onnx", save_as_external_data=beside, size_threshold=0)
    rounded = plain("float", ml_dtypes.bfloat16, np.float32)
    ov.convert(tmp_path / "narrow.onnx", tmp_path / "net.onnx", example=IMAGE)
    assert "the model is bfloat16: the file computes in float32" in capsys.readouterr().out
    ov.convert(rounded, tmp_path / "wide.onnx", example=IMAGE, quiet=True)
    answers = []
    for name in ("net.onnx", "wide.onnx"):
        with ov.load(tmp_path / name, providers="cpu") as ex:
            answers.append(ex.gradient(IMAGE, target=2).values)
    assert_close(*answers)


# ----- overflow -----


class Swelling(nn.Module):
    """Values reach 65504 and more in the layer ``large``, and come back to 1 behind it."""

    def __init__(self):
        super().__init__()
        self.small, self.large, self.bound, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
        self.large.weight.data *= 1e6

    def forward(self, x):
        return self.head(self.bound(self.large(self.small(x))))


def test_overflow_of_a_layer_is_reported(tmp_path, capsys):
    torch.manual_seed(0)
    model = Swelling()
    model.large.weight.data.clamp_(-6e4, 6e4)
    ov.convert(model.half(), tmp_path / "net.onnx", example=normal(4, 5))
    assert "'large' holds infinities or NaN: float16 ends at 65504" in capsys.readouterr().out


def test_a_gradient_that_overflow_makes_differ_is_refused_with_the_cause(tmp_path):
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
            self.a.weight.data, self.b.weight.data = 300 * torch.randn(8, 5), 300 * torch.randn(3, 8)

        def forward(self, x):
            return self.b(self.a(x * 1e-4)) * 3000

    torch.manual_seed(0)
    with pytest.raises(CheckFailedError, match=r"holds infinities or NaN: float16 ends at 65504; .* in float32"):
        ov.convert(Steep().half(), tmp_path / "net.onnx", example=normal(2, 5))


# ----- a float32 file computed in float16 -----


@pytest.mark.parametrize("network", ["cnn", "volume", "mixed", "residual", "segmenter"])
def test_the_engine_computes_in_float16_if_asked(subjects, network):
    subject = subjects(network)
    x = subject.x(3)
    half, single = (ov.load(subject.path, providers="cpu", precision=p) for p in ("float16", "float32"))
    predicted = half.predict(x)
    assert predicted.dtype == np.float32
    assert 0 < np.abs(predicted - single.predict(x)).max() < 5e-3 * np.abs(single.predict(x)).max()
    for target in (None, 1, [[0, 1]]):
        found, expected = half.gradient(x, target), single.gradient(x, target)
        assert found.values.dtype == np.float32
        assert (found.options["precision"], expected.options["precision"]) == ("float16", "float32")
        cosine = np.vdot(found.values, expected.values) / np.linalg.norm(found.values) / np.linalg.norm(expected.values)
        assert cosine > 0.999
        assert not np.array_equal(found.values, expected.values)


def test_features_and_maps_computed_in_float16_come_as_float32(cnn):
    with ov.load(cnn.path, providers="cpu", precision="float16") as ex:
        features = ex.features(cnn.x(2))
        assert {values.dtype for values in features.values()} == {np.dtype(np.float32)}
        for name, values in cnn.explainer.features(cnn.x(2)).items():
            assert_close(features[name], values, bar=5e-3)
        assert_close(ex.grad_cam(cnn.x(2), 1).values, cnn.explainer.grad_cam(cnn.x(2), 1).values, bar=1e-2)
