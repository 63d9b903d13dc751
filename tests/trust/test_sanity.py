"""Sanity checks by weight randomisation: what they give and refuse, and what is known of a real network."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.algorithms import explain_by_name
from onnxviz.algorithms.question import Question
from onnxviz.errors import LayerError, OptionError
from onnxviz.trust.similarity import cosine, spearman, ssim
from onnxviz.trust.weights import randomised, weighted_layers

LAYERS = ("head", "features.2", "features.0")


@pytest.fixture(scope="module")
def checked(subjects):
    subject = subjects("cnn")
    x = subject.x(2)
    return subject.explainer, x, ov.sanity_check(subject.explainer, x, methods=["gradient", "grad_cam"], seed=3)


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
def test_step_by_step(checked, order, method):
    """Each number is the similarity of the original map and that of a network made for this step alone."""
    explainer, x, found = checked
    assert found.layers == LAYERS
    original = explainer.explain(x, method)
    assert np.array_equal(found.target, original.target)
    groups = weighted_layers(explainer.engine)[::-1]
    for i in range(3):
        engine = randomised(explainer.engine, groups[: i + 1] if order == "cascading" else [groups[i]], 3)
        changed = explain_by_name(Question(engine, x, original.target, None, "logits"), method, {})
        space = (1, 2) if method == "gradient" else (0, 1)
        pairs = list(zip(original.values, changed.values, strict=True))
        for name, expected in {
            "spearman": [spearman(a, b) for a, b in pairs],
            "cosine": [cosine(a, b) for a, b in pairs],
            "ssim": [ssim(a, b, space) for a, b in pairs],
        }.items():
            np.testing.assert_allclose(found.similarity[order][method][name][i], expected, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers(checked):
    explainer, x, found = checked
    again, other = (ov.sanity_check(explainer, x, methods="gradient", seed=seed) for seed in (3, 4))
    curve = found.similarity["cascading"]["gradient"]["spearman"]
    assert np.array_equal(again.similarity["cascading"]["gradient"]["spearman"], curve)
    assert not np.array_equal(other.similarity["cascading"]["gradient"]["spearman"], curve)


def test_some_layers_and_one_order(checked):
    explainer, x, found = checked
    some = ov.sanity_check(
        explainer, x, methods={"grad_cam": {"layer": "features.3"}, "gradient": {}}, layers=["features.0", "head"],
        orders=["cascading"], seed=3,
    )  # fmt: skip
    assert some.layers == ("head", "features.0")
    assert list(some.similarity) == ["cascading"]
    whole = found.similarity["cascading"]["gradient"]["spearman"]
    assert np.array_equal(some.similarity["cascading"]["gradient"]["spearman"], whole[[0, 2]])


@pytest.mark.parametrize(("count", "expected"), [(1, LAYERS[:1]), (2, LAYERS[::2]), (3, LAYERS), (9, LAYERS)])
def test_a_number_of_layers(checked, count, expected):
    explainer, x, found = checked
    some = ov.sanity_check(explainer, x, methods="gradient", layers=count, seed=3)
    assert some.layers == expected
    assert some.depths == tuple((LAYERS.index(layer) + 1) / 3 for layer in expected)
    whole = found.similarity["cascading"]["gradient"]["spearman"]
    assert some.insensitivity("gradient") == pytest.approx(whole[0].mean())  # the first of three is the upper half


def test_what_it_prints_and_draws(checked):
    _, _, found = checked
    lines = repr(found).splitlines()
    assert lines[0].startswith("SanityCheck")
    assert lines[1].split() == ["random", "down", "to", "gradient", "grad_cam"]
    assert [line.split()[0] for line in lines[2:5]] == list(LAYERS)
    assert lines[5].startswith("depends on the weights")
    for measure in ("spearman", "ssim", "cosine"):
        figure = found.plot(measure)
        panels = [axes for axes in figure.axes if axes.lines]
        assert [axes.get_title() for axes in panels] == ["cascading", "independent"]
        drawn = panels[0].lines[1].get_ydata()
        np.testing.assert_allclose(drawn, found.similarity["cascading"]["grad_cam"][measure].mean(1))
        assert [label.get_text() for label in panels[0].get_xticklabels()] == list(LAYERS)
        assert panels[0].get_ylim()[0] < min(0, drawn.min())


def test_methods_that_the_network_has_not_are_noted(subjects):
    """A table has no places, a tanh is no rectifier."""
    subject = subjects("classifier")
    found = ov.sanity_check(subject.explainer, subject.x(2))
    assert found.methods == ("gradient", "input_x_gradient")
    assert [note.partition(" was left out: ")[0] for note in found.notes] == ["guided_backprop", "grad_cam"]
    assert repr(found).endswith(found.notes[-1])
    with pytest.raises(LayerError, match="a class activation map cannot be taken"):
        ov.sanity_check(subject.explainer, subject.x(2), methods=["gradient", "grad_cam"])


REFUSALS = {
    "unknown method": ({"methods": ["gradcam"]}, OptionError, "no method 'gradcam'.*did you mean 'grad_cam'"),
    "no methods": ({"methods": []}, OptionError, "methods is empty"),
    "unknown option": ({"methods": {"gradient": {"lair": 1}}}, OptionError, "gradient has no option 'lair'"),
    "unknown layer": (
        {"layers": ["features.O"]},
        LayerError,
        "'features.O' is not there.*did you mean 'features.2', 'features.0'",
    ),
    "layer without weights": ({"layers": ["features.1"]}, LayerError, "has no weights of its own"),
    "no layers": ({"layers": []}, OptionError, "expected a list of names"),
    "less than one layer": ({"layers": 0}, OptionError, "a positive number"),
    "one name": ({"layers": "head"}, LayerError, "layers='head'"),
    "unknown order": ({"orders": ["backwards"]}, OptionError, "expected some of cascading, independent"),
    "no order": ({"orders": []}, OptionError, "expected some of cascading, independent"),
}


@pytest.mark.parametrize(("changes", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(checked, changes, error, message):
    explainer, x, _ = checked
    with pytest.raises(error, match=message):
        ov.sanity_check(explainer, x, **changes)


def test_refusals_of_the_result(checked):
    explainer, x, found = checked
    with pytest.raises(OptionError, match="measure='hog'"):
        found.plot("hog")
    with pytest.raises(OptionError, match="'deconvnet' was not checked"):
        found.insensitivity("deconvnet")
    alone = ov.sanity_check(explainer, x, methods="gradient", orders=["independent"])
    with pytest.raises(OptionError, match="the verdict is on cascading"):
        _ = alone.passed
    assert "depends" not in repr(alone)
