"""One comparison: answers are compared before anything is timed, and who is left out is told why."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contestants, race
from benchmarks.contestants import ALWAYS, HOMES, Absent, Contestant, base, enter, kind_of
from benchmarks.drawing import STYLES
from benchmarks.subject import METHODS, Question, Setup, Subject
from onnxviz.benchmark import Effort

BRIEFLY = Effort(1e-9, least=2, most=2)
SHAPE = (3, 4, 5)


def subject(**setup):
    return Subject("small", Path("nowhere"), Setup(**setup))


def test_another_process_gets_the_same_setup():
    asked = subject(options=(("prefer_nhwc", "1"), ("device_id", "0")), threads=3)
    again = Subject.of(json.loads(json.dumps(asked.described())))
    assert again.setup == asked.setup
    assert again.setup.providers == [("cpu", {"prefer_nhwc": "1", "device_id": "0"})]


def question(method="saliency", batch=2):
    return Question(method, Question.input(SHAPE, batch), np.zeros(batch, np.int64))


class Fake(Contestant):
    """Answers with a factor and a summand to the input."""

    def __init__(self, factor=1.0, summand=0.0, *, explains=True):
        super().__init__(subject())
        self.factor, self.summand, self.explains = factor, summand, explains

    def answer(self, question):
        return lambda: self.factor * question.x + self.summand


class Noisy(Fake):
    """Draws noise of its own."""

    def answer(self, question):
        generator = np.random.default_rng()
        return lambda: question.x + question.noise * generator.standard_normal(question.x.shape)


class Unwilling(Fake):
    def answer(self, question):
        raise Absent(f"no {question.method}")


class Cut(Fake):
    def answer(self, question):
        return lambda: question.x[:, :1]


def raced(method="saliency", **others):
    entrants = {"onnxviz": Fake(), "forward": Fake(-1, explains=False), **others}
    return race.race(subject(), entrants, question(method), BRIEFLY)


def test_equal_answers_are_timed():
    row = raced(scaled=Fake(0.5, 3))
    assert row.key == ("small", "saliency", 2, "float32", True)
    assert row.seconds.keys() == {"onnxviz", "forward", "scaled"}
    assert row.likenesses == {"scaled": pytest.approx(1)}
    assert row.absent == {}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Fake(-1), "it computes something else (correlation -1.0000, bar 0.999)"),
        (Fake(0), "it computes something else (correlation 0.0000, bar 0.999)"),
        (Fake(np.nan), "it computes something else (correlation 0.0000, bar 0.999)"),
        (Cut(), "it computes something else (correlation 0.0000, bar 0.999)"),
        (Unwilling(), "no saliency"),
        ("it is not installed", "it is not installed"),
    ],
)
def test_others_are_left_out_with_the_reason(other, reason):
    row = raced(other=other)
    assert row.absent == {"other": reason}
    assert "other" not in row.seconds
    assert row.differing == (["other"] if "something else" in reason else [])


def test_noise_is_left_out_of_the_comparison():
    assert raced("smooth_grad", noisy=Noisy()).seconds.keys() >= {"noisy"}
    assert raced("saliency", noisy=Noisy()).absent.keys() == {"noisy"}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([[1, 2, 4]], [[10, 20, 40]], 1),
        ([[1, 2, 4]], [[-1, 0, 2]], 1),
        ([[1, 2, 4]], [[4, 2, 1]], np.corrcoef([1, 2, 4], [4, 2, 1])[0, 1]),
        ([[1, 2, 4], [0, 1, 2]], [[1, 2, 4], [2, 1, 0]], -1),
        ([[3, 3, 3]], [[3, 3, 3]], 1),
        ([[3, 3, 3]], [[4, 4, 4]], 0),
        ([[3, 3, 3]], [[1, 2, 4]], 0),
    ],
)
def test_likeness_is_the_least_correlation(a, b, expected):
    assert race.likeness(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(expected)


# ----- who takes part -----


@pytest.mark.parametrize(("name", "home"), HOMES.items())
def test_every_name_has_its_class(name, home):
    """Read from the text, since not all libraries are installed everywhere."""
    module, _, kind = home.partition(":")
    classes = {
        node.name: [ast.unparse(line) for line in node.body]
        for node in ast.parse(Path(contestants.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    assert f"name = {name!r}" in classes[kind]


def test_every_name_has_its_line_in_the_plot():
    assert STYLES.keys() == HOMES.keys()
    assert len({style[:2] for style in STYLES.values()}) == len(HOMES)
    assert not kind_of(ALWAYS[1]).explains


@dataclass
class Closing:
    closed: list

    def __call__(self, _subject):
        closing = self

        class Entrant(Fake):
            def close(self):
                closing.closed.append(self)

        return Entrant()


def test_who_was_let_in_is_closed_and_who_is_not_installed_is_absent(monkeypatch):
    closing = Closing([])
    known = {"a": closing, "b": lambda _: __import__("no_such_library")}
    monkeypatch.setattr("benchmarks.contestants.kind_of", known.__getitem__)
    with race.entered(subject(), ["a", "b"]) as entrants:
        assert entrants["b"] == "no_such_library is not installed"
        assert closing.closed == []
    assert closing.closed == [entrants["a"]]


@pytest.mark.parametrize(
    ("name", "network", "setup", "reason"),
    [
        ("onnxviz from Keras", "resnet18", {}, "there is no twin in Keras"),
        ("tensorflow", "resnet18", {}, "there is no twin in Keras"),
        ("ort-training", "small", {}, "no environment with onnxruntime-training-cpu==1.19.2 was named (--training)"),
        ("ort-training", "small", {"provider": "cuda"}, "it is not measured on cuda"),
    ],
)
def test_reasons(tmp_path, name, network, setup, reason):
    with pytest.raises(base.Absent) as caught:
        enter(name, Subject(network, tmp_path, Setup(**setup)))
    assert str(caught.value) == reason


def test_captum_guides_relu_alone(tmp_path, monkeypatch):
    from torch import nn

    gelu = nn.Sequential(nn.Flatten(), nn.Linear(60, 4), nn.GELU())
    monkeypatch.setattr(Subject, "model", gelu)
    with pytest.raises(Absent, match=r"torch\.nn\.ReLU alone; this model has GELU"):
        enter("captum", Subject("small", tmp_path, Setup())).answer(question("guided_backprop"))


def test_the_input_is_always_the_same():
    assert np.array_equal(Question.input(SHAPE, 4)[:2], Question.input(SHAPE, 2))
    assert set(METHODS) >= {"saliency", "grad_cam"}
