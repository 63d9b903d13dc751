"""The cache of sessions, threads, shared weights, and the end of an Explainer's life."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnx
import pytest
import torch

import onnxviz as ov
from onnxviz.engine import cache
from onnxviz.errors import FileFormatError, ProviderError
from tests.engine.questions import METHODS
from tests.networks import Cnn
from tests.support import assert_close, model_of, network, normal, torch_gradient

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
