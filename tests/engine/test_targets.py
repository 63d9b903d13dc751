"""Every kind of target, against autograd of the score that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import TargetError
from tests.support import assert_close, mlp, model_of, normal, recorded, tensors, torch_gradient, torch_values


def masked(mask):
    return lambda y: y * torch.tensor(np.asarray(mask, np.float32))


def of_logits(subject, score):
    """Autograd of a score of what the head gives, which is the logits; and the score."""
    values = recorded(subject.model, subject.feeds(), "head")
    total = score(values["head"])
    return torch.autograd.grad(total.sum(), next(iter(values.values())))[0].numpy(), total.detach().numpy()


WEIGHTING, MASK = normal(5, seed=7), normal(3, 5, seed=8)
PLACES = normal(3, 4, 4, 4, seed=9)

# network, target, the explained score of the logits, per sample
CASES = {
    "a class": ("cnn", 3, lambda y: y[:, 3]),
    "a numpy integer": ("cnn", np.int32(3), lambda y: y[:, 3]),
    "an integer of another kind": ("cnn", np.array(3, np.uint8), lambda y: y[:, 3]),
    "counted from the end": ("cnn", -2, lambda y: y[:, 3]),
    "one class per sample": ("cnn", [4, 0, 2], lambda y: y[range(3), [4, 0, 2]]),
    "an array of classes": ("cnn", np.array([4, 0, 2]), lambda y: y[range(3), [4, 0, 2]]),
    "top-1": ("cnn", None, lambda y: y.max(1).values),
    "a weighting": ("cnn", WEIGHTING, lambda y: masked(WEIGHTING)(y).sum(1)),
    "a weighting of each sample": ("cnn", MASK, lambda y: masked(MASK)(y).sum(1)),
    "a mask of truths": ("cnn", MASK > 0, lambda y: masked(MASK > 0)(y).sum(1)),
    "a weighting in double": ("cnn", WEIGHTING.astype(np.float64), lambda y: masked(WEIGHTING)(y).sum(1)),
    "before a softmax": ("classifier", 1, lambda y: y[:, 1]),
    "top-1 before a softmax": ("classifier", None, lambda y: y.max(1).values),
    "before a log-softmax": ("volume", 2, lambda y: y[:, 2]),
    "before a sigmoid": ("series", 0, lambda y: y[:, 0]),
    "the decision of one unit": ("series", None, lambda y: y[:, 0].abs()),
    "a channel over all places": ("segmenter", 2, lambda y: y[:, 2].sum((1, 2))),
    "a channel per sample": ("segmenter", [3, 0, 1], lambda y: y[range(3), [3, 0, 1]].sum((1, 2))),
    "the channel with the largest sum": ("segmenter", None, lambda y: y.sum((2, 3)).max(1).values),
    "channels weighed": ("segmenter", WEIGHTING[:4], lambda y: (y.sum((2, 3)) * torch.tensor(WEIGHTING[:4])).sum(1)),
    "places weighed": ("segmenter", PLACES, lambda y: masked(PLACES)(y).sum((1, 2, 3))),
    "places weighed alike": ("segmenter", PLACES[0], lambda y: masked(PLACES[0])(y).sum((1, 2, 3))),
    "places of a batch of one": ("segmenter", PLACES[:1], lambda y: masked(PLACES[:1])(y).sum((1, 2, 3))),
    "one place": (
        "segmenter",
        np.eye(16, dtype=np.float32)[5].reshape(1, 1, 4, 4) * np.eye(4, dtype=np.float32)[2].reshape(1, 4, 1, 1),
        lambda y: y[:, 2, 1, 1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_a_target(subjects, case):
    name, target, score = CASES[case]
    subject = subjects(name)
    expected, scores = of_logits(subject, score)
    found = subject.explainer.gradient(subject.x(), target)
    assert_close(found, expected)
    assert_close(found.score, scores)
    assert found.values.dtype == found.score.dtype == np.float32


PROBABILITIES = {
    "softmax of the model": ("classifier", 2, lambda y: y.softmax(1)[:, 2]),
    "softmax of the model, top-1": ("classifier", None, lambda y: y.softmax(1).max(1).values),
    "log-softmax of the model": ("volume", 1, lambda y: y.softmax(1)[:, 1]),
    "no activation": ("cnn", 2, lambda y: y.softmax(1)[:, 2]),
    "one class per sample": ("cnn", [4, 0, 2], lambda y: y.softmax(1)[range(3), [4, 0, 2]]),
    "a weighting": ("cnn", WEIGHTING, lambda y: (y.softmax(1) * torch.tensor(WEIGHTING)).sum(1)),
    "a sigmoid": ("series", 0, lambda y: y.sigmoid()[:, 0]),
    "every place": ("segmenter", 1, lambda y: y.softmax(1)[:, 1].sum((1, 2))),
    "places weighed": ("segmenter", PLACES, lambda y: (y.softmax(1) * torch.tensor(PLACES)).sum((1, 2, 3))),
}


@pytest.mark.parametrize("case", PROBABILITIES)
def test_the_gradient_of_a_probability(subjects, case):
    name, target, score = PROBABILITIES[case]
    subject = subjects(name)
    expected, scores = of_logits(subject, score)
    found = subject.explainer.gradient(subject.x(), target, of="probability")
    assert_close(found, expected)
    assert_close(found.score, scores)
    assert found.options["of"] == "probability"


def test_the_decision_of_one_unit_as_a_probability(subjects):
    """Of what was decided: p above one half, else 1 − p."""
    series = subjects("series")
    decided = torch.tensor(torch_values(series.model, series.feeds(), "head")[:, 0] > 0)
    expected, _ = of_logits(series, lambda y: torch.where(decided, y.sigmoid()[:, 0], 1 - y.sigmoid()[:, 0]))
    assert_close(series.explainer.gradient(series.x(), of="probability"), expected)


def test_what_was_explained_is_reported(subjects):
    cnn, series = subjects("cnn"), subjects("series")
    top = cnn.model(**tensors(cnn.feeds())).argmax(1).numpy()
    assert cnn.explainer.gradient(cnn.x()).target.tolist() == top.tolist()
    assert cnn.explainer.gradient(cnn.x(), 1).target.tolist() == [1, 1, 1]
    assert cnn.explainer.gradient(cnn.x(), [2, 0, -1]).target.tolist() == [2, 0, 4]
    assert cnn.explainer.gradient(cnn.x(), [[2, 0]]).target.tolist() == [[2, 0]] * 3
    assert cnn.explainer.gradient(cnn.x(), WEIGHTING).target.tolist() == WEIGHTING.tolist()
    decided = (torch_values(series.model, series.feeds(8), "head")[:, 0] > 0).astype(int)
    assert 0 < decided.sum() < 8
    assert series.explainer.gradient(series.x(8)).target.tolist() == decided.tolist()


def test_one_number_without_an_axis(subjects):
    subject = subjects("regressor")
    feeds, x = subject.feeds(8), subject.x(8)
    assert_close(subject.explainer.gradient(x, 0), torch_gradient(subject.model, feeds, lambda y: y))
    found = subject.explainer.gradient(x)
    assert_close(found, torch_gradient(subject.model, feeds, torch.abs))
    assert_close(found.score, subject.model(**tensors(feeds)).abs().detach().numpy())
    weights = normal(8, seed=5)
    assert_close(subject.explainer.gradient(x, weights), torch_gradient(subject.model, feeds, masked(weights)))


SEVERAL = {
    "the same for all": ("cnn", [[1, 4, 2]]),
    "of each sample": ("cnn", [[1, 4], [0, 2], [3, 3]]),
    "one": ("cnn", [[2]]),
    "before a log-softmax": ("volume", [[2, 0]]),
    "channels": ("segmenter", [[3, 0]]),
}


@pytest.mark.parametrize("of", ["logits", "probability"])
@pytest.mark.parametrize("method", ["gradient", "saliency", "guided_backprop", "deconvnet", "grad_cam"])
@pytest.mark.parametrize("case", SEVERAL)
def test_several_targets_are_one_at_a_time(subjects, case, method, of):
    name, targets = SEVERAL[case]
    subject = subjects(name)
    options = {"layer": "body"} if name == "segmenter" and method == "grad_cam" else {}
    x, columns = subject.x(), np.broadcast_to(targets, (3, len(targets[0]))).T
    several = subject.explainer.explain(x, method, targets, of=of, **options)
    for i, column in enumerate(columns):
        single = subject.explainer.explain(x, method, column, of=of, **options)
        assert_close(several.values[:, i], single.values, bar=1e-6)
        assert_close(several.score[:, i], single.score, bar=1e-6)
    assert several.axes == ("batch", "target", *single.axes[1:])
    assert several.shape[1] == len(columns)


def test_outputs_by_name(subjects):
    subject = subjects("two heads")
    feeds, ex = subject.feeds(), subject.explainer
    for output, target in (("both", 1), ("one", 3)):
        expected = torch_gradient(subject.model, feeds, lambda y, o=output, t=target: y[o][:, t])
        assert_close(ex.gradient(feeds, target, output=output), expected)
        assert ex.gradient(feeds, target, output=output).options["output"] == output
    assert_close(ex.gradient(feeds, 1), torch_gradient(subject.model, feeds, lambda y: y["both"][:, 1]))
    right = torch_gradient(subject.model, feeds, lambda y: y["both"][:, 1], layer="right")
    assert_close(ex.gradient(feeds, 1, layer="right"), right)


def test_what_an_output_does_not_depend_on_has_zero_gradient(subjects):
    subject = subjects("two heads")
    found = subject.explainer.gradient(subject.feeds(), 1, output="one", layer="right")
    assert found.shape == (3, 4)
    assert not found.values.any()
    several = subject.explainer.gradient(subject.feeds(), [[1, 0]], output="one", layer="right")
    assert several.shape == (3, 2, 4)
    assert not several.values.any()


def test_integer_inputs_are_explained_at_their_embedding(subjects):
    subject = subjects("tokens")
    expected = torch_gradient(subject.model, subject.feeds(), lambda y: y[:, 1], layer="embedding")
    assert_close(subject.explainer.gradient(subject.x(), 1, layer="embedding"), expected)


def test_ties_go_to_the_first_class(tmp_path):
    weights = {"w": np.tile(normal(4, 1), 3)}
    model = model_of("y = MatMul(x, w)", "float[N, 4] x", "float[N, 3] y", weights)
    ex = ov.load(ov.convert(model, tmp_path / "ties.onnx", quiet=True))
    assert ex.gradient(normal(2, 4)).target.tolist() == [0, 0]


NAMED = {
    "one for all": ("egyptian cat", 1),
    "each sample's": (["cup", "Egyptian cat"], [3, 1]),
    "several of each": ([["cup", 0, "x:1"]], [[3, 0, 4]]),
    "an array": (np.array(["cup", "x:1"]), [3, 4]),
}


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_classes_by_name(pictured, case, method):
    named, indices = NAMED[case]
    x = pictured.image_input.encode(np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8))
    found, expected = (pictured.explain(x, method, target) for target in (named, indices))
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.target, expected.target)


def test_one_of_the_names_of_a_class(tmp_path):
    classes = ["tabby, tabby cat", "tiger cat", "Tiger, panthera"]
    with ov.load(ov.convert(mlp(), tmp_path / "net.onnx", classes=classes, quiet=True), providers="cpu") as ex:
        x = np.ones((3, 6), np.float32)
        assert ex.gradient(x, ["Tabby Cat", "tiger", "tiger cat"]).target.tolist() == [0, 2, 1]
        for wrong, said in (("panther", "there is no class 'panther'"), ("cat", "there is no class 'cat'")):
            with pytest.raises(TargetError, match=said):
                ex.gradient(x, wrong)


def test_names_that_say_nothing(pictured, subjects):
    x = np.zeros((1, 3, 12, 12), np.float32)
    with pytest.raises(TargetError, match=r"the classes 0, 2 are all called 'crane': give an index"):
        pictured.saliency(x, "crane")
    with pytest.raises(TargetError, match=r"no class 'cup': the file has no class names, so give the index"):
        subjects("cnn").explainer.saliency(x, "cup")
