"""What holds for every method: shapes, determinism, batches, chunks, targets, layouts, and that nothing is changed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import onnxviz as ov
from tests.support import assert_close

FAST = {
    "integrated_gradients": {"n_steps": 4},
    "smooth_grad": {"n_samples": 4, "seed": 3},
    "rise": {"n_masks": 12, "cells": 3, "seed": 3},
    "occlusion": {"window": 3, "stride": 2},
}
"""Options with which a method is quick."""
ON_INPUT = {"gradient", "guided_backprop", "deconvnet", "input_x_gradient", "integrated_gradients", "smooth_grad"}
"""Methods whose result is shaped like the input; guided Grad-CAM too, the others give maps."""
METHODS = [m.name for m in ov.methods()]
NETWORKS = {"cnn": (12, 12), "mixed": (10, 10), "volume": (6, 7, 5), "series": (17,)}
WITHOUT = {
    ("mixed", "guided_backprop"), ("mixed", "deconvnet"), ("mixed", "guided_grad_cam"),
}  # fmt: skip
"""Networks without a rectifier."""
CASES = [case for case in product(NETWORKS, METHODS) if case not in WITHOUT]


def explain(subject, x, method, target=None, **more):
    return subject.explainer.explain(x, method, target, **FAST.get(method, {}), **more)


def close(found, expected, bar: float = 1e-5) -> None:
    assert_close(np.asarray(found), np.asarray(expected), bar)


def test_all_methods_are_here():
    assert len(METHODS) == 17
    assert set(FAST) | ON_INPUT <= set(METHODS)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_shape_type_and_determinism(subjects, name, method):
    subject = subjects(name)
    x = subject.x()
    before = x.copy()
    found = explain(subject, x, method)
    np.testing.assert_array_equal(x, before)
    assert found.values.dtype == np.float32
    assert found.method == method
    like_input = method in ON_INPUT or method == "guided_grad_cam"
    assert found.values.shape == (x.shape if like_input else (len(x), *NETWORKS[name]))
    assert found.axes[0] == "batch"
    assert np.isfinite(found.values).all()
    assert found.score.shape == (len(x),)
    np.testing.assert_array_equal(explain(subject, x, method).values, found.values)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_batch_is_its_samples(subjects, name, method):
    subject = subjects(name)
    x = subject.x()
    whole = explain(subject, x, method)
    alone = [explain(subject, x[i : i + 1], method) for i in range(len(x))]
    close(np.concatenate([each.values for each in alone]), whole)
    np.testing.assert_allclose(np.concatenate([each.score for each in alone]), whole.score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "method"), CASES)
@pytest.mark.parametrize("size", [1, 3])
def test_chunks_change_nothing(subjects, name, method, size):
    subject = subjects(name)
    whole = explain(subject, subject.x(), method)
    subject.explainer.batch_size = size
    try:
        close(explain(subject, subject.x(), method), whole)
    finally:
        subject.explainer.batch_size = "auto"


@pytest.mark.parametrize("method", METHODS)
def test_several_targets_are_one_at_a_time(subjects, method):
    subject = subjects("cnn")
    x = subject.x()
    both = explain(subject, x, method, [[1, 3]])
    if method == "eigen_cam":  # which knows no targets
        assert "target" not in both.axes
        return
    assert both.axes[1] == "target"
    for i, target in enumerate((1, 3)):
        close(both.values[:, i], explain(subject, x, method, target))
    each = explain(subject, x, method, np.arange(len(x)) % 5)
    for i in range(len(x)):
        close(each.values[i : i + 1], explain(subject, x[i : i + 1], method, i % 5))


@pytest.mark.parametrize("method", METHODS)
def test_an_open_target_is_the_class_on_top(subjects, method):
    subject = subjects("cnn")
    x = subject.x()
    top = subject.explainer.predict(x).argmax(1)
    close(explain(subject, x, method), explain(subject, x, method, top))


@pytest.mark.parametrize("method", sorted({*METHODS} - {"guided_backprop", "deconvnet", "guided_grad_cam"}))
def test_a_single_unit_is_explained_by_its_decision(subjects, method):
    subject = subjects("series")
    x = subject.x()
    found, positive = explain(subject, x, method), explain(subject, x, method, 0)
    sign = np.where(subject.explainer.predict(x) > 0.5, 1, -1).reshape(-1, *[1] * (found.values.ndim - 1))
    if method in ("gradient", "input_x_gradient", "integrated_gradients", "smooth_grad", "occlusion", "rise"):
        close(found, positive.values * sign)
    assert set(np.asarray(found.target).ravel()) <= {0, 1} or method == "eigen_cam"


@pytest.mark.parametrize("method", METHODS)
def test_options_are_in_the_result(subjects, method):
    subject = subjects("cnn")
    found = explain(subject, subject.x(), method)
    assert found.options["of"] == "logits"
    for name, value in FAST.get(method, {}).items():
        assert found.options[name] == (value if np.isscalar(found.options[name]) else (value, value))
