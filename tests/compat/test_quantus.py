"""Quantus' metrics of an explainer, and of the PyTorch network that it came from with Captum's maps."""

from __future__ import annotations

import importlib
import subprocess
import sys

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import LayerError, MissingDependencyError, OptionError, TargetError
from tests.networks import network
from tests.support import nhwc, normal

pytestmark = pytest.mark.usefixtures("quantus", "quiet")

TARGETS = np.array([1, 3, 0])
BAR = 1e-4
"""Maps and scores agree to 1e-6; correlations and ratios of them multiply that."""


def ours(*arguments, **options):
    from onnxviz.compat.quantus import explain_func  # imports Quantus, which takes its time

    return explain_func(*arguments, **options)


def theirs(model, inputs, targets, attribution="Saliency", **options):
    method = getattr(captum.attr, attribution)(model)
    x, y = torch.tensor(np.asarray(inputs), dtype=torch.float32), torch.tensor(np.asarray(targets)).long()
    return method.attribute(x, target=y, **options).detach().numpy()


def both(metric, subject, x, *, call=None, method=("saliency", "Saliency")):
    """A metric, made twice, of the explainer and of the network: the same draws, and Captum's maps for the latter."""
    found = []
    asked = {"channel_first": True, "softmax": True, **(call or {})}
    for model, function, named in (
        (subject.explainer, ours, {"method": method[0], **({"reduce": None} if method[0] == "saliency" else {})}),
        (subject.model, theirs, {"attribution": method[1]}),
    ):
        np.random.seed(0)  # noqa: NPY002 - what Quantus draws from
        found.append(metric()(model, x, TARGETS, explain_func=function, explain_func_kwargs=named, **asked))
    return found


METRICS = {
    "FaithfulnessCorrelation": ({"nr_runs": 20, "subset_size": 60}, {}),
    "PixelFlipping": ({"features_in_step": 36}, {"softmax": False}),
    "Infidelity": ({"n_perturb_samples": 3, "perturb_patch_sizes": [4]}, {}),
    "SensitivityN": ({"features_in_step": 72, "n_max_percentage": 0.8}, {}),
    "MaxSensitivity": ({"nr_samples": 5}, {}),
    "LocalLipschitzEstimate": ({"nr_samples": 5}, {}),
    "RelativeRepresentationStability": ({"nr_samples": 3, "layer_names": ["features.2"]}, {}),
    "Sparseness": ({}, {}),
    "Complexity": ({}, {}),
    "RandomLogit": ({"num_classes": 5, "seed": 1}, {}),
    "Completeness": ({}, {}),
}
"""Name → the metric's options, and those of its call."""


@pytest.mark.parametrize("name", METRICS)
def test_metrics(quantus, cnn, name):
    options, call = METRICS[name]
    made = {**options, "disable_warnings": True}
    found, expected = both(lambda: getattr(quantus, name)(**made), cnn, cnn.x(3), call=call)
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=BAR, atol=BAR)


@pytest.mark.parametrize(
    "method",
    [("input_x_gradient", "InputXGradient"), ("guided_backprop", "GuidedBackprop"),
     ("integrated_gradients", "IntegratedGradients")],
    ids=lambda method: method[0],
)  # fmt: skip
def test_methods(quantus, cnn, method):
    make = lambda: quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=60, abs=False)  # noqa: E731
    found, expected = both(make, cnn, cnn.x(3), method=method)
    np.testing.assert_allclose(found, expected, atol=BAR)


def test_maps_at_the_inputs_size(quantus, cnn):
    """Class activation maps have no channels; Quantus gives them one."""
    mask = np.zeros((3, 1, 12, 12), bool)
    mask[:, :, 3:8, 3:8] = True
    maps = cnn.explainer.grad_cam(cnn.x(3), TARGETS, layer="features.2").values
    options = {"method": "grad_cam", "layer": "features.2"}
    metric = quantus.RelevanceMassAccuracy(abs=False, normalise=False)
    found = metric(
        cnn.explainer,
        cnn.x(3),
        TARGETS,
        s_batch=mask[:, :1],
        explain_func=ours,
        explain_func_kwargs=options,
        device="cpu",
    )
    np.testing.assert_allclose(found, (maps * mask[:, 0]).sum((1, 2)) / maps.sum((1, 2)), rtol=1e-5)


def test_channels_added_up(quantus, cnn):
    """As Quantus itself makes maps of Captum's."""
    expected = quantus.explain(cnn.model, cnn.x(3), TARGETS, method="InputXGradient")
    found = ours(cnn.explainer, cnn.x(3), TARGETS, method="input_x_gradient", sum_channels=True)
    assert found.shape == (3, 1, 12, 12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


class ChannelsLast(nn.Module):
    """The twin of :func:`tests.support.nhwc`, channels first."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({name: torch.tensor(array) for name, array in weights.items()})

    def forward(self, pixels):
        w = self.weights
        found = torch.relu(nn.functional.conv2d(pixels, w["w"], w["b"], stride=2, padding=1))
        return found.mean((2, 3)) @ w["m"] + w["c"]


def test_channels_last(quantus, tmp_path):
    """Quantus works channels first, whatever the file's layout is."""
    model, weights = nhwc()
    x = normal(3, 9, 11, 3)
    twin = ChannelsLast(weights).eval()
    with ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex:
        found = []
        for given, batch, first, function, named in (
            (ex, x, False, ours, {"method": "gradient"}),
            (twin, x.transpose(0, 3, 1, 2).copy(), True, theirs, {"abs": False}),
        ):
            np.random.seed(0)  # noqa: NPY002 - what Quantus draws from
            metric = quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=60, abs=False)
            found.append(metric(
                given, batch, TARGETS, channel_first=first, explain_func=function, explain_func_kwargs=named
            ))  # fmt: skip
        np.testing.assert_allclose(*found, atol=BAR)
        direct = ours(ex, x, TARGETS, method="gradient")  # as the file has it in, as Quantus wants it out
        np.testing.assert_allclose(
            direct, theirs(twin, x.transpose(0, 3, 1, 2), TARGETS, abs=False), rtol=1e-4, atol=1e-6
        )


