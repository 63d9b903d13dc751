"""What many variants of an input take of memory: no more than a few of them."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.engine import chunks
from tests.networks import normal

SIDE, AT_ONCE = 40, 8
IMAGE = 4 * 3 * SIDE * SIDE
"""Bytes of one."""


@pytest.fixture(scope="module")
def ex(tmp_path_factory):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 48, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(48, 5),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("memory") / "net.onnx"
    return ov.load(ov.convert(net.eval(), path, example=normal(2, 3, SIDE, SIDE), quiet=True), providers="cpu")


def peak(answer) -> int:
    """Bytes that Python and numpy hold at most, beyond what they held before."""
    answer()  # sessions are made, and what is imported late
    tracemalloc.start()
    try:
        answer()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("method", "option"), [
    ("smooth_grad", "n_samples"), ("integrated_gradients", "n_steps"), ("rise", "n_masks"),
])  # fmt: skip
def test_memory_does_not_grow_with_the_number_of_samples(ex, monkeypatch, method, option):
    monkeypatch.setattr(chunks, "HELD_BYTES", AT_ONCE * IMAGE)
    ex.batch_size = AT_ONCE
    x = normal(2, 3, SIDE, SIDE)
    few, many = (peak(lambda n=n: ex.explain(x, method, 1, **{option: n})) for n in (10, 100))
    assert many < few + 2 * IMAGE  # all of them at once would take 200


@pytest.mark.parametrize("method", ["smooth_grad", "integrated_gradients", "rise", "score_cam", "occlusion"])
def test_memory_grows_with_the_batch_by_inputs_and_results_alone(ex, monkeypatch, method):
    monkeypatch.setattr(chunks, "HELD_BYTES", AT_ONCE * IMAGE)
    ex.batch_size = AT_ONCE
    options = {"smooth_grad": {"n_samples": 8}, "integrated_gradients": {"n_steps": 8}, "rise": {"n_masks": 8}}
    inputs = [normal(n, 3, SIDE, SIDE) for n in (2, 7)]
    few, many = (peak(lambda x=x: ex.explain(x, method, 1, **options.get(method, {}))) for x in inputs)
    assert many < few + 5 * 8 * IMAGE  # the variants of five more images would be 40 and more
