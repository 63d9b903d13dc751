"""Chunks, the cache of sessions, threads, and the end of an Explainer's life."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.engine import cache, chunks, core, opened, session
from onnxviz.errors import (
    FileFormatError,
    LayerError,
    OnnxvizWarning,
    OutOfMemoryError,
    ProviderError,
)
from tests.networks import Cnn
from tests.support import assert_close, model_of, network, normal, torch_gradient

METHODS = {
    "gradient": lambda ex, x: ex.gradient(x, 2).values,
    "gradient of top-1": lambda ex, x: ex.gradient(x).values,
    "gradient of each": lambda ex, x: ex.gradient(x, np.arange(len(x)) % 5).values,
    "gradient of several": lambda ex, x: ex.gradient(x, [[0, 3]]).values,
    "gradient of several of each": lambda ex, x: ex.gradient(x, np.arange(2 * len(x)).reshape(-1, 2) % 5).values,
    "gradient of a mask": lambda ex, x: ex.gradient(x, normal(len(x), 5, seed=3)).values,
    "gradient at a layer": lambda ex, x: ex.gradient(x, 2, layer="features.0").values,
    "saliency": lambda ex, x: ex.saliency(x, 2).values,
    "guided backprop": lambda ex, x: ex.guided_backprop(x, 2).values,
    "deconvnet": lambda ex, x: ex.deconvnet(x, 2).values,
    "Grad-CAM": lambda ex, x: ex.grad_cam(x, 2).values,
    "Grad-CAM of several": lambda ex, x: ex.grad_cam(x, [[1, 2]]).values,
    "predict": lambda ex, x: ex.predict(x),
    "features": lambda ex, x: ex.features(x, "features.2")["features.2"],
    "score": lambda ex, x: ex.gradient(x).score,
    "target": lambda ex, x: ex.gradient(x).target + 1,
}

# ----- chunks -----


@pytest.mark.parametrize("method", METHODS)
def test_chunks_change_nothing(cnn, method):
    x = cnn.x(5)
    with ov.load(cnn.path, providers="cpu", threads=1, batch_size=5) as ex:
        whole = METHODS[method](ex, x)
        for size in (1, 2, 3, 7, "auto"):
            ex.batch_size = size
            assert_close(METHODS[method](ex, x), whole, bar=1e-6)


def sizes_of_runs(monkeypatch, engine=core.Engine) -> list[int]:
    seen, run = [], engine._run

    def counted(engine, prepared, feeds, **options):
        seen.append(len(feeds["image"]))
        return run(engine, prepared, feeds, **options)

    monkeypatch.setattr(engine, "_run", counted)
    return seen


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


# ----- the cache of sessions -----


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_no_more_sessions_than_allowed(cnn, limit):
    x = cnn.x(2)
    with ov.load(cnn.path, max_sessions=limit) as ex:
        for _ in range(2):
            for method in METHODS.values():
                assert_close(method(ex, x), method(cnn.explainer, x), bar=1e-6)
                assert ex.memory()["sessions"] <= limit == ex.memory()["max_sessions"]
        assert ex.memory()["sessions"] == limit


def built(monkeypatch) -> list[None]:
    made, create = [], cache.create_session

    def counted(*args, **options):
        made.append(None)
        return create(*args, **options)

    monkeypatch.setattr(cache, "create_session", counted)
    return made


def test_the_least_recently_used_goes_first(cnn, monkeypatch):
    x = cnn.x(1)
    with ov.load(cnn.path, max_sessions=2) as ex:
        made = built(monkeypatch)
        for method, expected in [("predict", 1), ("saliency", 2), ("predict", 2), ("gradient", 3), ("predict", 3)]:
            METHODS[method](ex, x)
            assert len(made) == expected, method
        METHODS["saliency"](ex, x)
        assert len(made) == 4


def test_classes_share_a_session(cnn, monkeypatch):
    with ov.load(cnn.path) as ex:
        made = built(monkeypatch)
        for target in (0, 1, [2, 3], normal(5)):
            ex.saliency(cnn.x(2), target)
        assert len(made) == 1


def test_memory_tells_the_weights(cnn):
    weights = [p for p in cnn.model.parameters() if p.numel() * 4 > 1024]
    assert cnn.explainer.memory()["weights"] == pytest.approx(sum(p.numel() * 4 for p in weights), rel=0.1)


# ----- threads -----


def test_many_threads_get_what_one_gets(cnn):
    jobs = [(name, cnn.x(n)) for name in METHODS for n in (1, 3, 4)] * 3
    serial = {(name, len(x)): METHODS[name](cnn.explainer, x) for name, x in jobs}
    with ov.load(cnn.path, providers="cpu", threads=1, max_sessions=4) as ex, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: METHODS[job[0]](ex, job[1]), jobs))
        assert ex.memory()["sessions"] <= 4
    for (name, x), result in zip(jobs, results, strict=True):
        assert np.array_equal(result, serial[name, len(x)]), name


def test_threads_wait_for_one_session_instead_of_making_one_each(cnn, monkeypatch):
    with ov.load(cnn.path) as ex, ThreadPoolExecutor(8) as pool:
        made = built(monkeypatch)
        list(pool.map(partial(METHODS["gradient"], ex), [cnn.x(2)] * 32))
    assert len(made) == 1


# ----- the end -----


@pytest.mark.parametrize("method", METHODS)
def test_closed_explainers_say_so(cnn, method):
    with ov.load(cnn.path) as ex:
        METHODS[method](ex, cnn.x(2))
    with pytest.raises(ProviderError, match="this Explainer is closed"):
        METHODS[method](ex, cnn.x(2))
    assert ex.memory()["sessions"] == 0
    ex.close()


@pytest.mark.gpu
def test_cuda_computes_the_same(cnn):
    with ov.load(cnn.path, providers="cuda") as ex:
        for method in METHODS.values():
            assert_close(method(ex, cnn.x(3)), method(cnn.explainer, cnn.x(3)), bar=1e-4)
        assert ex.saliency(cnn.x(), 1).provider == "CUDAExecutionProvider"


# ----- weights that sessions share -----


def test_large_shared_weights_are_right_in_every_session(tmp_path):
    """Above a megabyte, matrices lie in memory once; transposed and untransposed use of one of them must both hold."""
    weights = {"w": normal(600, 500), "e": normal(700, 400, seed=1), "m": normal(500, 3, seed=2)}
    model = model_of(
        "h = Gemm(x, w)  a = Relu(h)  y = MatMul(a, m)",
        "float[N, 600] x",
        "float[N, 3] y",
        {k: weights[k] for k in "wm"},
    )
    onnx.save(model, tmp_path / "plain.onnx")
    path = ov.convert(tmp_path / "plain.onnx", tmp_path / "net.onnx", quiet=True)
    x = normal(4, 600, seed=5)
    hidden = x @ weights["w"]
    expected = (weights["m"][:, 1] * (hidden > 0)) @ weights["w"].T
    with ov.load(path) as ex:
        for _ in range(2):
            assert_close(ex.predict(x), np.maximum(hidden, 0) @ weights["m"], bar=1e-4)
            assert_close(ex.gradient(x, 1), expected)
            assert_close(ex.guided_backprop(x, 1), (np.maximum(weights["m"][:, 1], 0) * (hidden > 0)) @ weights["w"].T)
            assert_close(ex.features(x, "h")["h"], hidden)


@pytest.mark.parametrize("external", [False, True])
def test_a_file_that_is_replaced_while_it_is_open_is_not_mixed_with_the_new_one(tmp_path, cnn, external):
    path, x = tmp_path / "net.onnx", cnn.x(2)
    ov.convert(network("cnn"), path, example=x, external_data=external, quiet=True)
    with ov.load(path) as ex:
        ex.predict(x)
        torch.manual_seed(5)
        ov.convert(Cnn().eval(), path, example=x, external_data=external, quiet=True)
        try:
            found = ex.gradient(x, 1)
        except FileFormatError as refusal:
            assert str(path.parent) in str(refusal)  # noqa: PT017 - to refuse and to go on with the old are both right
        else:
            assert_close(found, torch_gradient(cnn.model, {"image": x}, lambda y: y[:, 1]))
