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


def saturation(found):
    """The notes on saturated probabilities; where they are 1 to the last bit, another tells of gradients of 0."""
    return [note for note in found.notes if note.endswith("of='logits' (the default) looks before that")]


@pytest.mark.parametrize(("scale", "samples"), [(1, []), (40, [0, 2])])
def test_saturated_probabilities_are_told_of(tmp_path, scale, samples):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Softmax(-1)).eval()
    model[0].weight.data = scale * torch.eye(2)
    x = np.array([[1.0, 0.0], [0.5, 0.45], [0.0, 1.0]], np.float32)
    with ov.load(ov.convert(model, tmp_path / "m.onnx", example=x, quiet=True), providers="cpu") as explainer:
        for target in (None, [0, 1, 1], [[0, 1]]):
            notes = saturation(explainer.gradient(x, target, of="probability"))
            assert len(notes) == bool(samples)
            if samples:
                assert f"for sample {', '.join(map(str, samples))}: saturated" in notes[0]
        assert saturation(explainer.gradient(x)) == []
        assert saturation(explainer.gradient(x, np.ones(2, np.float32), of="probability")) == []  # always adds up to 1


def test_a_saturated_sigmoid_is_told_of_on_both_sides(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Sigmoid()).eval()
    model[0].weight.data = torch.ones(1, 1)
    x = np.array([[20.0], [-20.0], [0.3]], np.float32)
    with ov.load(ov.convert(model, tmp_path / "m.onnx", example=x, quiet=True), providers="cpu") as explainer:
        (note,) = saturation(explainer.gradient(x, of="probability"))
    assert "for sample 0, 1: saturated" in note


@pytest.mark.parametrize("made", [
    pytest.param(lambda x: (x * [[[0.2]], [[0.25]], [[0.3]]] + [[[0.5]], [[0.4]], [[0.3]]]) * 255),
    pytest.param(lambda x: 3 * x, id="three times too far"),
    pytest.param(lambda x: x / 255, id="shares of pixels"),
])  # fmt: skip
def test_pictures_prepared_in_another_way_are_told_of(pictured, made):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    x = pictured.image_input.encode(pixels)
    for method in ("saliency", "grad_cam", "occlusion"):
        assert not any("holds" in note for note in pictured.explain(x, method, 1).notes)
        notes = pictured.explain(made(x).astype(np.float32), method, 1).notes
        (note,) = (note for note in notes if note.startswith("input 'image' holds "))
        assert "prepared as this file says hold -2.5 … 2.5" in note
        assert note.endswith("ex.read_image does that")


@pytest.mark.parametrize(("layer", "count"), [("2", 1), ("1", 0), ("0", 0)])
def test_maps_of_a_layer_of_one_place_are_told_of(tmp_path, layer, count):
    torch.manual_seed(0)
    head = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), *head).eval()
    x = np.random.default_rng(0).random((2, 1, 6, 6), np.float32)
    with ov.load(ov.convert(model, tmp_path / "m.onnx", example=x, quiet=True), providers="cpu") as explainer:
        notes = explainer.grad_cam(x, 0, layer=layer).notes
        assert explainer.gradient(x, 0, layer=layer).notes == ()
    assert [note for note in notes if "one place in space, so the map is the same everywhere" in note] == [
        f"layer {layer!r} has one place in space, so the map is the same everywhere: take a layer before pooling"
    ] * count


def test_pictures_noise_and_plain_colours_are_nothing_to_tell(pictured):
    """Read pictures, black and white ones, noise of the same size."""
    for pixels in (0, 255, 7):
        assert pictured.saliency(np.full((12, 12, 3), pixels, np.uint8), 1).notes == ()
    noise = np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)
    assert pictured.saliency(noise, 1).notes == ()
