"""The check at the end of a conversion finds what is wrong, names it, and lets pass what is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.check.against_source import logits_cotangent
from onnxviz.check.difference import Difference, largest_difference
from onnxviz.check.draws import drawn, recipe
from onnxviz.errors import CheckFailedError
from onnxviz.gradient.registry import VJPS, Rule
from onnxviz.manifest import Axes, Output
from onnxviz_torch.reference import TorchReference
from tests.support import convert, model_of, normal

# ----- wrong rules -----

WRONG: dict[str, Callable] = {
    "as if it were the identity": lambda op, dy, y, x: dy,
    "twice as much": lambda op, dy, y, x: op.Add(*[op.Sub(dy, op.Mul(dy, op.Mul(y, y)))] * 2),
    "the wrong sign": lambda op, dy, y, x: op.Neg(op.Sub(dy, op.Mul(dy, op.Mul(y, y)))),
    "nothing": lambda op, dy, y, x: op.Sub(dy, dy),
    "nothing for what is negative": lambda op, dy, y, x: op.Mul(
        op.Sub(dy, op.Mul(dy, op.Mul(y, y))), op.Relu(op.Sign(x))
    ),
    "a little too much": lambda op, dy, y, x: op.Sub(dy, op.Mul(dy, op.Mul(y, op.Mul(y, op.Mul(y, y))))),
}
PLAIN = model_of(
    "h = MatMul(x, w)  a = Tanh(h)  g = MatMul(a, v)  b = Sigmoid(g)  y = MatMul(b, m)",
    "float[N, 6] x",
    "float[N, 3] y",
    {"w": normal(6, 8) / 3, "v": normal(8, 8, seed=1) / 3, "m": normal(8, 3, seed=2)},
)


def tanh(monkeypatch, function: Callable) -> None:
    monkeypatch.setitem(VJPS, ("", "Tanh"), Rule(function, frozenset(), broadcast=False, multiple=False))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rule_fails_a_torch_conversion_and_names_the_layer(tmp_path, monkeypatch, wrong):
    tanh(monkeypatch, WRONG[wrong])
    with pytest.raises(CheckFailedError, match=r"layer 'act' \(Tanh, Tanh\) with respect to 'hidden'.*gradient=False"):
        convert("classifier", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rule_fails_a_plain_conversion_and_names_the_layer(tmp_path, monkeypatch, wrong):
    tanh(monkeypatch, WRONG[wrong])
    with pytest.raises(CheckFailedError, match=r"layer 'a' \(Tanh\) changes with 'h'.*gradient=False"):
        ov.convert(PLAIN, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_same_conversions_pass_with_the_right_rule(tmp_path, monkeypatch):
    tanh(monkeypatch, lambda op, dy, y, x: op.Sub(dy, op.Mul(dy, op.Mul(y, y))))
    convert("classifier", tmp_path / "torch.onnx")
    ov.convert(PLAIN, tmp_path / "plain.onnx", quiet=True)


# ----- wrong values -----


def changed(monkeypatch, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    run = TorchReference.run

    def wrong(self, feeds):
        return {k: change(v) if k == name else v for k, v in run(self, feeds).items()}

    monkeypatch.setattr(TorchReference, "run", wrong)


def one_nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[3] = np.nan
    return values


CHANGES = {
    "a thousandth": lambda v: v * 1.001,
    "one entry": lambda v: v + np.abs(v).max() * (np.arange(v.size).reshape(v.shape) == 3) / 100,
    "one NaN": one_nan,
    "another shape": lambda v: v[:, :-1],
    "shifted": lambda v: np.roll(v, 1, -1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["features.2", "output"])
def test_the_first_value_that_differs_is_named(tmp_path, monkeypatch, name, change):
    changed(monkeypatch, name, CHANGES[change])
    what = r"layer 'features\.2' \(Conv2d\)" if name != "output" else "output 'output'"
    with pytest.raises(
        CheckFailedError, match=rf"the pytorch model: {what} is the first that differs.*Nothing was written"
    ):
        convert("cnn", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_rounding_passes(tmp_path, monkeypatch):
    changed(monkeypatch, "features.2", lambda v: v * np.float32(1 + 5e-5))
    ex = ov.load(convert("cnn", tmp_path / "net.onnx"))
    assert ex.residuals["layers"]["features.2"] == pytest.approx(5e-5, rel=0.02)
    assert ex.residuals["layers"]["features.0"] < 1e-6


# ----- gradients that kinks disturb -----


def disturbed(monkeypatch, *, stage: str | None = None) -> list[int]:
    """The framework's gradient of the outputs is another one at one entry, as at a kink; and a stage's."""
    gradients, asked = TorchReference.gradients, []

    def wrong(self, feeds, requests):
        asked.append(len(requests))
        for (of, _), answer in zip(requests, gradients(self, feeds, requests), strict=True):
            if "output" in of or stage in of:
                for array in answer.values():
                    array.flat[array.size // 2] += 0.1 * np.abs(array).max()
            yield answer

    monkeypatch.setattr(TorchReference, "gradients", wrong)
    return asked


def test_where_kinks_disturb_each_layer_is_checked(tmp_path, monkeypatch):
    asked = disturbed(monkeypatch)
    ex = ov.load(convert("cnn", tmp_path / "net.onnx"))
    found = ex.residuals["gradient"]
    assert found["by"] == "autograd, stage by stage"
    assert found["max"] == pytest.approx(0.1, rel=0.2)
    assert found["inputs"] == 8
    assert list(found["stages"]) == ["features.0", "features.1", "features.2", "features.3", "head"]
    assert max(found["stages"].values()) < 1e-5
    assert asked[:8] == [1] * 8


def test_a_stage_that_differs_is_named(tmp_path, monkeypatch):
    disturbed(monkeypatch, stage="features.2")
    with pytest.raises(CheckFailedError, match=r"layer 'features\.2' \(Conv2d, Conv\) with respect to 'features\.1'"):
        convert("cnn", tmp_path / "net.onnx")


def test_one_undisturbed_input_is_enough(tmp_path, monkeypatch):
    gradients, calls = TorchReference.gradients, []

    def sometimes(self, feeds, requests):
        calls.append(requests)
        answers = list(gradients(self, feeds, requests))
        if len(calls) < 3:
            answers[0]["image"].flat[5] += 0.1 * np.abs(answers[0]["image"]).max()
        return answers

    monkeypatch.setattr(TorchReference, "gradients", sometimes)
    found = ov.load(convert("cnn", tmp_path / "net.onnx")).residuals["gradient"]
    assert (found["by"], found["inputs"]) == ("autograd", 3)
    assert found["max"] < 1e-5


# ----- what is recorded -----


def test_residuals_of_every_layer_and_output(subjects):
    for name in ("cnn", "two heads", "tokens"):
        found = subjects(name).explainer.residuals
        assert set(found["layers"]) == {t.name for t in subjects(name).explainer.layers}
        assert set(found["outputs"]) == {o.name for o in subjects(name).explainer.outputs}
        assert max([*found["layers"].values(), *found["outputs"].values()]) < 1e-5
        assert found["gradient"]["max"] < 1e-5
        assert found["gradient"]["cosine"] > 0.9999
        assert found["gradient"]["by"] == "autograd"
    assert subjects("two heads").explainer.residuals["gradient"]["of"] == ["first", "second"]
    assert subjects("tokens").explainer.residuals["gradient"]["of"] == ["embedding"]


def test_the_recipe_repeats_the_inputs(cnn):
    example = {"image": normal(2, 3, 12, 12)}
    said = cnn.explainer.residuals["recipe"]
    assert said == recipe(example)
    rng = np.random.default_rng([4, 0])
    expected = rng.standard_normal((3, *said["image"]["shape"])) * said["image"]["std"] + said["image"]["mean"]
    assert np.array_equal(drawn(example, 4, 3, ["image"])["image"], expected.astype(said["image"]["dtype"]))


def test_inputs_are_drawn_like_the_example():
    example = {
        "float": (100 + 5 * normal(50, 40)).astype(np.float64),
        "constant": np.full((2, 3), 7, np.float32),
        "ids": np.array([[3, 9], [4, 5]]),
        "mask": np.array([[True, False]] * 2),
        "text": np.array([["a"], ["b"]]),
        "shared": np.arange(3, dtype=np.int32),
    }
    found = drawn(example, 0, 500, ["float", "constant", "ids", "mask", "text"])
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
        k: ((500, *v.shape[1:]) if k != "shared" else v.shape, v.dtype) for k, v in example.items()
    }
    assert found["float"].mean() == pytest.approx(100, abs=0.5)
    assert found["float"].std() == pytest.approx(5, rel=0.05)
    assert found["constant"].std() == pytest.approx(1, rel=0.1)
    assert set(found["ids"].ravel()) == set(range(3, 10))
    assert set(found["mask"].ravel()) == {True, False}
    assert not np.array_equal(found["float"], drawn(example, 1, 500, ["float"])["float"])


# ----- measures -----

A = normal(50)

# got, expected → largest, median, cosine
MEASURES = {
    "equal": (A, A, (0, 0, 1)),
    "scaled": (A * 3, A, (2, None, 1)),
    "one of many": (A + (np.arange(50) == 7) * np.abs(A).max() / 2, A, (0.5, 0, None)),
    "opposite": (-A, A, (2, None, -1)),
    "zeros": (A * 0, A * 0, (0, 0, 1)),
    "zeros expected": (np.array([0.25, 0]), np.zeros(2), (0.25, 0.25, 0)),
    "zeros found": (np.zeros(2), np.array([1.0, -1]), (1, 1, 0)),
    "the same NaN and infinities": (
        np.array([1, np.nan, np.inf, -np.inf]),
        np.array([1, np.nan, np.inf, -np.inf]),
        (0, 0, 1),
    ),
    "NaN found": (np.array([1, np.nan]), np.array([1.0, 2]), (np.inf, np.inf, 0)),
    "NaN expected": (np.array([1.0, 2]), np.array([1, np.nan]), (np.inf, np.inf, 0)),
    "another infinity": (np.array([1, np.inf]), np.array([1, -np.inf]), (np.inf, np.inf, 0)),
    "another size": (A[:-1], A, (np.inf, np.inf, 0)),
    "integers": (np.array([4, 2]), np.array([4, 1]), (0.25, 0.125, None)),
}


@pytest.mark.parametrize("case", MEASURES)
def test_differences(case):
    got, expected, measures = MEASURES[case]
    found = Difference.between(got, expected)
    for value, wanted in zip((found.largest, found.median, found.cosine), measures, strict=True):
        assert wanted is None or value == pytest.approx(wanted, abs=1e-6)
    assert largest_difference(got, expected) == pytest.approx(found.largest, abs=1e-6)


@pytest.mark.parametrize(
    ("difference", "half", "everywhere", "mostly"),
    [
        (Difference(1e-4, 0, 1), False, True, True),
        (Difference(1.1e-4, 0, 1), False, False, True),
        (Difference(1e-2, 1.1e-6, 1), False, False, False),
        (Difference(1e-2, 1e-6, 0.9991), False, False, True),
        (Difference(1e-2, 0, 0.9989), False, False, False),
        (Difference(2e-2, 1e-2, 0.9999), True, True, True),
        (Difference(3e-2, 1e-2, 0.9999), True, False, True),
        (Difference(np.inf, np.inf, 0), True, False, False),
    ],
)
def test_bars(difference, half, everywhere, mostly):
    assert difference.passes_everywhere(half=half) is everywhere
    assert difference.passes_mostly(half=half) is mostly


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("Softmax", lambda z, axis: z.softmax(axis)),
        ("LogSoftmax", lambda z, axis: z.log_softmax(axis)),
        ("Sigmoid", lambda z, axis: z.sigmoid()),
        (None, lambda z, axis: z),
    ],
)
def test_the_cotangent_of_the_logits(activation, function, axis):
    z = torch.tensor(normal(2, 4, 3, seed=1), requires_grad=True)
    y, dy = function(z, axis), normal(2, 4, 3, seed=2)
    (expected,) = torch.autograd.grad(y, z, torch.tensor(dy))
    shape = ("N", 4, 3)
    output = Output(
        "y", "y", "float32", shape, Axes(), logits="z", logits_shape=shape, activation=activation, activation_axis=axis
    )
    found = logits_cotangent(output, {"y": y.detach().numpy(), "z": z.detach().numpy()}, dy)
    assert found.dtype == np.float32
    assert np.abs(found - expected.numpy()).max() < 1e-6


# ----- a softmax that is sure of itself -----


class Sure(torch.nn.Module):
    """Its logits are far apart on inputs of any common size, so that the gradient of its probabilities is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(6, 5)
        self.head = torch.nn.Linear(5, 2)
        self.head.weight.data = torch.tensor(normal(2, 5)) * 1e3
        self.hidden.bias.data[:] = self.head.bias.data[:] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(torch.tanh(self.hidden(x))), -1)


def test_a_gradient_of_zeros_proves_nothing(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, example = Sure().eval(), torch.randn(2, 6)
    with ov.load(ov.convert(model, tmp_path / "sure.onnx", example=example, quiet=True)) as ex:
        assert ex.residuals["gradient"]["max"] > 0
    tanh(monkeypatch, WRONG["the wrong sign"])
    with pytest.raises(CheckFailedError, match="gradient"):
        ov.convert(model, tmp_path / "wrong.onnx", example=example, quiet=True)
