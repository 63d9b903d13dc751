"""Activation maximisation: closed forms, a naive loop in PyTorch, what must not matter, pictures, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import InputError, LayerError, NotFiniteError, OptionError, TargetError
from tests.support import assert_close, model_of, nchw, nhwc, normal, score_of

ONE_STEP = {"steps": 1, "optimizer": "plain", "learning_rate": 1.0, "jitter": 0}
"""The image is then its start plus the gradient there."""


# ----- closed forms -----


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """y = x·m, and m."""
    m = normal(6, 3)
    path = tmp_path_factory.mktemp("linear") / "net.onnx"
    ov.convert(model_of("y = MatMul(x, m)", "float[N, 6] x", "float[N, 3] y", {"m": m}), path, quiet=True)
    return ov.load(path, providers="cpu"), m


def test_plain_ascent_adds_the_weights_at_each_step(linear):
    ex, m = linear
    start = normal(1, 6, seed=1)
    found = ex.maximize([0, 2], start=start, steps=7, optimizer="plain", learning_rate=0.1)
    assert_close(found.images, start + 0.7 * m.T[[0, 2]])
    assert_close(found.score, np.einsum("nd,dn->n", found.images, m[:, [0, 2]]))
    assert_close(found.scores[3], np.einsum("nd,dn->n", start + 0.3 * m.T[[0, 2]], m[:, [0, 2]]))


def test_normalised_steps_have_the_size_of_the_learning_rate(linear):
    ex, m = linear
    found = ex.maximize(1, start=np.zeros((1, 6), np.float32), steps=4, learning_rate=0.5)
    assert_close(found.images[0], 4 * 0.5 * m[:, 1] / np.sqrt((m[:, 1] ** 2).mean()))


def test_l2_ends_where_the_gradients_meet(linear):
    """max ⟨w, x⟩ − λ|x|² is at w / 2λ."""
    ex, m = linear
    found = ex.maximize(1, regularizers=[ov.L2(2.0)], steps=200, optimizer="plain", learning_rate=0.1)
    assert_close(found.images[0], m[:, 1] / 4, 1e-4)


def test_noise_to_start_from(cnn):
    still = {"steps": 1, "learning_rate": 1e-12, "jitter": 0}
    one, two, other = (cnn.explainer.maximize([0, 1], **still, seed=seed).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[0], one[1])
    assert np.abs(one - other).max() > 0.1
    assert one.std() == pytest.approx(0.1, rel=0.1)


# ----- against PyTorch -----

OPTIMIZERS = {
    "normalized": lambda x, g, _: x + 0.02 * g / g.square().mean((1, 2, 3), keepdim=True).sqrt(),
    "plain": lambda x, g, _: x + 0.02 * g,
    "rmsprop": lambda x, g, made: stepped(x, g, made, lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.9, eps=0)),
    "adam": lambda x, g, made: stepped(x, g, made, lambda p: torch.optim.Adam(p, 0.02, eps=0)),
}


def stepped(x, gradient, made, make):
    """A step of one of PyTorch's optimisers, which remembers the ones before."""
    if not made:
        made["x"] = x.clone().requires_grad_()
        made["optimizer"] = make([made["x"]])
    made["x"].grad = -gradient
    made["optimizer"].step()
    return made["x"].detach().clone()


def priors(x):
    """TotalVariation(3), LpNorm(4, 2) and L2(0.1)."""
    down, right = torch.diff(x, dim=2).square().sum(), torch.diff(x, dim=3).square().sum()
    return 3 * (down + right) / x[0].numel() + 2 * (x**4).sum() / x[0].numel() + 0.1 * x.square().sum()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_naive_loop(cnn, name):
    start, made = normal(1, 3, 12, 12, seed=3), {}
    x = torch.tensor(start)
    for _ in range(12):
        leaf = x.clone().requires_grad_()
        total = score_of(cnn.model, leaf, "features.2", lambda y: y[:, 5].mean((1, 2))).sum() - priors(leaf)
        x = OPTIMIZERS[name](x, torch.autograd.grad(total, leaf)[0], made)
    found = cnn.explainer.maximize(
        "features.2:5", start=start, steps=12, optimizer=name, learning_rate=0.02, jitter=0,
        regularizers=[ov.TotalVariation(3), ov.LpNorm(4, 2), ov.L2(0.1)],
    )  # fmt: skip
    assert_close(found.images, x.numpy(), 1e-4)


