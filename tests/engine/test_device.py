"""What a GPU is given and gives back, on a stand-in whose memory is the host's; and how much it is given at once."""

from __future__ import annotations

import ctypes
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

import onnxviz as ov
from onnxviz.engine import chunks, core
from onnxviz.engine.cuda import TO_DEVICE, TO_HOST, Cuda, cuda
from onnxviz.engine.device import Device
from onnxviz.engine.session import CPU, CUDA, TENSORRT
from onnxviz.errors import OnnxvizWarning, OutOfMemoryError, ProviderError
from tests.engine.questions import METHODS, sizes_of_runs
from tests.support import assert_close

FREE, LOST = 2**30, 999


class Runtime:
    """The functions of the CUDA runtime, over memory of the host; every call is written down."""

    def __init__(self, free: int = FREE) -> None:
        self.free, self.failing = free, {}
        self.device = 3
        self.calls: list[str] = []
        self.copies: list[tuple[int, int, int, int]] = []
        self.locked: dict[int, ctypes.Array] = {}

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append(name)
            return self.failing.get(name) or getattr(self, f"_{name}", lambda *_: 0)(*arguments) or 0

        return call

    def _cudaGetDevice(self, found):  # noqa: N802 - CUDA's name
        found._obj.value = self.device

    def _cudaSetDevice(self, index):  # noqa: N802
        self.device = index.value

    def _cudaMemGetInfo(self, free, total):  # noqa: N802
        free._obj.value, total._obj.value = self.free, 2 * self.free

    def _cudaHostAlloc(self, pointer, size, _):  # noqa: N802
        memory = (ctypes.c_ubyte * size.value)()
        pointer._obj.value = ctypes.addressof(memory)
        self.locked[pointer._obj.value] = memory

    def _cudaFreeHost(self, pointer):  # noqa: N802
        del self.locked[pointer.value]

    def _cudaMemcpyAsync(self, to, source, size, kind, _):  # noqa: N802
        self.copies.append((kind.value, to.value, source.value, size.value))
        ctypes.memmove(to, source, size.value)


@pytest.fixture
def runtime(monkeypatch) -> Runtime:
    """Explainers that are opened now compute on the stand-in."""
    library = Runtime()
    monkeypatch.setattr(core.Device, "of", lambda _: Device(CUDA, "cpu", 0, Cuda(library, 0)))
    return library


# ----- what goes there and comes back -----


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_give_what_they_give_on_the_cpu(cnn, runtime, method):
    x = cnn.x(5)
    with ov.load(cnn.path, providers="cpu", batch_size=2) as ex:
        for _ in range(2):
            assert_close(METHODS[method](ex, x), METHODS[method](cnn.explainer, x), bar=1e-6)
    assert {kind for kind, *_ in runtime.copies} == {TO_DEVICE, TO_HOST}


@pytest.mark.usefixtures("runtime")
def test_results_do_not_change_with_the_next_call(cnn):
    with ov.load(cnn.path, providers="cpu") as ex:
        first = ex.gradient(cnn.x(3), 1).values
        kept = first.copy()
        ex.gradient(-cnn.x(3), 2)
    assert np.array_equal(first, kept)


def test_buffers_are_used_again(cnn, runtime):
    with ov.load(cnn.path, providers="cpu", batch_size=1) as ex:
        for _ in range(6):
            ex.gradient(cnn.x(8), 1)
        places = {to for kind, to, *_ in runtime.copies if kind == TO_DEVICE}
        assert len(places) <= 2 * chunks.AT_ONCE  # the image and the seed, of two runs
        assert len(runtime.locked) <= chunks.AT_ONCE
    gc.collect()
    assert not runtime.locked
    assert runtime.calls.count("cudaStreamDestroy") == runtime.calls.count("cudaStreamCreateWithFlags")


@pytest.mark.usefixtures("runtime")
def test_many_threads_have_buffers_of_their_own(cnn):
    jobs = [cnn.x(5) * scale for scale in range(1, 33)]
    with ov.load(cnn.path, providers="cpu", batch_size=2) as ex, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: ex.gradient(x, 1).values, jobs))
    for x, values in zip(jobs, found, strict=True):
        assert_close(values, cnn.explainer.gradient(x, 1).values, bar=1e-6)


