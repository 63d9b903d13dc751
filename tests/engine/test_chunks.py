"""Samples computed in runs of any size, halved where memory does not suffice, give what one run gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.engine import chunks, core, opened, session
from onnxviz.errors import LayerError, OnnxvizWarning, OutOfMemoryError, ProviderError
from tests.engine.questions import METHODS, sizes_of_runs
from tests.support import assert_close, model_of, network, normal, torch_gradient


@pytest.mark.parametrize("method", METHODS)
def test_chunks_change_nothing(cnn, method):
    x = cnn.x(5)
    with ov.load(cnn.path, providers="cpu", threads=1, batch_size=5) as ex:
        whole = METHODS[method](ex, x)
        for size in (1, 2, 3, 7, "auto"):
            ex.batch_size = size
            assert_close(METHODS[method](ex, x), whole, bar=1e-6)


@pytest.mark.parametrize(("size", "runs"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5]), ("auto", [5])])
def test_a_run_takes_at_most_batch_size_samples(cnn, monkeypatch, size, runs):
    with ov.load(cnn.path, batch_size=size) as ex:
        seen = sizes_of_runs(monkeypatch)
        ex.gradient(cnn.x(5), 1)
    assert sorted(seen, reverse=True) == runs


def test_auto_fits_the_memory_of_a_chunk(cnn, monkeypatch):
    convolutions, container, flattened, scores = 2 * (6 + 8) * 36, 8 * 36, 8 * 36, 5
    activations = 4 * (convolutions + container + flattened + scores)
    with ov.load(cnn.path) as ex:
        assert ex._bundle.manifest.activation_bytes == pytest.approx(activations, rel=0.01)
        seen = sizes_of_runs(monkeypatch)
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 5 * activations)
        ex.gradient(cnn.x(5), 1)
    assert seen == [2, 2, 1]


class Small(core.Engine):
    """An engine on a device that holds three samples."""

    holds = 3

    def _run(self, prepared, feeds, **options):
        if len(feeds["image"]) > self.holds:
            raise OutOfMemoryError("Failed to allocate memory for requested buffer of size 4294967296")
        return super()._run(prepared, feeds, **options)


@pytest.mark.parametrize(("batch_size", "begins", "fits"), [("auto", 7, 3), (6, 6, 3), (5, 5, 2), (4, 4, 2)])
def test_what_does_not_fit_is_halved_and_said_once(cnn, monkeypatch, batch_size, begins, fits):
    x = cnn.x(7)
    expected = cnn.explainer.gradient(x, 1).values
    monkeypatch.setattr(opened, "Engine", Small)
    with ov.load(cnn.path, batch_size=batch_size, optimize=False) as ex:
        message = (
            rf"{begins} samples do not fit .* CPUExecutionProvider at once: going on with {fits}; .*batch_size={fits}"
        )
        with pytest.warns(OnnxvizWarning, match=message):
            found = ex.gradient(x, 1)
        seen = sizes_of_runs(monkeypatch, Small)
        assert_close(ex.gradient(x, 1).values, found.values, bar=1e-6)  # any warning would be an error here
    assert max(seen) == fits
    assert_close(found.values, expected, bar=1e-6)


def test_halving_goes_on_until_it_fits_or_one_sample_does_not(cnn, monkeypatch):
    expected = cnn.explainer.gradient(cnn.x(7), 1).values
    monkeypatch.setattr(opened, "Engine", Small)
    monkeypatch.setattr(Small, "holds", 1)
    with ov.load(cnn.path, optimize=False) as ex, pytest.warns(OnnxvizWarning) as said:
        assert_close(ex.gradient(cnn.x(7), 1).values, expected, bar=1e-6)
    assert [str(one.message).partition(" ")[0] for one in said] == ["7", "3"]
    monkeypatch.setattr(Small, "holds", 0)
    with ov.load(cnn.path) as ex, pytest.raises(OutOfMemoryError, match="Failed to allocate"):
        ex.gradient(cnn.x(1), 1)


def test_memory_that_onnxruntime_cannot_get_is_told_from_other_failures():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (int64[n] shape) => (float y) '
        "{ filled = ConstantOfShape (shape) y = ReduceSum <keepdims = 0> (filled) }"
    )
    run = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run
    with pytest.raises(session.runtime_errors()) as much:
        run(None, {"shape": np.array([2**40, 2**7])})
    with pytest.raises(session.runtime_errors()) as wrong:
        run(None, {"shape": np.array([-5])})
    assert session.out_of_memory(much.value)
    assert not session.out_of_memory(wrong.value)


def test_a_run_that_fails_is_told_once(tmp_path, capfd):
    model = model_of("y = Gather (table, word)", "int64[N] word", "float[N, 3] y", {"table": normal(5, 3)})
    path = ov.convert(model, tmp_path / "m.onnx", example=np.array([4]), gradient=False, quiet=True)
    with ov.load(path, providers="cpu") as ex, pytest.raises(ProviderError, match="idx=5 must be within"):
        ex.predict(np.array([5]))
    assert capfd.readouterr().err == "", "onnxruntime's own log"


class Unbatched(nn.Module):
    """A layer whose output has no batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor(normal(3, 4)))

    def forward(self, table):
        return self.head(table) + self.whole(self.scale).mean() * table.sum(1, keepdim=True)


def test_values_without_a_batch_axis_are_not_joined(tmp_path):
    torch.manual_seed(0)
    model, x = Unbatched().eval(), normal(5, 4)
    path = ov.convert(model, tmp_path / "m.onnx", example=x, quiet=True)
    ex = ov.load(path, batch_size=2)
    assert ex.layers["whole"].axes.batch is None
    found = ex.features(x)
    assert_close(found["whole"], model.whole(model.scale).detach().numpy())
    assert_close(found["head"], model.head(torch.tensor(x)).detach().numpy())


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A program that takes four samples and no other number."""
    program = torch.export.export(network("cnn"), (torch.tensor(normal(4, 3, 12, 12, seed=9)),))
    path = ov.convert(program, tmp_path_factory.mktemp("static") / "static.onnx", quiet=True)
    return ov.load(path, threads=1)


@pytest.mark.parametrize("batch", [1, 3, 4, 6])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "gradient of a mask"])
def test_a_file_of_one_batch_size_takes_any_number_of_samples(cnn, static, method, batch):
    x = cnn.x(batch)
    assert static.metadata["static_batch"] == 4
    assert_close(METHODS[method](static, x), METHODS[method](cnn.explainer, x), bar=1e-5)


def test_a_file_of_one_batch_size_weighs_each_sample(cnn, static):
    x, mask = cnn.x(6), normal(6, 5, seed=3)
    expected = torch_gradient(cnn.model, {"image": x}, lambda y: (y * torch.tensor(mask)).sum(1))
    assert_close(static.gradient(x, mask), expected)


def test_a_file_of_one_batch_size_and_a_value_without_batch_axis(tmp_path):
    torch.manual_seed(0)
    program = torch.export.export(Unbatched().eval(), (torch.tensor(normal(2, 4)),))
    ex = ov.load(ov.convert(program, tmp_path / "m.onnx", quiet=True))
    assert ex.layers["whole"].shape == (3, 4)
    assert_close(ex.features(normal(2, 4), "whole")["whole"], ex.features(normal(2, 4, seed=3), "whole")["whole"])
    with pytest.raises(LayerError, match=r"'whole' has no batch axis, and the file takes 2 samples .*5"):
        ex.features(normal(5, 4), "whole")
