"""One Explainer in a busy service: many threads, forked and spawned workers, and what it leaves behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

import onnxviz as ov
from onnxviz.source import Array
from tests.hostile import specimens

THREADS, CALLS, LONG = 32, 600, 10_000
SECONDS = 300
"""No call takes a hundredth of it: a thread that is not back by then waits for another."""
METHODS: dict[str, Callable[[ov.Explainer, Array], Array]] = {
    "predict": lambda ex, x: ex.predict(x),
    "features": lambda ex, x: ex.features(x, "p")["p"],
    "gradient": lambda ex, x: ex.gradient(x).values,
    "two targets": lambda ex, x: ex.saliency(x, [[0, 1]]).values,
    "guided_backprop": lambda ex, x: ex.guided_backprop(x, 2).values,
    "grad_cam": lambda ex, x: ex.grad_cam(x).values,
    "integrated_gradients": lambda ex, x: ex.integrated_gradients(x, 0, n_steps=3).values,
    "smooth_grad": lambda ex, x: ex.smooth_grad(x, 0, n_samples=3).values,
    "occlusion": lambda ex, x: ex.occlusion(x, 0, window=4).values,
}
INPUTS = {n: np.random.default_rng(n).standard_normal((n, 3, 8, 8)).astype(np.float32) for n in (1, 2, 5)}
JOBS = [(name, n) for name in METHODS for n in INPUTS]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return specimens.healthy(tmp_path_factory.mktemp("load"))["explainable"]


def answers(ex: ov.Explainer) -> dict[tuple[str, int], Array]:
    return {(name, n): METHODS[name](ex, INPUTS[n]) for name, n in JOBS}


def used() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def many_at_once(path: Path, calls: int) -> None:
    """Calls from 32 threads give what single ones give, and memory stays as it was after the first half."""
    jobs = random.Random(0).choices(JOBS, k=calls)
    with ov.load(path, providers="cpu", threads=1, max_sessions=6) as ex:
        serial = answers(ex)
        with ThreadPoolExecutor(THREADS) as pool:

            def work(job: tuple[str, int]) -> bool:
                return np.array_equal(METHODS[job[0]](ex, INPUTS[job[1]]), serial[job])

            half = list(pool.map(work, jobs[: calls // 2], timeout=SECONDS * calls / CALLS))
            warm = used()
            assert all([*half, *pool.map(work, jobs[calls // 2 :], timeout=SECONDS * calls / CALLS)])
            assert used() < 1.02 * warm
        assert ex.memory()["sessions"] <= 6


def test_many_threads_at_once(path):
    many_at_once(path, CALLS)


@pytest.mark.long
def test_ten_thousand_calls(path):
    many_at_once(path, LONG)


def test_samples_on_cores_of_their_own_from_many_threads(path, monkeypatch):
    """Each call then has a pool of its own, inside of the caller's."""
    monkeypatch.setattr("onnxviz.engine.chunks.WORTH_SPREADING", 0)
    x = np.random.default_rng(0).standard_normal((9, 3, 8, 8)).astype(np.float32)
    with ov.load(path, providers="cpu", threads=2) as ex, ThreadPoolExecutor(THREADS) as pool:
        expected = ex.saliency(x, 1).values
        found = pool.map(lambda _: ex.saliency(x, 1).values, range(4 * THREADS), timeout=SECONDS)
        assert all(np.array_equal(each, expected) for each in found)


def test_closing_while_others_ask(path):
    """They get their answer, or are told; none waits for ever."""
    with ov.load(path, providers="cpu", threads=1) as ex, ThreadPoolExecutor(8) as pool:
        expected = ex.saliency(INPUTS[2], 1).values

        def ask(number: int) -> bool:
            if number == 40:
                ex.close()
            try:
                return np.array_equal(ex.saliency(INPUTS[2], 1).values, expected)
            except ov.OnnxvizError as error:
                return "closed" in str(error)

        assert all(pool.map(ask, range(200), timeout=SECONDS))
    assert ex.memory()["sessions"] == 0


def test_opening_and_closing_leaves_nothing_behind(path):
    """Sessions, weights and open files go back at close(), without waiting for garbage to be collected."""

    def once() -> None:
        with ov.load(path, providers="cpu", threads=1) as ex:
            answers(ex)

    for _ in range(5):
        once()
    files, before = psutil.Process().num_fds(), used()
    for _ in range(10):
        once()
    assert used() < 1.02 * before
    assert psutil.Process().num_fds() <= files


def digest(path: Path) -> dict[tuple[str, int], bytes]:
    with ov.load(path, providers="cpu", threads=1) as ex:
        return {job: values.tobytes() for job, values in answers(ex).items()}


def test_spawned_workers_compute_the_same(path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = [pool.apply_async(digest, (path,)) for _ in range(2)]
        assert [each.get(SECONDS) for each in found] == [digest(path)] * 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("opened", ["in the child", "in the parent"])
def test_forked_workers_compute_the_same(path, opened):
    """Of one thread: the threads of a session do not survive a fork."""
    with ov.load(path, providers="cpu", threads=1) as ex:
        expected = {job: values.tobytes() for job, values in answers(ex).items()}
        child = os.fork()
        if child == 0:
            ask = partial(digest, path) if opened == "in the child" else partial(same, ex)
            os._exit(0 if ask() == expected else 1)
        wait_for(child)


def same(ex: ov.Explainer) -> dict[tuple[str, int], bytes]:
    return {job: values.tobytes() for job, values in answers(ex).items()}


def wait_for(child: int) -> None:
    assert psutil.Process(child).wait(SECONDS) == 0
