import numpy as np
import pytest
import torch
from torch import nn

import onnxviz_torch
from onnxviz.errors import InputError, LayerError, UnsupportedModelError
from tests.converters import torch_models as models
from tests.converters.torch_support import IMAGE, assert_close, normal, program, run_onnx

REFUSALS = {
    "no example": (nn.Linear(6, 2), None, None, InputError, "give example=torch.randn"),
    "no tensor": (nn.Linear(6, 2), "x", None, InputError, "input 'input' is a str"),
    "strings": (nn.Linear(6, 2), np.array(["x"]), None, InputError, "a numeric array"),
    "wrong shape": (nn.Linear(6, 2), normal(1, 5), None, InputError, "cannot be called with the example"),
    "too many": (nn.Linear(6, 2), (normal(1, 6), normal(1, 6)), None, InputError, "too many positional"),
    "wrong keyword": (nn.Linear(6, 2), {"x": normal(1, 6)}, None, InputError, "does not fit forward"),
    "unknown layer": (models.Shared(), IMAGE, ["haed"], LayerError, "'haed' is unknown; did you mean 'head'"),
    "idle layer": (models.Shared(), IMAGE, ["idle"], LayerError, "'idle' is in the model, but"),
    "nothing like it": (models.Shared(), IMAGE, ["x.*"], LayerError, "'x.\\*' is unknown; layers: "),
    "lazy": (nn.LazyLinear(3), normal(1, 6), None, UnsupportedModelError, "call the model once"),
    "data decide": (models.Failing(), normal(1, 6), None, UnsupportedModelError, "tracing it with torch.export failed"),
    "function": (torch.relu, normal(1, 6), None, UnsupportedModelError, "expected a torch.nn.Module"),
    "no such suffix": ("model.pt", None, None, UnsupportedModelError, "is no .pt2 file"),
    "no such file": ("nowhere.pt2", None, None, UnsupportedModelError, "there is no file"),
}


@pytest.mark.parametrize(("model", "example", "layers", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(model, example, layers, error, message):
    with pytest.raises(error, match=message):
        onnxviz_torch.source(model, example=example, layers=layers)


def test_lazy_modules_stay_lazy():
    model = nn.LazyLinear(3)
    with pytest.raises(UnsupportedModelError):
        onnxviz_torch.source(model, example=normal(1, 6))
    assert isinstance(model.weight, nn.UninitializedParameter)


def test_a_model_made_in_inference_mode_is_refused():
    with torch.inference_mode():
        model = nn.Linear(6, 2)
    with pytest.raises(UnsupportedModelError, match="parameter 'weight' was made in inference mode"):
        onnxviz_torch.source(model, example=normal(1, 6))


def test_half_precision_stays_half():
    source = onnxviz_torch.source(nn.Sequential(nn.Linear(6, 2), nn.ReLU()).half(), example=normal(1, 6))
    assert {array.dtype for array in source.reference.run(source.example).values()} == {np.dtype(np.float16)}
    for name, value in run_onnx(source, source.example).items():
        assert_close(value, source.reference.run(source.example)[name], name, bar=2e-3)


def test_torchscript_is_refused():
    class Scripted(torch.jit.ScriptModule):
        pass

    with pytest.raises(UnsupportedModelError, match="TorchScript"):
        onnxviz_torch.source(nn.Sequential(Scripted()), example=normal(1, 6))


@pytest.mark.parametrize("content", [b"", b"no archive", b"truncated"])
def test_a_damaged_program_is_refused(tmp_path, content):
    path = tmp_path / "broken.pt2"
    if content == b"truncated":
        torch.export.save(program(nn.Linear(6, 2), normal(1, 6)), path)
        content = path.read_bytes()[:-300]
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="no exported program"):
        onnxviz_torch.source(path)


def test_an_output_without_numbers_is_refused():
    class Silent(nn.Module):
        def forward(self, x):
            return x > 0

    with pytest.raises(UnsupportedModelError, match="returns no float or integer tensor"):
        onnxviz_torch.source(Silent(), example=normal(1, 6))


def test_an_operator_unknown_to_onnx_is_refused():
    class Eigen(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(UnsupportedModelError, match="translating the traced program to ONNX failed"):
        onnxviz_torch.source(Eigen(), example=normal(2, 3, 3))
