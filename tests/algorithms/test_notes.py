"""What a result says about itself stands where it is read: in the text, below the picture, in the saved file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.explanation import Explanation

NOTE = "no rectifiers, so with their plain derivative: Sigmoid ×16, Softmax ×2"


@pytest.fixture
def explanation():
    values = np.random.default_rng(0).random((1, 3, 8, 8))
    return Explanation(values, ("batch", "channel", "spatial", "spatial"), "guided_backprop", notes=[NOTE])


def test_in_the_text(explanation):
    assert repr(explanation).endswith(f"; {NOTE}>")
    assert NOTE in explanation._repr_html_()


def test_below_the_picture(explanation):
    below = explanation.plot().get_supxlabel()
    assert below.split() == NOTE.split()
    assert "\n" in below, "the picture is narrower than the note"
    bare = Explanation(explanation.values, explanation.axes, "gradient")
    assert bare.plot().get_supxlabel() == ""


def test_in_the_saved_file(explanation, tmp_path):
    explanation.save(tmp_path / "e.npz")
    assert Explanation.load(tmp_path / "e.npz").notes == (NOTE,)


def test_in_what_is_made_of_it(explanation):
    assert explanation.normalize().notes == explanation.resize(4).notes == (NOTE,)


class Reciprocal(torch.nn.Module):
    """One over each number, added up in pairs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reciprocal().reshape(-1, 2, 2).sum(-1)


def test_numbers_that_are_none_are_told_of(tmp_path):
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    with ov.load(ov.convert(Reciprocal(), tmp_path / "r.onnx", example=x, quiet=True), providers="cpu") as explainer:
        assert explainer.gradient(x, target=1).notes == ()
        (note,) = explainer.gradient(x * [[0, 1, 1, 1]], target=0).notes
    assert note.startswith("holds infinities or NaN")


@pytest.mark.parametrize(("method", "options"), [
    ("saliency", {}), ("gradient", {"layer": "features"}), ("grad_cam", {}), ("guided_backprop", {}),
])  # fmt: skip
def test_a_map_of_zeros_says_so(tmp_path, method, options):
    torch.manual_seed(0)
    stem = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    model = torch.nn.Sequential()
    model.add_module("features", stem)
    model.add_module("head", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    with torch.no_grad():
        stem[0].weight.abs_()
        stem[0].bias.zero_()
    x = np.stack([np.ones((1, 6, 6), np.float32), -np.ones((1, 6, 6), np.float32)])  # the second puts all ReLUs out
    ex = ov.load(ov.convert(model.eval(), tmp_path / "m.onnx", example=x, quiet=True))
    found = ex.explain(x, method, 0, **options)
    if "layer" in options:
        assert found.notes == ()  # before the head there is always a gradient
    else:
        assert [note.partition(":")[0] for note in found.notes] in (
            ["0 everywhere for sample 1"],
            ["0 everywhere for sample 0, 1"],
        )
        assert not found.values[1].any()
