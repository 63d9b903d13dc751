"""Reading ahead: in order, no further than it should, and ended when nobody waits any more."""

from __future__ import annotations

import threading
import time

import pytest

from onnxviz.dataset.reading import AHEAD, read_ahead
from onnxviz.dataset.sources import Listed
from onnxviz.errors import InputError


def listed(number, reads):
    return Listed(number, number * len(reads), [f"{number}.{i}" for i in range(len(reads))], reads)


def slow(value, seconds):
    def read():
        time.sleep(seconds)
        return {"x": value}

    return read


def test_in_order_whatever_each_takes():
    batches = [listed(n, [slow((n, i), 0.02 * ((n + i) % 3)) for i in range(4)]) for n in range(5)]
    found = [[sample["x"] for sample in batch.samples] for batch in read_ahead(batches, 3)]
    assert found == [[(n, i) for i in range(4)] for n in range(5)]


def test_no_further_ahead_than_said():
    taken, most = 0, 0

    def batches():
        nonlocal taken
        for n in range(20):
            taken += 1
            yield listed(n, [slow(n, 0)])

    for done, _ in enumerate(read_ahead(batches(), 2), 1):
        time.sleep(0.005)
        most = max(most, taken - done)
    assert taken == 20
    assert most == AHEAD + 1  # one more waits for room


def test_what_cannot_be_read_is_told():
    def bad():
        raise InputError("it is damaged")

    def gone():
        raise FileNotFoundError(2, "No such file", "a.png")

    (batch,) = read_ahead([listed(0, [slow(1, 0), bad, gone])], 2)
    assert batch.samples == [{"x": 1}, "it is damaged", "[Errno 2] No such file: 'a.png'"]


def test_a_fault_of_the_reading_is_no_bad_sample():
    def wrong():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_ahead([listed(0, [wrong])], 2))


def test_threads_end_when_nobody_waits():
    before = threading.active_count()
    for ending in ("closed", "an error"):
        batches = read_ahead((listed(n, [slow(n, 0.001)] * 3) for n in range(1000)), 4)
        next(batches)
        if ending == "closed":
            batches.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                batches.throw(KeyboardInterrupt())
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
