from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import onnxviz as ov
from onnxviz.errors import InputError, OptionError
from onnxviz.image import read_pixels, resize_linear

SIZE = (32, 48)
PREPARATIONS = {
    "stretched": ov.ImageInput(SIZE, scale=1 / 255),
    "short side": ov.ImageInput(SIZE, scale=1 / 255, resize=64),
    "cropped": ov.ImageInput(SIZE, scale=1 / 255, crop=0.8),
    "resized": ov.ImageInput(SIZE, scale=1 / 255, resize=(40, 80)),
}
ROWS, COLUMNS = slice(150, 180), slice(110, 150)
"""Where the photo, 300 × 200, is red: off its centre."""


class Red(nn.Module):
    """Two classes: how much redness there is, and how much blue."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.relu = nn.Conv2d(3, 2, 1), nn.ReLU()
        with torch.no_grad():
            self.colour.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None])
            self.colour.bias.zero_()

    def forward(self, x):
        return self.relu(self.colour(x)).mean((2, 3))


@pytest.fixture(scope="module")
def explainers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return {
        name: ov.load(
            ov.convert(Red(), folder / f"{name}.onnx", example=torch.rand(1, 3, *SIZE), input=image, quiet=True),
            providers="cpu", threads=1,
        )
        for name, image in PREPARATIONS.items()
    }  # fmt: skip


@pytest.fixture
def photo():
    pixels = np.full((300, 200, 3), 60, np.uint8)
    pixels[ROWS, COLUMNS] = (220, 20, 20)
    return pixels


@pytest.fixture
def path(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def edges(heat):
    """The first and last row and column of what is above half of the largest value."""
    rows, columns = np.nonzero(heat > heat.max() / 2)
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("method", ["grad_cam", "input_x_gradient", "occlusion"])
def test_maps_lie_on_the_object(explainers, path, name, method):
    explainer = explainers[name]
    found = explainer.explain(path, method, 0)
    heat = np.maximum(found.maps()[0, 0], 0)
    assert heat.shape == (300, 200)
    if method == "occlusion":  # windows are wide; their centre of gravity is the object's
        y, x = np.mgrid[:300, :200]
        expected = (164.5, 129.5)
        assert np.abs(np.array([(heat * y).sum(), (heat * x).sum()]) / heat.sum() - expected).max() <= 8
    else:
        assert np.abs(np.array(edges(heat)) - (150, 179, 110, 149)).max() <= 300 / 32 / 2 + 1
    inside = np.zeros((300, 200), bool)
    inside[found_part(explainer, (300, 200))] = True
    assert (heat[~inside] == 0).all()
    assert bool(found.notes) == (name != "stretched")


def found_part(explainer, picture):
    return explainer.image_input.view(picture).covered


def test_the_note_says_what_was_seen(explainers, photo):
    seen = "rows 100 … 199 and columns 25 … 174 of the picture (300 × 200)"
    expected = f"the network saw {seen}; outside of them the values are 0"
    assert explainers["short side"].grad_cam(photo, 0).notes == (expected,)


def test_whatever_a_picture_is_given_as(explainers, photo, path):
    explainer = explainers["cropped"]
    expected = explainer.grad_cam(path, 0)
    for given in (str(path), photo, Image.fromarray(photo), photo[None]):
        found = explainer.grad_cam(given, 0)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.image, photo[None])
    (listed,) = explainer.grad_cam([path], 0)
    np.testing.assert_array_equal(listed.values, expected.values)


def test_the_values_are_those_of_the_array(explainers, photo):
    explainer = explainers["stretched"]
    x = explainer.read_image(photo)
    np.testing.assert_array_equal(
        explainer.saliency(photo, 0).values, resize_linear(explainer.saliency(x, 0), (300, 200), (1, 2))
    )
    np.testing.assert_array_equal(explainer.predict(photo), explainer.predict(x))
    np.testing.assert_array_equal(explainer.features([photo, photo], "relu")["relu"][1:], explainer.features(x)["relu"])
    assert explainer.top(photo) == explainer.top(x)


def test_pictures_of_several_sizes_keep_theirs(explainers, photo):
    explainer, blue = explainers["short side"], photo[20:180, ::-1, ::-1]
    found = explainer.integrated_gradients([photo, blue], [0, 1])
    assert [each.shape for each in found] == [(1, 3, 300, 200), (1, 3, 160, 200)]
    for each, picture, target in zip(found, (photo, blue), (0, 1), strict=True):
        alone = explainer.integrated_gradients(picture, target)
        np.testing.assert_allclose(each.values, alone.values, atol=1e-7)
        np.testing.assert_array_equal(each.target, alone.target)
        np.testing.assert_allclose(each.score, alone.score, atol=1e-7)
        assert each.options["completeness_gap"].shape == (1,)
        np.testing.assert_array_equal(each.image, picture[None])


def test_lists_of_layers_and_targets(explainers, photo):
    explainer = explainers["cropped"]
    layers = explainer.grad_cam([photo, photo[:200]], [[0, 1]], layer=["colour", "relu"])
    assert [[each.shape for each in pictures] for pictures in layers] == [[(1, 2, 300, 200), (1, 2, 200, 200)]] * 2
    assert [pictures[0].layer for pictures in layers] == ["colour", "relu"]
    weighting = explainer.grad_cam([photo, photo], np.array([1.0, -1.0]))
    np.testing.assert_array_equal(weighting[1].target, [1, -1])


def test_a_layer_keeps_its_own_size(tmp_path, photo):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    image = ov.ImageInput((20, 30), scale=1 / 255)
    path = ov.convert(net, tmp_path / "net.onnx", example=torch.rand(1, 3, 20, 30), input=image, quiet=True)
    explainer = ov.load(path, providers="cpu", threads=1)
    for found in (explainer.gradient(photo, 0, layer="1"), explainer.grad_cam(photo, 0, upsample=False)):
        assert found.shape[-2:] == (9, 14)
        assert found.image is None
    assert explainer.grad_cam(photo, 0).shape == (1, 300, 200)


def test_the_overlay_is_the_picture_where_nothing_was_seen(explainers, photo):
    found = explainers["short side"].grad_cam(photo, 0)
    laid = found.overlay()
    rows, columns = found_part(explainers["short side"], (300, 200))
    assert laid.shape == (1, 300, 200, 3)
    outside = np.ones((300, 200), bool)
    outside[rows, columns] = False
    assert (laid[0][outside] == 60).all()
    assert (found.overlay(mode="multiply")[0][outside] == 0).all()
    brightness = laid[0].sum(2)
    assert np.abs(np.array(edges(np.where(outside, 0, brightness))) - (150, 179, 110, 149)).max() <= 3
    smaller = found.resize((150, 100)).overlay()
    assert np.abs(smaller.astype(int) - laid)[0].mean() < 3
    assert found.overlay(np.zeros((30, 20, 3), np.uint8)).shape == (1, 30, 20, 3)


def test_results_with_pictures_are_saved_and_drawn(explainers, photo, tmp_path):
    found = explainers["cropped"].grad_cam(photo, [[0, 1]])
    found.save(tmp_path / "a.npz")
    back = ov.Explanation.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.image, found.image)
    assert back.covered == found.covered
    np.testing.assert_array_equal(back.overlay(), found.overlay())
    found.save(tmp_path / "a.png")
    assert len(found.plot().axes) == 5  # the input, two targets, two colour bars
    drawn = read_pixels(tmp_path / "a.png").astype(int)
    assert (drawn[..., 0] - drawn[..., 2] > 150).any()  # the red of the input


def test_integer_pixels_of_the_networks_own_layout_are_refused(explainers):
    with pytest.raises(InputError, match=r"expected \(h, w\)"):
        explainers["cropped"].grad_cam(np.zeros((1, 3, 32, 48), np.uint8), 0)


def test_files_that_say_nothing_of_pictures(cnn, path):
    for given in (path, [str(path)], Image.new("RGB", (3, 3))):
        with pytest.raises(InputError, match=r"does not say how pictures are prepared.*ImageInput"):
            cnn.explainer.grad_cam(given)
    with pytest.raises(InputError, match="has dtype uint8"):
        cnn.explainer.grad_cam(cnn.x().astype(np.uint8), 0)


def test_unreadable_pictures_and_unknown_options(explainers, tmp_path, path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    for given in (tmp_path / "none.jpg", [path, tmp_path / "cut.jpg"]):
        with pytest.raises(InputError, match=r"none\.jpg.*No such file|cut\.jpg"):
            explainers["cropped"].saliency(given)
    with pytest.raises(OptionError, match="has no option 'algorithm'"):
        explainers["cropped"].explain(path, "saliency", algorithm=3)


def test_pictures_among_several_inputs(tmp_path, photo):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.same = nn.Conv2d(3, 3, 1, bias=False)
            with torch.no_grad():
                self.same.weight.copy_(torch.eye(3)[..., None, None])

        def forward(self, picture, weight):
            return self.same(picture).mean((2, 3)) * weight

    example = {"picture": torch.rand(2, 3, 8, 8), "weight": torch.rand(2, 3)}
    path = ov.convert(Two(), tmp_path / "two.onnx", example=example, input=ov.ImageInput(8, scale=1 / 255), quiet=True)
    explainer = ov.load(path, providers="cpu", threads=1)
    weight = np.array([[1.0, 2, 3]], np.float32)
    expected = photo.mean((0, 1)) / 255 * weight
    np.testing.assert_allclose(explainer.predict({"picture": photo, "weight": weight}), expected, atol=2e-2)
    found = explainer.gradient((photo, weight), 1)
    assert found.shape == (1, 3, 300, 200)
    np.testing.assert_allclose(found.values[0].mean((1, 2)), [0, 2 / 64, 0], atol=1e-6)