# ----- random weights -----


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_random_layers(cnn, order):
    """Each yields the network with that layer's weights, or also those before it, in a random order."""
    from onnxviz.compat.quantus import Network

    adapter, twin = Network(cnn.explainer.engine), network("cnn")
    original, x = dict(cnn.model.state_dict()), cnn.x(3)
    names = ["features.0", "features.2", "head"] if order != "top_down" else ["head", "features.2", "features.0"]
    seen = []
    for layer, random in adapter.get_random_layer_generator(order, seed=3):
        seen.append(layer)
        state = {name.removeprefix("model."): torch.tensor(array) for name, array in random.state_dict().items()}
        twin.load_state_dict(state)
        changed = {name.rpartition(".")[0] for name, array in state.items() if not torch.equal(array, original[name])}
        assert changed == ({layer} if order == "independent" else set(seen))
        for name, array in state.items():
            assert torch.equal(array.flatten().sort()[0], original[name].flatten().sort()[0])
        np.testing.assert_allclose(random.predict(x), twin(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            ours(random, x, TARGETS, method="gradient"), theirs(twin, x, TARGETS, abs=False), atol=1e-5
        )
    assert seen == names
    assert adapter.random_layer_generator_length == 3


@pytest.mark.parametrize(("theirs", "order"), [("top_down", "cascading"), ("independent", "independent")])
def test_randomisation_is_that_of_the_sanity_check(quantus, cnn, theirs, order):
    x = cnn.x(3)
    metric = quantus.MPRT(layer_order=theirs, seed=4, similarity_func=quantus.similarity_func.correlation_spearman)
    found = metric(cnn.explainer, x, TARGETS, explain_func=ours, explain_func_kwargs={"method": "input_x_gradient"})
    check = ov.sanity_check(cnn.explainer, x, TARGETS, methods=["input_x_gradient"], orders=[order], seed=4)
    curve = check.similarity[order]["input_x_gradient"]["spearman"]
    for layer, expected in zip(check.layers, curve, strict=True):
        np.testing.assert_allclose(found[layer], expected, atol=1e-6)
    assert found["original"] == pytest.approx([1, 1, 1])


def test_complexity_rises_with_random_weights(quantus, cnn):
    """The metric that wraps each random network once more."""
    metric = quantus.EfficientMPRT(seed=4)
    found = metric(cnn.explainer, cnn.x(3), TARGETS, explain_func=ours, softmax=True)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0


# ----- without a framework -----

ALONE = """
import importlib.util, sys
find = importlib.util.find_spec
HIDDEN = ("torch", "tensorflow", "captum")
importlib.util.find_spec = lambda name, *more: None if name in HIDDEN else find(name, *more)
import numpy as np, onnxviz, quantus
from onnxviz.compat.quantus import explain_func
x = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
with onnxviz.load(sys.argv[1], providers="cpu") as ex:
    metric = quantus.PixelFlipping(features_in_step=36)
    found = metric(ex, x, np.array([1, 2]), explain_func=explain_func, explain_func_kwargs={"method": "grad_cam"})
print(len(found), [name for name in ("torch", "tensorflow", "keras") if name in sys.modules])
"""


def test_no_framework_is_needed(cnn):
    path = [p for p in sys.path if p]
    code = f"import sys; sys.path[:] = {path!r}\n{ALONE}"
    done = subprocess.run([sys.executable, "-c", code, str(cnn.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 []", done.stderr


# ----- refusals -----


def test_refusals(quantus, cnn, subjects):
    x = cnn.x(3)
    metric = quantus.Sparseness()
    with pytest.raises(OptionError, match="there is no method 'lime'"):
        metric(cnn.explainer, x, TARGETS, explain_func=ours, explain_func_kwargs={"method": "lime"})
    with pytest.raises(OptionError, match="saliency has no option 'layer'"):
        metric(cnn.explainer, x, TARGETS, explain_func=ours, explain_func_kwargs={"layer": "head"})
    with pytest.raises(OptionError, match="a first layer that takes its input shifted"):
        quantus.InputInvariance()(cnn.explainer, x, TARGETS, None, explain_func=ours)
    with pytest.raises(OptionError, match="model is a Linear"):
        ours(nn.Linear(2, 2), x, TARGETS)
    with pytest.raises(LayerError, match="there is no layer 'conv9'"):
        quantus.RelativeRepresentationStability(layer_names=["conv9"])(
            cnn.explainer, x, TARGETS, explain_func=ours, channel_first=True
        )
    two = subjects("two heads")
    with pytest.raises(OptionError, match="this one takes first, second"):
        metric(two.explainer, two.feeds(3)["first"], TARGETS, explain_func=ours)
    places = subjects("segmenter")
    with pytest.raises(TargetError, match="judges scores"):
        quantus.PixelFlipping(features_in_step=64)(places.explainer, places.x(3), TARGETS, explain_func=ours)
    with pytest.raises(ValueError, match="Model needs to be"):  # others' models go the way they went
        metric(object(), x, TARGETS, explain_func=ours)


def test_without_quantus_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "quantus.helpers.utils", None)
    with pytest.raises(MissingDependencyError, match="pip install quantus"):
        importlib.import_module("onnxviz.compat.quantus")._register()
