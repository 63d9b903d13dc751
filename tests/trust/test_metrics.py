"""Metrics of models whose answer is known, one input at a time, and as Captum computes them."""

from __future__ import annotations

import captum.metrics
import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import InputError, OptionError
from onnxviz.trust.filling import blurred, imputed
from tests.support import assert_close, normal

WEIGHTS = np.array([4.0, -1.0, 3.0, 0.5], np.float32)
TABLE = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.5, -1.0, 1.0]], np.float32)
PARTS = TABLE * WEIGHTS


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Two logits of four columns, the second w·x."""
    model = nn.Linear(4, 2, bias=False).eval()
    model.weight.data[1] = torch.tensor(WEIGHTS)
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    with ov.load(ov.convert(model, path, example=torch.randn(2, 4), quiet=True), providers="cpu") as explainer:
        yield explainer


def found(explainer, maps, x, metric, options=None, **arguments):
    """One metric of one map, and of the random map."""
    evaluation = ov.evaluate(explainer, maps, x, metrics={metric: options or {}}, **arguments)
    (values,) = evaluation.values.values()
    return values[metric], evaluation.random[metric]


# ----- closed forms -----


def test_deletion_and_insertion_of_a_linear_model(linear):
    """Column after column leaves, the largest part first; the score falls by just that part."""
    for metric, sign in (("deletion", -1), ("insertion", 1)):
        values, _ = found(linear, PARTS, TABLE, metric, {"n_steps": 4}, target=1, of="logits")
        for parts, value in zip(PARTS, values, strict=True):
            start = parts.sum() if sign < 0 else 0
            curve = start + sign * np.concatenate([[0], np.cumsum(np.sort(parts)[::-1])])
            assert value == pytest.approx(((curve[:-1] + curve[1:]) / 2).mean(), rel=1e-5)


def test_exact_parts_are_best(linear):
    """No map of a linear model deletes faster, or inserts faster, than its exact parts."""
    for metric, better in (("deletion", np.less), ("insertion", np.greater)):
        values, random = found(linear, PARTS, TABLE, metric, {"n_steps": 4}, target=1, of="logits")
        opposite, _ = found(linear, -PARTS, TABLE, metric, {"n_steps": 4}, target=1, of="logits")
        assert better(values, opposite).all()
        assert (better(values, random) | np.isclose(values, random)).all()


def test_exact_maps_foretell_a_linear_model(linear):
    """Σ of the parts that are covered is what the score falls by; of a gradient after it is multiplied by the input."""
    for maps in (linear.input_x_gradient(TABLE, 1), linear.integrated_gradients(TABLE, 1), linear.gradient(TABLE, 1)):
        for scale in (True, False):
            values, random = found(linear, maps, TABLE, "infidelity", {"scale": scale})
            assert values.max() < 1e-9
            assert random.min() > 0.1
    doubled, _ = found(linear, 2 * PARTS, TABLE, "infidelity", {"scale": True}, target=1)
    assert doubled.max() < 1e-9
    doubled, _ = found(linear, 2 * PARTS, TABLE, "infidelity", {"scale": False}, target=1)
    assert doubled.min() > 0.1


def test_the_gradient_of_a_linear_model_never_changes(linear):
    values, random = found(linear, "gradient", TABLE, "max_sensitivity", target=1)
    assert values.max() < 1e-6
    assert random.min() > 0.05
    values, _ = found(linear, "input_x_gradient", TABLE, "max_sensitivity", {"radius": 0.1}, target=1)
    span = [1, 3]  # of a sample whose entries are all the same it is their size
    changed = 0.1 * np.array(span) * np.linalg.norm(WEIGHTS) / np.linalg.norm(PARTS, axis=1)
    assert (values <= changed).all()
    assert (values > 0.3 * changed).all()


def test_a_map_of_zeros_is_infinitely_sensitive_if_it_wakes_up(linear):
    for function, expected in ((np.zeros_like, 0), (lambda x: 1.0 * (x != TABLE), np.inf)):
        values, _ = found(linear, function, TABLE, "max_sensitivity", target=1)
        assert (values == expected).all()


# ----- one input at a time -----


@pytest.fixture(scope="module")
def pictures(subjects):
    subject = subjects("cnn")
    return subject.explainer, subject.x(2), np.array([1, 3])


def probability(explainer, x, target):
    return np.exp(y := explainer.predict(x))[0, target] / np.exp(y).sum()


def one_by_one(explainer, x, targets, inputs_of):
    """The probability of each variant of each sample, (N, variants)."""
    return np.array([
        [probability(explainer, variant[None].astype(np.float32), target) for variant in inputs_of(sample, i)]
        for i, (sample, target) in enumerate(zip(x, targets, strict=True))
    ])  # fmt: skip


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
@pytest.mark.parametrize("steps", [6, 13])
def test_areas_one_input_at_a_time(pictures, metric, steps):
    explainer, x, targets = pictures
    maps = normal(2, 12, 12)
    low = np.full_like(x, 0.3) if metric == "deletion" else blurred(x, (2, 3))

    def variants(sample, i):
        order = np.argsort(-maps[i].ravel())
        for count in np.linspace(0, 144, steps + 1).round().astype(int):
            chosen = np.isin(np.arange(144), order[:count]).reshape(12, 12)
            yield np.where(chosen, *((low[i], sample) if metric == "deletion" else (sample, low[i])))

    curves = one_by_one(explainer, x, targets, variants)
    expected = ((curves[:, 1:] + curves[:, :-1]) / 2).mean(1)
    values, _ = found(explainer, maps, x, metric, {"n_steps": steps}, target=targets, baseline=0.3)
    assert_close(values, expected, 1e-5)


def test_seen_through_the_map_one_input_at_a_time(pictures):
    explainer, x, targets = pictures
    maps = normal(2, 12, 12)
    through = [0.1 + np.maximum(m, 0) / m.max() * (sample - 0.1) for sample, m in zip(x, maps, strict=True)]
    seen = one_by_one(explainer, x, targets, lambda _, i: [through[i]])[:, 0]
    whole = one_by_one(explainer, x, targets, lambda sample, _: [sample])[:, 0]
    drop, _ = found(explainer, maps, x, "average_drop", target=targets, baseline=0.1)
    np.testing.assert_allclose(drop, 100 * np.maximum(0, whole - seen) / whole, atol=1e-3)
    increase, _ = found(explainer, maps, x, "average_increase", target=targets, baseline=0.1)
    assert increase.tolist() == (100 * (seen > whole)).tolist()
    assert found(explainer, np.ones((2, 12, 12)), x, "average_drop", target=targets)[0].max() < 1e-4


def test_road_one_input_at_a_time(pictures):
    explainer, x, targets = pictures
    maps, shares = normal(2, 12, 12), (0.25, 0.5)

    def variants(sample, i):
        order = np.argsort(-maps[i].ravel())
        noise = np.random.default_rng([4, 2]).normal(0, 0.01 * np.ptp(sample), (12, 12, 3))
        for way in (order, order[::-1]):
            for share in shares:
                gone = np.isin(np.arange(144), way[: round(share * 144)]).reshape(12, 12)
                filled = imputed(sample.transpose(1, 2, 0), gone)
                yield np.where(gone[..., None], filled + noise, filled).transpose(2, 0, 1)

    left = one_by_one(explainer, x, targets, variants)
    values, _ = found(explainer, maps, x, "road", {"shares": shares}, target=targets, seed=4)
    assert_close(values, left[:, 2:].mean(1) - left[:, :2].mean(1), 1e-4)


@pytest.mark.parametrize(("tolerance", "hits"), [(0, [1, 0]), (2, [1, 0]), (3, [1, 1])])
def test_pointing(pictures, tolerance, hits):
    explainer, x, targets = pictures
    maps, masks = np.zeros((2, 12, 12)), np.zeros((2, 12, 12), bool)
    maps[:, 4, 5], masks[0, 3:6, 5], masks[1, 4, 8] = 1, True, True
    options = {"tolerance": tolerance}
    values, _ = found(explainer, maps, x, "pointing_game", options, target=targets, masks=masks)
    assert values.tolist() == hits


def test_a_random_map_points_as_often_as_the_object_is_large(pictures):
    explainer, x, _ = pictures
    masks = np.zeros((12, 12), bool)
    masks[:, :4] = True
    many = np.repeat(x, 100, 0)
    targets, options = np.ones(200, int), {"tolerance": 0}
    _, random = found(explainer, np.ones((200, 12, 12)), many, "pointing_game", options, target=targets, masks=masks)
    assert random.mean() == pytest.approx(1 / 3, abs=0.1)
    equal, _ = found(explainer, np.ones((200, 12, 12)), many, "pointing_game", options, target=targets, masks=masks)
    assert equal.mean() == pytest.approx(1 / 3, abs=0.1)  # of equal places any may be the largest


# ----- Captum -----


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("scale", [True, False])
def test_infidelity_as_captum_computes_it(subjects, scale):
    """The same squares: what is covered is 1 in the perturbation, for the map's values are parts of the score."""
    subject, seed, count = subjects("cnn"), 7, 20
    x, targets = subject.x(2), np.array([1, 3])
    maps = subject.explainer.integrated_gradients(x, targets).values
    squares = np.zeros((count, 12, 12), bool)
    for j in range(count):
        rng = np.random.default_rng([seed, j])
        top, left = rng.integers(10), rng.integers(10)
        squares[j, top : top + 3, left : left + 3] = True

    def covered(inputs):
        mask = torch.tensor(np.tile(squares, (2, 1, 1))[:, None].repeat(3, 1))  # Captum repeats sample by sample
        return mask.float(), torch.where(mask, torch.zeros(()), inputs)

    expected = captum.metrics.infidelity(
        subject.model, covered, torch.tensor(x), torch.tensor(maps), target=torch.tensor(targets),
        n_perturb_samples=count, normalize=scale,
    )  # fmt: skip
    options = {"n_samples": count, "window": 0.25, "scale": scale}
    values, _ = found(subject.explainer, maps, x, "infidelity", options, target=targets, seed=seed)
    assert_close(values, expected.detach().numpy(), 1e-3)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_sensitivity_as_captum_computes_it(subjects, method):
    subject, seed = subjects("cnn"), 5
    x, targets = subject.x(2), np.array([1, 3])
    span = np.ptp(x.reshape(2, -1), axis=1).reshape(2, 1, 1, 1)
    drawn = iter(range(10))

    def noisy(_inputs):
        noise = np.random.default_rng([seed, next(drawn)]).uniform(-0.1, 0.1, x.shape)
        return (torch.tensor((x + span * noise).astype(np.float32)),)

    def attributed(inputs):
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        return (torch.tensor(subject.explainer.explain(inputs.detach().numpy(), method, targets).values),)

    expected = captum.metrics.sensitivity_max(
        attributed, torch.tensor(x), noisy, n_perturb_samples=10, max_examples_per_batch=2
    )
    values, _ = found(subject.explainer, method, x, "max_sensitivity", {"radius": 0.1}, target=targets, seed=seed)
    assert_close(values, expected.numpy(), 1e-4)


