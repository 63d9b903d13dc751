"""Timing: rounds, quartiles, and what ``Explainer.benchmark`` returns."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import onnxviz as ov
from onnxviz import benchmark
from onnxviz.benchmark import Effort, Quartiles, interleaved, ratio, short
from onnxviz.errors import LayerError, OptionError, TargetError

SHORTLY = {"seconds": 0.01}


def rounds(count):
    return Effort(seconds=60, least=1, most=count)


# ----- rounds -----


def test_another_contestant_goes_first_in_each_round_and_all_are_warmed_up():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(contestants, rounds(4))
    assert "".join(calls) == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_long_run_is_its_own_warm_up(monkeypatch):
    monkeypatch.setattr(benchmark, "LONG", 0.0)
    calls = []
    interleaved({"a": lambda: calls.append("a")}, rounds(3))
    assert len(calls) == 2 + 1 + 1


def test_the_least_number_of_rounds_is_kept_when_time_is_over():
    assert len(interleaved({"a": lambda: None}, Effort(1e-9, least=3, most=9))["a"]) == 3


@pytest.mark.parametrize(
    "options",
    [{"seconds": 0}, {"seconds": float("nan")}, {"seconds": True}, {"least": 0}, {"least": 3, "most": 2}],
    ids=str,
)
def test_no_effort_is_refused(options):
    with pytest.raises(OptionError):
        Effort(**options)


# ----- figures -----


def test_quartiles_are_numpys():
    values = np.random.default_rng(0).exponential(size=31)
    found = Quartiles.of(values)
    assert [found.low, found.median, found.high] == np.quantile(values, [0.25, 0.5, 0.75]).tolist()


@pytest.mark.parametrize(
    ("other", "expected"),
    [((3, 3.5, 4), True), ((3.1, 3.5, 4), False), ((0, 0.5, 0.9), False), ((0, 0.5, 1), True), ((1.5, 2, 2.5), True)],
)
def test_ranges_overlap(other, expected):
    one, other = Quartiles(1, 2, 3), Quartiles(*other)
    assert one.overlaps(other) is other.overlaps(one) is expected


def test_ratios_are_taken_round_by_round():
    times = {"a": [2.0, 20.0, 200.0], "b": [1.0, 10.0, 100.0]}
    assert ratio(times, "a", "b") == Quartiles(2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.012345, "0.0123"), (1.0, "1"), (12.345, "12.3"), (99.94, "99.9"), (99.96, "100"), (12345.6, "12346")],
)
def test_numbers_have_three_digits(number, text):
    assert short(number) == text


# ----- Explainer.benchmark -----


@pytest.mark.parametrize(
    ("method", "options"),
    [("saliency", {}), ("grad_cam", {"layer": "auto"}), ("smooth_grad", {"n_samples": 2}), ("gradient", {"target": 1})],
)
def test_a_method_is_timed_beside_the_forward_pass(cnn, method, options):
    found = cnn.explainer.benchmark(cnn.x(3), method, **options, **SHORTLY)
    assert (found.method, found.batch, found.provider) == (method, 3, "CPUExecutionProvider")
    assert len(found.seconds) == len(found.forward) == Effort().least
    assert min(*found.seconds, *found.forward) > 0
    assert found.versions == {"onnxviz": ov.__version__, "onnxruntime": onnxruntime.__version__}


def test_the_figures_follow_from_the_seconds():
    found = benchmark.Benchmark("saliency", 8, "CPU", (0.1, 0.2, 0.4), (0.1, 0.1, 0.1), {"onnxviz": "1"})
    assert found.milliseconds == Quartiles.of([100, 200, 400])
    assert found.images_per_second == Quartiles.of([80, 40, 20])
    assert found.over_forward == Quartiles.of([1, 2, 4])
    assert str(found) == (
        "saliency, batch 8: 200 (150 – 300) ms, 40 (30 – 60) images per second, 2 (1.5 – 3) × the forward pass\n"
        "medians and quartiles of 3 rounds on CPU; onnxviz 1"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "salience"}, OptionError),
        ({"seconds": -1}, OptionError),
        ({"method": "saliency", "layer": "conv"}, OptionError),
        ({"method": "grad_cam", "layer": "nowhere"}, LayerError),
        ({"target": 10**6}, TargetError),
    ],
    ids=str,
)
def test_what_the_method_refuses_is_refused(cnn, arguments, error):
    with pytest.raises(error):
        cnn.explainer.benchmark(cnn.x(1), **arguments)