def test_one_chunk_is_copied_while_another_is_computed(cnn, runtime, monkeypatch):
    """No run ends before the next one's input has come, which therefore does not wait for it."""
    arrived, run = threading.Semaphore(0), onnxruntime.InferenceSession.run_with_iobinding
    copy, first = runtime._cudaMemcpyAsync, threading.Lock()

    def copied(to, source, size, kind, stream):
        copy(to, source, size, kind, stream)
        if kind.value == TO_DEVICE and size.value == cnn.x(1).nbytes:
            arrived.release()

    def waiting(session, binding, options=None):
        if first.acquire(blocking=False):
            assert arrived.acquire(timeout=60)
            assert arrived.acquire(timeout=60)
        return run(session, binding, options)

    monkeypatch.setattr(runtime, "_cudaMemcpyAsync", copied)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", waiting)
    with ov.load(cnn.path, providers="cpu", batch_size=1) as ex:
        assert_close(ex.gradient(cnn.x(4), 1).values, cnn.explainer.gradient(cnn.x(4), 1).values, bar=1e-6)


@pytest.mark.parametrize("fails", ["cudaHostAlloc", "cudaMemcpyAsync", "cudaStreamCreateWithFlags", "cudaMemGetInfo"])
def test_what_cuda_refuses_is_told(cnn, runtime, fails):
    runtime.failing[fails] = LOST
    with ov.load(cnn.path, providers="cpu") as ex:
        with pytest.raises(ProviderError, match=f"{fails} failed on CUDA device 0 with CUDA's error {LOST}"):
            ex.gradient(cnn.x(2), 1)
        runtime.failing.clear()
        assert_close(ex.gradient(cnn.x(2), 1).values, cnn.explainer.gradient(cnn.x(2), 1).values, bar=1e-6)


def test_page_locked_memory_that_is_not_there_is_memory_that_is_not_there(cnn, runtime):
    runtime.failing["cudaHostAlloc"] = 2
    with (
        ov.load(cnn.path, providers="cpu") as ex,
        pytest.warns(OnnxvizWarning, match="2 samples do not fit into the memory of CUDAExecutionProvider"),
        pytest.raises(OutOfMemoryError, match="cudaHostAlloc: out of memory"),
    ):
        ex.gradient(cnn.x(2), 1)


def test_the_current_device_of_a_thread_stays_as_it_was():
    library = Runtime()
    device = Cuda(library, 1)
    assert device.free_bytes() == FREE
    device.stream()
    assert library.device == 3
    assert library.calls[:4] == ["cudaGetDevice", "cudaSetDevice", "cudaMemGetInfo", "cudaSetDevice"]


@pytest.mark.parametrize(("providers", "version", "expected"), [
    ([(CPU, {})], "13.0", (CPU, "cpu", 0)),
    ([("OpenVINOExecutionProvider", {}), (CPU, {})], "", ("OpenVINOExecutionProvider", "cpu", 0)),
    ([(CUDA, {}), (CPU, {})], "13.0", (CUDA, "cuda", 0)),
    ([(CUDA, {"device_id": "1"}), (CPU, {})], "12.8", (CUDA, "cuda", 1)),
    ([(TENSORRT, {"device_id": 2}), (CUDA, {}), (CPU, {})], "13.0", (TENSORRT, "cuda", 2)),
])  # fmt: skip
def test_where_providers_compute(monkeypatch, providers, version, expected):
    loaded = []
    monkeypatch.setattr(onnxruntime, "cuda_version", version)
    monkeypatch.setattr("onnxviz.engine.cuda.ctypes.CDLL", lambda name: loaded.append(name) or Runtime())
    cuda.cache_clear()
    device = Device.of(providers)
    cuda.cache_clear()
    assert (device.provider, device.kind, device.index) == expected
    assert (device.cuda is not None) == device.is_gpu == (expected[1] == "cuda")
    assert [name.rpartition(".")[2] for name in loaded] == ([version[:2]] if device.is_gpu else [])


def test_a_runtime_that_cannot_be_reached_is_done_without(cnn, monkeypatch):
    assert cuda("99.0", 0) is None
    monkeypatch.setattr(core.Device, "of", lambda _: Device(CUDA, "cpu"))
    with ov.load(cnn.path, providers="cpu", batch_size=2) as ex:
        for method in METHODS.values():
            assert_close(method(ex, cnn.x(5)), method(cnn.explainer, cnn.x(5)), bar=1e-6)


