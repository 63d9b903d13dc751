"""DeepDream: the norm that it ascends, octaves, and tiles for networks of one size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import InputError, LayerError, OptionError
from onnxviz.image import resize_linear
from tests.support import assert_close, network, normal


class Filters(torch.nn.Module):
    """Convolutions that take any size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.second = torch.nn.Conv2d(6, 5, 3, padding=1)

    def forward(self, x):
        return self.second(torch.tanh(self.conv(x))).mean((2, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network twice: at any size, and at 12 × 12."""
    folder, model, found = tmp_path_factory.mktemp("dream"), Filters().eval(), {}
    for name, open_sizes in (("open", True), ("fixed", False)):
        path = folder / f"{name}.onnx"
        ov.convert(model, path, example=normal(2, 3, 12, 12), open_sizes=open_sizes, quiet=True)
        found[name] = ov.load(path, providers="cpu", threads=1)
    return model, found


def naive(model, x, octaves, scale, steps, rate):
    """Mordvintsev's loop, with the root mean square in the place of the mean of absolute values."""
    pictures = [x]
    for _ in range(octaves - 1):
        size = [round(n / scale) for n in pictures[0].shape[2:]]
        pictures.insert(0, resize_linear(pictures[0], size, (2, 3)))
    detail = np.zeros_like(pictures[0])
    for picture in pictures:
        detail = resize_linear(detail, picture.shape[2:], (2, 3))
        image = torch.tensor(picture + detail)
        for _ in range(steps):
            leaf = image.clone().requires_grad_()
            norm = model.second(torch.tanh(model.conv(leaf))).norm()
            gradient = torch.autograd.grad(norm, leaf)[0]
            image = image + rate * gradient / gradient.square().mean().sqrt()
        detail = image.numpy() - picture
    return image.numpy(), model.second(torch.tanh(model.conv(image))).norm().item()


def test_the_naive_loop(files):
    model, found = files
    x = normal(1, 3, 21, 30)
    dream = found["open"].deep_dream(x, "second", octaves=3, octave_scale=1.5, steps=4, learning_rate=0.05, jitter=0)
    expected, norm = naive(model, x, 3, 1.5, 4, 0.05)
    assert_close(dream.images, expected, 1e-4)
    assert dream.score[0] == pytest.approx(norm, rel=1e-4)
    assert dream.scores.shape == (12, 1)


def test_a_network_of_one_size_sees_tiles(files):
    _, found = files
    x = normal(1, 3, 12, 12)
    options = {"octaves": 1, "steps": 5, "learning_rate": 0.05}
    whole, tiled = (found[name].deep_dream(x, "second", **options) for name in ("open", "fixed"))
    assert_close(tiled.images, whole.images)
    for size in ((24, 36), (20, 31), (9, 12)):
        x = normal(1, 3, *size)
        dream = found["fixed"].deep_dream(x, "second", octaves=2, steps=5, learning_rate=0.05)
        assert dream.images.shape == x.shape
        assert dream.scores[-1, 0] > 1.05 * dream.scores[5, 0]


def test_an_octave_that_a_layer_sees_nothing_of(tmp_path):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(4, 2, 1),
        torch.nn.AdaptiveMaxPool2d(1),
    ).eval()
    path = ov.convert(model, tmp_path / "net.onnx", example=normal(2, 3, 32, 32), open_sizes=True, quiet=True)
    with ov.load(path) as ex:
        assert ex.deep_dream(normal(1, 3, 16, 20), "2", octaves=2, octave_scale=2, steps=1).images.shape[2:] == (16, 20)
        with pytest.raises(OptionError, match=r"'2' sees nothing of the smallest octave, \[4, 5\].*fewer octaves"):
            ex.deep_dream(normal(1, 3, 16, 20), "2", octaves=3, octave_scale=2, steps=1)


def test_tiles_may_take_several_runs(files, tmp_path):
    """As many as fit, or as many as a file of a static batch takes."""
    model, found = files
    x, options = normal(1, 3, 30, 17), {"octaves": 2, "steps": 4, "regularizers": [ov.TotalVariation(0.1), ov.Blur()]}
    expected = found["fixed"].deep_dream(x, "second", **options)
    path = tmp_path / "static.onnx"
    program = torch.export.export(model, (torch.tensor(normal(4, 3, 12, 12)),))
    ov.convert(program, path, quiet=True)
    for opened in (ov.load(found["fixed"]._bundle.path, batch_size=2), ov.load(path)):
        with opened as ex:
            dream = ex.deep_dream(x, "second", **options)
        assert_close(dream.images, expected.images, 1e-5)
        assert_close(dream.scores, expected.scores, 1e-5)


def test_pictures_of_any_size(tmp_path):
    image = ov.ImageInput(12, mean=127.5, std=127.5)
    path = ov.convert(network("cnn"), tmp_path / "net.onnx", example=normal(2, 3, 12, 12), input=image, quiet=True)
    picture = np.random.default_rng(0).integers(0, 256, (19, 26, 3)).astype(np.uint8)
    with ov.load(path) as ex:
        dream = ex.deep_dream(picture, "features.2", steps=3, octaves=2, snapshots=3)
        again = ex.deep_dream(picture, "features.2", steps=3, octaves=2)
        np.testing.assert_array_equal(dream.images, again.images)
        assert dream.pixels().shape == (1, 19, 26, 3)
        assert dream.snapshots.shape == (3, 1, 3, 19, 26)
        assert dream.snapshot_steps == (0, 3, 6)
        dream.gif(tmp_path / "dream.gif")
        with pytest.raises(LayerError, match="no layer"):
            ex.deep_dream(picture, "features.9")


def test_refusals(files, subjects):
    _, found = files
    x = normal(1, 3, 21, 30)
    for options, message in (
        ({"octaves": 0}, "octaves=0"),
        ({"octave_scale": 1}, "octave_scale=1"),
        ({"octaves": 30}, "small"),
    ):
        with pytest.raises(OptionError, match=message):
            found["open"].deep_dream(x, "second", **options)
    with pytest.raises(InputError, match="one picture"):
        found["open"].deep_dream(normal(2, 3, 21, 30), "second")
    with pytest.raises(InputError, match="how pictures are prepared"):
        found["open"].deep_dream(np.zeros((9, 9, 3), np.uint8), "second")
    with pytest.raises(InputError, match="NaN"):
        found["open"].deep_dream(x * np.nan, "second")
    with pytest.raises(InputError, match="no octaves"):
        subjects("classifier").explainer.deep_dream(normal(1, 6), "hidden")
