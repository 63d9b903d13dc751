"""Which of onnxruntime's execution providers are taken, and with which options."""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime
import pytest

import onnxviz as ov
from onnxviz.engine import session
from onnxviz.errors import OptionError, ProviderError


def test_the_provider_that_ran_is_named(cnn):
    assert cnn.explainer.saliency(cnn.x(), 1).provider == "CPUExecutionProvider"


@pytest.mark.parametrize(("providers", "expected"), [
    ("cpu", [("CPUExecutionProvider", {})]),
    (["CPUExecutionProvider"], [("CPUExecutionProvider", {})]),
    ([("cpu", {"use_arena": "0"})], [("CPUExecutionProvider", {"use_arena": "0"})]),
])  # fmt: skip
def test_providers_are_names_or_pairs_with_options(cnn, providers, expected):
    assert session.choose_providers(providers) == expected
    with ov.load(cnn.path, providers=providers) as ex:
        assert ex.gradient(cnn.x(1), 1).provider == "CPUExecutionProvider"


@pytest.mark.parametrize("wrong", [[5], [("cpu", 1)], [("cpu",)], [("cpu", {}, 1)]])
def test_other_kinds_of_providers_are_refused(cnn, wrong):
    with pytest.raises(OptionError, match="expected a sequence of text or"):
        ov.load(cnn.path, providers=wrong)


def test_cuda_gets_its_options(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [session.CUDA, session.CPU])
    nhwc = session.choose_providers([("cuda", {"prefer_nhwc": 1})], precision="tf32")
    assert nhwc == [(session.CUDA, {"use_tf32": 1, "prefer_nhwc": 1}), (session.CPU, {})]
    assert session.choose_providers(None) == [(session.CUDA, {"use_tf32": 0}), (session.CPU, {})]
    assert session.recording(nhwc)[0] == (session.CUDA, {"use_tf32": 1, "prefer_nhwc": 1, "enable_cuda_graph": 1})


@pytest.mark.parametrize(("wanted", "given", "expected"), [
    ("tensorrt", {}, [("TRT", {}), ("CUDA", {"use_tf32": 0}), ("CPU", {})]),
    ("tensorrt", {"precision": "tf32"}, [("TRT", {}), ("CUDA", {"use_tf32": 1}), ("CPU", {})]),
    ("tensorrt", {"precision": "float16"},
     [("TRT", {"trt_fp16_enable": True}), ("CUDA", {"use_tf32": 0}), ("CPU", {})]),
    ("TensorrtExecutionProvider", {"engines": Path("there")},
     [("TRT", {"trt_engine_cache_enable": True, "trt_engine_cache_path": "there", "trt_timing_cache_enable": True,
               "trt_timing_cache_path": "there"}), ("CUDA", {"use_tf32": 0}), ("CPU", {})]),
    ([("tensorrt", {"device_id": 1, "trt_fp16_enable": True})], {},
     [("TRT", {"device_id": 1, "trt_fp16_enable": True}), ("CUDA", {"use_tf32": 0, "device_id": 1}), ("CPU", {})]),
    (["tensorrt", ("cuda", {"prefer_nhwc": 1})], {},
     [("TRT", {}), ("CUDA", {"use_tf32": 0, "prefer_nhwc": 1}), ("CPU", {})]),
    (["tensorrt", "cpu"], {}, [("TRT", {}), ("CPU", {})]),
    (None, {"engines": Path("there")}, [("CUDA", {"use_tf32": 0}), ("CPU", {})]),
])  # fmt: skip
def test_tensorrt_takes_cuda_along(monkeypatch, wanted, given, expected):
    names = {"TRT": session.TENSORRT, "CUDA": session.CUDA, "CPU": session.CPU}
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names.values()))
    monkeypatch.setattr(session, "_starts", lambda _: True)
    assert session.choose_providers(wanted, **given) == [(names[name], options) for name, options in expected]


def test_tensorrt_is_refused_where_there_is_none(cnn):
    with pytest.raises(ProviderError, match="provider 'tensorrt' is not available in this onnxruntime; available: "):
        ov.load(cnn.path, providers="tensorrt")


@pytest.mark.parametrize(("wanted", "version", "loads"), [
    (None, "13.0", 1), ("cuda", "13.0", 1), (["cpu"], "13.0", 1), ("cpu", "13.0", 0), (None, "", 0),
])  # fmt: skip
def test_libraries_of_an_onnxruntime_for_gpus_are_loaded_before_they_are_needed(
    monkeypatch, capsys, wanted, version, loads
):
    loaded = []

    def preload() -> None:
        sys.stdout.write("Failed to load libcudnn.so.9")
        loaded.append(None)

    monkeypatch.setattr(onnxruntime, "cuda_version", version)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [session.CUDA, session.CPU])
    session._load_cuda.cache_clear()
    for _ in range(2):
        session.choose_providers(wanted)
    session._load_cuda.cache_clear()
    assert len(loaded) == loads
    assert not capsys.readouterr().out


def test_the_default_provider_is_the_cpu_where_there_is_no_gpu(cnn):
    ex = ov.load(cnn.path)
    ex.predict(cnn.x(1))
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert ex._engine.provider == ("CUDAExecutionProvider" if has_cuda else "CPUExecutionProvider")