def test_a_shifted_network_sees_a_shifted_image(cnn):
    """One step under jitter is the gradient at the shifted image, shifted back."""
    start = normal(1, 3, 12, 12, seed=3)
    found = cnn.explainer.maximize(2, start=start, **{**ONE_STEP, "jitter": 3}, seed=5)
    shifts = tuple(np.random.default_rng([5, 1]).integers(-3, 4, 2))
    assert shifts != (0, 0)
    gradient = np.asarray(cnn.explainer.gradient(np.roll(start, shifts, (2, 3)), 2))
    assert_close(found.images - start, np.roll(gradient, (-shifts[0], -shifts[1]), (2, 3)), 1e-4)


# ----- what must not matter -----


def test_several_are_one_at_a_time(cnn):
    targets = [1, "features.2:5", "features.2:5@1,1", "features.0:2", ("features.2", np.ones(8)), "features.2:0@0,5", 4]
    options = {"steps": 6, "scale": (0.9, 1.1), "rotation": 10, "regularizers": [ov.TotalVariation(1), ov.Blur(0.5, 2)]}
    together = cnn.explainer.maximize(targets, **options)
    alone = [cnn.explainer.maximize(target, **options) for target in targets]
    assert_close(together.images, np.concatenate([one.images for one in alone]), 1e-4)
    assert_close(together.score, np.concatenate([one.score for one in alone]), 1e-4)
    assert together.targets[1:3] == ("features.2:5", "features.2:5@1,1")


def test_runs_repeat_and_seeds_differ(cnn):
    one, two, other = (cnn.explainer.maximize("features.2:5", steps=4, seed=seed).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other)


def test_chunks_do_not_matter(cnn):
    with ov.load(cnn.path, providers="cpu", threads=1, batch_size=2) as ex:
        targets = ["features.2:1", "features.2:2", "features.2:3", 0, 1]
        assert_close(ex.maximize(targets, steps=4).images, cnn.explainer.maximize(targets, steps=4).images, 1e-5)


def test_a_static_batch_is_filled_up(linear, tmp_path):
    ex, m = linear
    model = model_of("y = MatMul(x, m)", "float[2, 6] x", "float[2, 3] y", {"m": m})
    with ov.load(ov.convert(model, tmp_path / "static.onnx", quiet=True)) as static:
        assert_close(static.maximize([0, 1, 2], steps=3).images, ex.maximize([0, 1, 2], steps=3).images)


def test_channels_last_is_channels_first(tmp_path):
    """The same weights behind another layout, on pictures, with everything switched on."""
    found = {}
    for layout, model in (("NHWC", nhwc()[0]), ("NCHW", nchw())):
        image = ov.ImageInput((9, 11), layout=layout, mean=(120, 110, 100), std=(60, 55, 50), channels="BGR")
        with ov.load(ov.convert(model, tmp_path / f"{layout}.onnx", input=image, quiet=True), threads=1) as ex:
            start = ex.image_input.encode(np.random.default_rng(0).integers(60, 190, (1, 9, 11, 3)).astype(np.uint8))
            for kind in ("pixels", "fourier"):
                found[layout, kind] = ex.maximize(
                    [2, "conv:3", "conv:1@2,3"], start=start, steps=5, jitter=2, rotation=8, scale=(0.8, 1.2),
                    parameterization=kind, regularizers=[ov.TotalVariation(0.1), ov.LpNorm(6, 1e-9), ov.Blur(0.4, 2)],
                )  # fmt: skip
    for kind in ("pixels", "fourier"):
        one, two = found["NHWC", kind], found["NCHW", kind]
        assert_close(one.images.transpose(0, 3, 1, 2), two.images, 1e-4)
        assert np.abs(one.pixels().astype(int) - two.pixels()).max() <= 1


# ----- pictures -----


def test_noise_is_around_mid_grey(pictured):
    for kind in ("pixels", "fourier"):
        found = pictured.maximize([0] * 8, steps=1, learning_rate=1e-6, parameterization=kind)
        pixels = pictured.maximize(0, steps=1, learning_rate=1e-6, parameterization=kind).pixels()
        assert pixels.mean() == pytest.approx(128, abs=12)
        assert pixels.std() == pytest.approx(10, abs=4)
        assert found.options["parameterization"] == kind
    assert pictured.maximize(0, steps=1).options["parameterization"] == "fourier"


def test_steps_are_grey_levels(pictured):
    """Whatever the preprocessing divides by."""
    start = pictured.image_input.encode(np.full((1, 12, 12, 3), 128, np.uint8))
    found = pictured.maximize(0, start=start, steps=1, learning_rate=20.0, parameterization="pixels", jitter=0)
    moved = found.pixels().astype(float) - 128
    assert np.sqrt((moved**2).mean()) == pytest.approx(20, rel=0.02)