# ----- refusals -----


@pytest.mark.parametrize(("metric", "options", "error", "message"), [
    ("deletion", {"n_steps": 0}, OptionError, "n_steps=0"),
    ("insertion", {"n_steps": 2.5}, OptionError, "n_steps=2.5"),
    ("infidelity", {"window": 2}, OptionError, "window=2"),
    ("infidelity", {"n_samples": True}, OptionError, "n_samples=True"),
    ("max_sensitivity", {"n_samples": -1}, OptionError, "n_samples=-1"),
    ("pointing_game", {"tolerance": -1}, OptionError, "tolerance=-1"),
    ("road", {"shares": (0.5, 1.0)}, OptionError, "between 0 and 1"),
    ("road", {"shares": ()}, OptionError, "between 0 and 1"),
])  # fmt: skip
def test_options_that_cannot_be(pictures, metric, options, error, message):
    explainer, x, targets = pictures
    with pytest.raises(error, match=message):
        found(explainer, "gradient", x, metric, options, target=targets, masks=np.ones((12, 12)))


def test_road_is_for_pictures(linear):
    with pytest.raises(InputError, match="has not two axes of space"):
        found(linear, PARTS, TABLE, "road", target=1)


def test_shares_of_a_score_below_zero_are_refused(linear):
    with pytest.raises(InputError, match="not positive"):
        found(linear, PARTS, -TABLE, "average_drop", target=1, of="logits")
