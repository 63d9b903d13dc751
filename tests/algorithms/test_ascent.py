"""Whole ascents against the same written in numpy and PyTorch, and where their state is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.algorithms.steps import NUMBERS, after
from onnxviz.engine.core import Engine
from tests.algorithms import ascent_in_numpy as in_numpy
from tests.support import assert_close, normal

SIZE = (12, 10)
MEAN, STD = np.float32([120, 110, 100]), np.float32([60, 55, 50])


class Smooth(torch.nn.Module):
    """Without kinks, at which two correct programs may part."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.second = torch.nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x):
        return self.second(torch.tanh(self.conv(x))).square().mean((2, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network whose pictures are described, and not."""
    folder, model, found = tmp_path_factory.mktemp("ascent"), Smooth().eval(), {}
    image = ov.ImageInput(SIZE, mean=tuple(map(float, MEAN)), std=tuple(map(float, STD)), channels="RGB")
    for name, described in (("described", image), ("plain", None)):
        path = ov.convert(model, folder / f"{name}.onnx", example=normal(2, 3, *SIZE), input=described, quiet=True)
        found[name] = ov.load(path, providers="cpu")
    return model, found


def ask_of(model, name, unit):
    """Scores and gradients by autograd, of images in grey levels or as they are."""
    shape = (1, 3, 1, 1)
    gain = 1 / STD.reshape(shape) if name == "described" else np.ones(shape, np.float32)
    offset = (128 - MEAN.reshape(shape)) / STD.reshape(shape) if name == "described" else 0

    def ask(images):
        x = torch.tensor(np.asarray(gain * images + offset, np.float32), requires_grad=True)
        score = model(x)[:, unit]
        (gradient,) = torch.autograd.grad(score.sum(), x)
        return score.detach().numpy(), gain * gradient.numpy().astype(np.float64)

    return ask, lambda images: gain * images + offset


TRANSFORMS = {"jitter": 3, "scale": (0.7, 1.4), "rotation": 30.0}
PRIORS = (
    [ov.TotalVariation(0.01), ov.LpNorm(4, 1e-7)],
    (in_numpy.variation_slope(0.01), in_numpy.power_slope(4, 1e-7)),
)
ASCENTS = {
    "pixels": ("described", "pixels", "normalized", 3.0, {}, ()),
    "pixels, transformed": ("described", "pixels", "rmsprop", 1.0, TRANSFORMS, ()),
    "pixels, plain units": ("plain", "pixels", "plain", 30.0, TRANSFORMS, ()),
    "pixels, priors": ("described", "pixels", "adam", 1.0, {"jitter": 20}, PRIORS),
    "fourier": ("described", "fourier", "normalized", 0.5, {}, ()),
    "fourier, transformed": ("described", "fourier", "normalized", 0.5, TRANSFORMS, ()),
    "fourier, priors": ("described", "fourier", "normalized", 0.5, TRANSFORMS, PRIORS),
    "fourier, plain": ("described", "fourier", "plain", 1e5, {"jitter": 2}, ()),
}


@pytest.mark.parametrize("blur", [None, (0.6, 2)])
@pytest.mark.parametrize("case", ASCENTS)
def test_an_ascent_is_the_one_in_numpy(files, case, blur):
    """A step's products have up to 12 terms, 12·2⁻²³ of the largest value; the network multiplies what was before."""
    model, found = files
    name, kind, optimizer, rate, transforms, priors = ASCENTS[case]
    described, steps = name == "described", 5
    limits = (-128.0, 127.0) if described else None
    shape, spatial, level = (1, 3, *SIZE), (2, 3), 1.0 if described else 0.01
    heads, slopes = priors or ((), ())
    parameters = in_numpy.Spectrum(shape, spatial, 1, limits) if kind == "fourier" else in_numpy.Plain(limits)
    ask, input_of = ask_of(model, name, 2)
    noise = 10 * level * np.random.default_rng([7, 0]).standard_normal(shape).astype(np.float32)
    images = in_numpy.ascend(
        ask, noise.astype(np.float64), parameters, in_numpy.Steps(optimizer, rate), steps,
        np.random.default_rng([7, 1]), spatial, slopes=slopes, blur=blur, **transforms,
    )  # fmt: skip
    got = found[name].maximize(
        2, steps=steps, regularizers=[*heads, *([ov.Blur(*blur)] if blur else [])], parameterization=kind,
        optimizer=optimizer, learning_rate=rate, seed=7, **{"jitter": 0, **transforms},
    )  # fmt: skip
    assert_close(got.images, input_of(images), steps * 12 * 2.0**-23)
    assert got.score[0] == pytest.approx(ask(images)[0][0], rel=1e-4)
    moved = np.abs(input_of(images) - input_of(parameters.decode(noise.astype(np.float64)))).max()
    assert moved > 0.01, "an ascent that does not move compares nothing"


def watched(monkeypatch):
    """What each run of the engine is fed and gives."""
    runs, run = [], Engine._run

    def watch(self, prepared, feeds, *, keep=False):
        results = run(self, prepared, feeds, keep=keep)
        runs.append((dict(feeds), dict(zip(prepared.outputs, results, strict=True))))
        return results

    monkeypatch.setattr(Engine, "_run", watch)
    return runs


OPTIONS = {"steps": 6, "optimizer": "adam", "regularizers": [ov.TotalVariation(0.01), ov.Blur(0.6, 3)]}


def assert_state_is_handed_on(runs):
    """Each run begins with the numbers and means that the one before left, as they are; the first with arrays."""
    numbers = None
    for fed, given in runs:
        assert numbers is None or fed[NUMBERS] is numbers
        numbers = given[after(NUMBERS)]
        assert not isinstance(numbers, np.ndarray)
    assert len(runs) == OPTIONS["steps"] + 2 + 1, "steps, two blurs, and a last look for the score"


def test_state_goes_from_run_to_run_without_the_host(files, monkeypatch):
    runs = watched(monkeypatch)
    files[1]["described"].maximize(1, **OPTIONS)
    assert_state_is_handed_on(runs)
    assert {value.device_name() for _, given in runs for value in given.values()} == {"cpu"}


@pytest.mark.gpu
def test_state_stays_on_the_device(files, monkeypatch):
    runs = watched(monkeypatch)
    with ov.load(files[1]["described"]._bundle.path, providers="cuda") as ex:
        found = ex.maximize(1, **OPTIONS, **TRANSFORMS)
    assert_state_is_handed_on(runs)
    assert {value.device_name() for _, given in runs for value in given.values()} == {"cuda"}
    expected = files[1]["described"].maximize(1, **OPTIONS, **TRANSFORMS)
    assert_close(found.images, expected.images, 1e-4)
