"""Captum's calls, answered by Captum and by an explainer."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from onnxviz.compat import captum as compat
from onnxviz.errors import InputError, LayerError, OnnxvizWarning, OptionError, TargetError
from tests.support import assert_close, normal

pytestmark = pytest.mark.usefixtures("quiet")

TARGETS = torch.tensor([1, 3, 0])


@pytest.fixture
def both(cnn):
    """A network and its explainer."""
    return cnn.model, cnn.explainer


@pytest.fixture
def x():
    return torch.tensor(normal(3, 3, 12, 12, seed=1))


def assert_same(found, expected, bar: float = 1e-5) -> None:
    """Of the same kind, and equal."""
    assert type(found) is type(expected)
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for each in zip(found, expected, strict=True):
            assert_same(*each, bar)
    else:
        assert found.dtype == expected.dtype
        assert_close(found, expected.detach().numpy(), bar)


WINDOW = {"sliding_window_shapes": (3, 4, 6), "target": TARGETS}
CALLS = {
    "saliency": ("Saliency", {"target": TARGETS}),
    "signed": ("Saliency", {"target": 2, "abs": False}),
    "input times gradient": ("InputXGradient", {"target": [1, 3, 0]}),
    "guided": ("GuidedBackprop", {"target": TARGETS}),
    "deconvolution": ("Deconvolution", {"target": torch.tensor(4)}),
    "integrated": ("IntegratedGradients", {"target": TARGETS, "n_steps": 20}),
    "from a number": ("IntegratedGradients", {"target": (1,), "baselines": 0.3, "internal_batch_size": 3}),
    "from an input": ("IntegratedGradients", {"target": TARGETS, "baselines": torch.tensor(normal(1, 3, 12, 12))}),
    "occlusion": ("Occlusion", {**WINDOW, "strides": (3, 2, 3)}),
    "occlusion, step by step": ("Occlusion", {**WINDOW, "baselines": 0.2, "perturbations_per_eval": 4}),
}  # fmt: skip
"""Captum's class and the arguments of ``attribute``."""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", ["a tensor", "a tuple"])
def test_attributions(both, x, call, form):
    model, ex = both
    name, options = CALLS[call]
    given = x if form == "a tensor" else (x,)
    expected = getattr(captum.attr, name)(model).attribute(given, **options)
    assert_same(getattr(compat, name)(ex).attribute(given, **options), expected)


def test_convergence_delta(both, x):
    """Within rounding: what the attributions miss of the score's difference is small itself."""
    model, ex = both
    options = {"target": TARGETS, "n_steps": 7, "return_convergence_delta": True}
    attributions, delta = compat.IntegratedGradients(ex).attribute(x, **options)
    expected = captum.attr.IntegratedGradients(model).attribute(x, **options)
    assert_same((attributions, delta), expected, 1e-3)


@pytest.mark.parametrize("layer", ["features.0", "features.2", "features.3"])
def test_layers(both, x, layer):
    model, ex = both
    module = model.get_submodule(layer)
    assert_same(compat.LayerActivation(ex, layer).attribute(x), captum.attr.LayerActivation(model, module).attribute(x))
    for options in ({}, {"relu_attributions": True}, {"attr_dim_summation": False}):
        assert_same(
            compat.LayerGradCam(ex, layer).attribute(x, TARGETS, **options),
            captum.attr.LayerGradCam(model, module).attribute(x, TARGETS, **options),
        )


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize(
    ("name", "options"), [("Saliency", {}), ("IntegratedGradients", {"n_steps": 5}), ("GuidedBackprop", {})]
)
def test_noise(both, x, kind, name, options, monkeypatch):
    """The same noise: Captum's has all copies of a sample one after another."""
    model, ex = both
    drawn = np.stack([np.random.default_rng([5, j]).normal(0, 0.2, x.shape) for j in range(4)], 1)
    noise = torch.tensor(drawn.reshape(-1, *x.shape[1:]).astype(np.float32))
    monkeypatch.setattr(torch, "normal", lambda *_: noise)
    asked = {"nt_type": kind, "nt_samples": 4, "stdevs": 0.2, "target": TARGETS, **options}
    expected = captum.attr.NoiseTunnel(getattr(captum.attr, name)(model)).attribute(x, **asked)
    found = compat.NoiseTunnel(getattr(compat, name)(ex)).attribute(x, **asked, seed=5)
    assert_same(found, expected, 2e-4 if kind == "vargrad" else 1e-5)  # a difference of two large numbers


def test_the_last_window(both, x):
    """Moved to the input's end, and the same for all windows before."""
    model, ex = both
    options = {"sliding_window_shapes": (3, 5, 4), "strides": (3, 3, 4), "target": TARGETS}
    with pytest.warns(OnnxvizWarning, match="to the end of axis 2") as told:
        found = compat.Occlusion(ex).attribute(x, **options)
    expected = captum.attr.Occlusion(model).attribute(x, **options)
    assert told[0].filename == __file__
    assert_close(found[:, :, :7], expected[:, :, :7].numpy(), 1e-5)


def test_arrays_come_back_as_arrays(both, x):
    _, ex = both
    found = compat.Occlusion(ex).attribute(x.numpy(), (3, 4, 4), target=1)
    assert type(found) is np.ndarray
    found += 1  # of its own memory


