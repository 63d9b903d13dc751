"""The examples run, at their smallest, and draw what they promise."""

from __future__ import annotations

import importlib
import warnings

import cv2
import numpy as np
import pytest

import digits

PICTURES = {
    "pytorch_digits": ["pca", "tsne", "kernels", "feature-maps", "saliency"],
    "keras_digits": ["feature-maps", "kernels", "units", "top-inputs"],
}


def test_digits_are_split_without_overlap():
    (train, train_labels), (test, test_labels) = digits.digits(50)
    assert (train.shape, test.shape) == ((400, 28, 28), (100, 28, 28))
    assert train.dtype == np.uint8
    assert np.bincount(test_labels).tolist() == [10] * 10
    assert np.bincount(train_labels).tolist() == [40] * 10
    seen = {digit.tobytes() for digit in train}
    assert not any(digit.tobytes() in seen for digit in test)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_digits_examples_draw_their_pictures(name, tmp_path, capsys):
    example = importlib.import_module(name)
    example.main(tmp_path, per_class=20, epochs=1)
    for picture in PICTURES[name]:
        pixels = cv2.imread(str(tmp_path / f"{name.replace('_', '-')}-{picture}.png"))
        assert min(pixels.shape[:2]) > 150
        assert np.ptp(pixels) == 255
    assert capsys.readouterr().out


@pytest.mark.slow
def test_series(tmp_path, capsys):
    importlib.import_module("timeseries_conv1d").main(tmp_path, length=600, epochs=1)
    told = capsys.readouterr().out
    assert "channels that answer" in told
    assert "of the test's movements right" in told
    for picture in ("wave", "gunpoint"):
        assert min(cv2.imread(str(tmp_path / f"timeseries-{picture}.png")).shape[:2]) > 150


@pytest.mark.slow
def test_attention(tmp_path, capsys, monkeypatch):
    """On the network that is smallest: the same pictures, and the class that the photo shows."""
    attention = importlib.import_module("pretrained_attention")
    monkeypatch.setattr(attention.zoo, "efficientnet_lite0", attention.zoo.squeezenet)
    monkeypatch.setattr(attention, "LAYER", "fire9.concat")
    attention.main(tmp_path, samples=2)
    assert "(285)" in capsys.readouterr().out
    for name in ("one", "two"):
        for mode in ("beside", "blend"):
            assert min(cv2.imread(str(tmp_path / f"attention-{name}-{mode}.png")).shape[:2]) > 150


@pytest.mark.slow
def test_same_weights(tmp_path, capsys):
    importlib.import_module("same_weights_two_frameworks").main(tmp_path, photos=["chelsea", "coffee"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for photo in ("chelsea", "coffee"):
        (differences,) = [line[1:] for line in lines if line[:1] == [photo]]
        assert len(differences) == 5
        assert max(map(float, differences)) < 1e-5
    pixels = cv2.imread(str(tmp_path / "twins.png"))
    assert min(pixels.shape[:2]) > 300


@pytest.mark.long
def test_quantus_metrics(tmp_path, capsys, monkeypatch):
    """Of Grad-CAM more lies on the half that shows the class, and it changes less."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = importlib.import_module("quantus_metrics")
        monkeypatch.setattr(example, "METHODS", {name: example.METHODS[name] for name in ("saliency", "grad_cam")})
        example.main(tmp_path, runs=1)
    rows = {
        line.split()[0]: [float(n) for n in line.split()[-4:]] for line in capsys.readouterr().out.splitlines()[-2:]
    }
    assert rows["grad_cam"][1] < rows["saliency"][1]
    assert rows["grad_cam"][2] > 0.8 > rows["saliency"][2]


def test_differences_are_seen():
    """Relative to the largest value, and whichever axis counts the channels."""
    twins = importlib.import_module("twins")
    first = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    last = np.moveaxis(first, 1, -1).copy()
    assert twins.relative(first, twins.channels_first(last)) == 0
    last[0, 2, 1, 0] -= 2.3
    assert twins.relative(first, twins.channels_first(last)) == pytest.approx(0.1)
    assert "3.0e-06" in twins.differences_table({"chelsea": {"outputs": 0.0, "saliency": 3e-6}})