def test_images_stay_within_the_valid_range(pictured):
    far = {"steps": 5, "learning_rate": 100.0, "parameterization": "pixels"}
    low, high = (pictured.image_input.encode(np.full((1, 12, 12, 3), v, np.uint8)) for v in (0, 255))
    inside = pictured.maximize(0, **far).images
    assert (inside >= low - 1e-5).all()
    assert (inside <= high + 1e-5).all()
    assert (pictured.maximize(0, **far, clip=False).images > high).any()
    narrow = pictured.maximize(0, **far, clip=(100, 150)).pixels()
    assert (narrow.min(), narrow.max()) == (100, 150)
    smooth = pictured.maximize(0, steps=5, learning_rate=100.0, parameterization="fourier").images
    assert (smooth <= high + 1e-5).all()


# ----- refusals -----


def test_a_step_that_is_not_finite_says_so(cnn):
    """A steep prior overshoots further at every plain step."""
    with pytest.raises(NotFiniteError, match=r"step \d+: the gradient of the regulariser LpNorm\(p=6.*clip=") as raised:
        cnn.explainer.maximize(
            "features.0:1", regularizers=[ov.TotalVariation(1), ov.LpNorm(6, 1e4)], optimizer="plain", learning_rate=1e3
        )
    assert isinstance(raised.value, ov.OnnxvizError)


def test_bounds_are_the_cure(cnn):
    found = cnn.explainer.maximize(
        "features.0:1", regularizers=[ov.LpNorm(6, 1e4)], optimizer="plain", learning_rate=1e3, clip=(-1, 1), steps=20
    )
    assert np.isfinite(found.images).all()


def test_a_unit_that_is_off_is_noted(cnn):
    dead = cnn.explainer.maximize("features.3:0", start=np.full((1, 3, 12, 12), 0, np.float32), steps=1)
    channel = int(
        np.argmin(
            cnn.explainer.features(np.zeros((1, 3, 12, 12), np.float32), "features.2")["features.2"][0].max((1, 2))
        )
    )
    off = cnn.explainer.maximize(f"features.3:{channel}", start=np.zeros((1, 3, 12, 12), np.float32), steps=1)
    assert "no gradient at any step" in " ".join(off.notes + dead.notes)


REFUSED = {
    "unknown layer": ("features.7:1", {}, LayerError, "there is no layer 'features.7'"),
    "layer alone": ("features.2", {}, TargetError, "'features.2:0'"),
    "channel": ("features.2:8", {}, TargetError, "features.2.*0 … 7"),
    "place": ("features.2:1@6,0", {}, TargetError, "6 is out of range"),
    "coordinates": ("features.2:1@6", {}, TargetError, "1 coordinates.*has 2"),
    "class": (5, {}, TargetError, "5 classes"),
    "name": ("tabby", {}, TargetError, "no class names"),
    "direction": (("features.2", np.ones(3)), {}, TargetError, "8 channels"),
    "kind": (None, {}, TargetError, "layer:channel"),
    "none": ([], {}, TargetError, "empty list"),
    "probability of a filter": ("features.2:1", {"of": "probability"}, OptionError, "is for classes"),
    "steps": (0, {"steps": 0}, OptionError, "steps=0"),
    "rate": (0, {"learning_rate": 0.0}, OptionError, "learning_rate=0.0"),
    "optimizer": (0, {"optimizer": "sgd"}, OptionError, "'normalized'"),
    "parameterization": (0, {"parameterization": "wavelet"}, OptionError, "'fourier'"),
    "clip": (0, {"clip": (1, 0)}, OptionError, "clip="),
    "regularizer": (0, {"regularizers": [3]}, OptionError, "LpNorm"),
    "no list": (0, {"regularizers": ov.L2(1.0)}, OptionError, "expected a sequence"),
    "start": ([0, 1, 2], {"start": normal(2, 3, 12, 12)}, InputError, "2 images for 3 targets"),
    "size": (0, {"size": (3,)}, OptionError, "2 spatial axes"),
    "fixed size": (0, {"size": (3, 3)}, InputError, "shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(cnn, name):
    target, options, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        cnn.explainer.maximize(target, **options)


def test_tables_have_no_space(subjects):
    ex = subjects("classifier").explainer
    for options in ({"regularizers": [ov.TotalVariation(1)]}, {"parameterization": "fourier"}):
        with pytest.raises(OptionError, match="no \\(known\\) spatial axes"):
            ex.maximize(0, **options)