# ----- how much at once -----


@pytest.mark.parametrize(("free", "staged", "runs"), [
    (0, 100, [1] * 9), (3, 100, [1] * 9), (4, 100, [2, 2, 2, 2, 1]), (8, 100, [3, 3, 3]), (10, 100, [5, 4]),
    (18, 100, [9]), (100, 100, [9]), (100, 4, [3, 3, 3]), (100, 5, [5, 4]), (100, 0, [1] * 9),
])  # fmt: skip
def test_runs_fit_into_a_part_of_the_free_memory_and_are_even(cnn, runtime, monkeypatch, free, staged, runs):
    """Free memory is counted in samples that both runs may hold, room for inputs in samples of one."""
    x = cnn.x(9)
    with ov.load(cnn.path, providers="cpu") as ex:
        each = 2 * ex._bundle.manifest.activation_bytes
        runtime.free = int((free + 0.01) * each / chunks.DEVICE_SHARE) + ex.memory()["weights"]
        monkeypatch.setattr(chunks, "STAGED_BYTES", staged * x[:1].nbytes)
        seen = sizes_of_runs(monkeypatch)
        found = ex.gradient(x, 1)
        assert sorted(seen, reverse=True) == runs
        runtime.free = 0  # sessions have taken it, and use it again
        seen.clear()
        ex.gradient(x, 1)
        assert sorted(seen, reverse=True) == runs
    assert_close(found.values, cnn.explainer.gradient(x, 1).values, bar=1e-6)


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 2), (4, 2), (5, 2), (8, 2), (9, 1), (20, 1)])
def test_two_runs_at_once_where_there_are_two(cnn, batch_size, workers):
    with ov.load(cnn.path, providers="cpu", batch_size=batch_size) as ex:
        plan = ex.engine.chunks.plan({"image": cnn.x(9)}, 9)
    assert plan == chunks.Plan(min(batch_size, 9), workers)


@pytest.mark.usefixtures("runtime")
def test_variants_are_made_for_two_runs_at_once(cnn, monkeypatch):
    monkeypatch.setattr(chunks, "HELD_BYTES", 0)
    monkeypatch.setattr(chunks, "STAGED_BYTES", 3 * cnn.x(1).nbytes)
    with ov.load(cnn.path, providers="cpu") as ex:
        assert ex.engine.chunks.held({"image": cnn.x(1)}, 100) == 6
        seen = sizes_of_runs(monkeypatch)
        found = ex.smooth_grad(cnn.x(1), 1, n_samples=12).values
    assert seen[1:] == [3, 3, 3, 3]  # after the run that settles the target
    assert_close(found, cnn.explainer.smooth_grad(cnn.x(1), 1, n_samples=12).values, bar=1e-6)


@pytest.mark.gpu
def test_on_a_gpu_chunks_give_what_the_cpu_gives(cnn):
    x = cnn.x(64)
    with ov.load(cnn.path, providers="cuda", batch_size=3) as ex:
        assert ex.engine.chunks.device.cuda.free_bytes() > 2**27
        for _ in range(3):
            assert_close(ex.gradient(x, 1).values, cnn.explainer.gradient(x, 1).values, bar=1e-4)
            assert_close(ex.saliency(x, [[1, 2]]).values, cnn.explainer.saliency(x, [[1, 2]]).values, bar=1e-4)
        ex.batch_size = "auto"
        assert_close(ex.grad_cam(x, 1).values, cnn.explainer.grad_cam(x, 1).values, bar=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 5, 2**20, 2**26])
def test_on_a_gpu_copies_there_and_back_are_whole(size):
    device = Device.of([(CUDA, {})])
    sent = np.random.default_rng(size).integers(0, 255, size, dtype=np.uint8)
    held = onnxruntime.OrtValue.ortvalue_from_shape_and_type([size], np.uint8, "cuda", 0)
    host, stream = device.cuda.page_locked(size), device.cuda.stream()
    np.copyto(host, sent)
    stream.copy(held.data_ptr(), host.ctypes.data, size, TO_DEVICE)
    host[:] = 0
    stream.copy(host.ctypes.data, held.data_ptr(), size, TO_HOST)
    assert np.array_equal(host, sent)
    assert np.array_equal(held.numpy(), sent)