def test_further_inputs(subjects):
    subject = subjects("two heads")
    first, second = map(torch.tensor, subject.feeds(4).values())
    for name in ("Saliency", "IntegratedGradients"):
        theirs = getattr(captum.attr, name)(lambda *inputs: subject.model(*inputs)["both"])
        expected = theirs.attribute(first, target=1, additional_forward_args=second)
        found = getattr(compat, name)(subject.explainer).attribute(first, target=1, additional_forward_args=(second,))
        assert_same(found, expected)


def test_one_score_needs_no_target(subjects):
    subject = subjects("regressor")
    x = torch.tensor(subject.x(3))
    expected = captum.attr.IntegratedGradients(subject.model).attribute(x)
    assert_same(compat.IntegratedGradients(subject.explainer).attribute(x), expected)


def test_the_score_is_the_models_own_output(subjects):
    """A probability, of a network that ends in a softmax."""
    subject = subjects("classifier")
    x = torch.tensor(subject.x(3))
    expected = captum.attr.Saliency(subject.model).attribute(x, target=TARGETS)
    assert_same(compat.Saliency(subject.explainer).attribute(x, target=TARGETS), expected)


@pytest.mark.parametrize("target", [(1, 2, 3), [(1, 2, 3), (0, 0, 0), (3, 3, 1)]])
def test_entries_of_an_output_of_more_axes(subjects, target):
    subject = subjects("segmenter")
    x = torch.tensor(subject.x(3))
    expected = captum.attr.Saliency(subject.model).attribute(x, target=target)
    assert_same(compat.Saliency(subject.explainer).attribute(x, target=target), expected)


REFUSED = {
    "a module": (lambda ex, x: compat.Saliency(nn.Linear(2, 2)), OptionError, "forward_func is a Linear.*ov.convert"),
    "a module as layer": (lambda ex, x: compat.LayerActivation(ex, nn.ReLU()), LayerError, "layer is a ReLU"),
    "no such layer": (lambda ex, x: compat.LayerGradCam(ex, "features.4"), LayerError, "did you mean"),
    "a layer without places": (lambda ex, x: compat.LayerGradCam(ex, "head"), LayerError, "are not known"),
    "no target": (lambda ex, x: compat.Saliency(ex).attribute(x), TargetError, "target=None.*several scores"),
    "no such class": (lambda ex, x: compat.Saliency(ex).attribute(x, 7), TargetError, "target 7 is out of range"),
    "a fraction": (lambda ex, x: compat.Saliency(ex).attribute(x, 0.5), TargetError, "target=0.5"),
    "two inputs": (lambda ex, x: compat.Saliency(ex).attribute((x, x), 1), InputError, "of 2 inputs at once"),
    "no batch": (lambda ex, x: compat.Saliency(ex).attribute(3.0, 1), InputError, "inputs is a float"),
    "another rule": (lambda ex, x: compat.IntegratedGradients(ex).attribute(x, target=1, method="riemann_left"),
                     OptionError, "method='riemann_left'"),
    "gradients alone": (lambda ex, x: compat.IntegratedGradients(ex, multiply_by_inputs=False), OptionError,
                        "multiply_by_inputs"),
    "a layer's input": (lambda ex, x: compat.LayerActivation(ex, "head").attribute(x, attribute_to_layer_input=True),
                        OptionError, "LayerActivation: attribute_to_layer_input=True is not offered"),
    "some channels": (lambda ex, x: compat.Occlusion(ex).attribute(x, (1, 4, 4), target=1), OptionError,
                      "a part of axis 1"),
    "window of two axes": (lambda ex, x: compat.Occlusion(ex).attribute(x, (4, 4), target=1), OptionError,
                           "sliding_window_shapes=.*expected 3"),
    "noise of nothing": (lambda ex, x: compat.NoiseTunnel(ex), OptionError, "attribution_method is a Explainer"),
    "another kind of noise": (lambda ex, x: compat.NoiseTunnel(compat.Saliency(ex)).attribute(x, "mean", target=1),
                              OptionError, "nt_type='mean'"),
    "no copies": (lambda ex, x: compat.NoiseTunnel(compat.Saliency(ex)).attribute(x, nt_samples=0, target=1),
                  OptionError, "nt_samples=0"),
    "drawn baselines": (
        lambda ex, x: compat.NoiseTunnel(compat.Saliency(ex)).attribute(x, draw_baseline_from_distrib=True),
        OptionError, "draw_baseline_from_distrib"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(both, x, case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(both[1], x)


def test_log_probabilities_are_refused(subjects):
    subject = subjects("volume")
    with pytest.raises(TargetError, match="is a log-softmax"):
        compat.Saliency(subject.explainer).attribute(subject.x(2), target=1)


def test_entries_that_are_not_there(subjects):
    ex, x = subjects("segmenter").explainer, subjects("segmenter").x(2)
    for target, message in ((1, "wants 3 indices"), ((1, 9, 9), "out of range"), ([(1, 1, 1)], "wants 3 indices")):
        with pytest.raises(TargetError, match=message):
            compat.Saliency(ex).attribute(x, target=target)
