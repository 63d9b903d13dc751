"""Activation maximisation: closed forms, a naive loop in PyTorch, and every kind of target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import onnxviz as ov
from onnxviz.errors import FileFormatError, InputError, LayerError, NotFiniteError, OptionError, TargetError
from tests.support import assert_close, hooked, model_of, network, nhwc, normal

ONE_STEP = {"steps": 1, "optimizer": "plain", "learning_rate": 1.0, "jitter": 0}
"""The image is then its start plus the gradient there."""


def score_of(model, x, layer, score):
    """A score (N,) of a layer's output, as autograd sees it; of the model's own where ``layer`` is None."""
    kept = {}
    with hooked(model, {layer: lambda _m, _x, y: kept.update(y=y)} if layer else {}):
        output = model(x)
    return score(kept["y"] if layer else output)


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

TARGETS = {
    "class": ("cnn", 2, None, lambda y: y[:, 2]),
    "weighting": ("cnn", np.float32([0, 1, -2, 0, 0.5]), None, lambda y: y[:, 1] - 2 * y[:, 2] + 0.5 * y[:, 4]),
    "filter": ("cnn", "features.2:5", "features.2", lambda y: y[:, 5].mean((1, 2))),
    "neuron": ("cnn", "features.2:5@1,4", "features.2", lambda y: y[:, 5, 1, 4]),
    "neuron from the end": ("cnn", "features.0:-1@-2,-6", "features.0", lambda y: y[:, -1, -2, -6]),
    "direction": (
        "cnn", ("features.0", np.arange(6) - 2.0), "features.0",
        lambda y: (y.mean((2, 3)) * (torch.arange(6) - 2)).sum(1),
    ),
    "direction at a place": (
        "cnn", ("features.0@2,3", np.arange(6) - 2.0), "features.0",
        lambda y: (y[:, :, 2, 3] * (torch.arange(6) - 2)).sum(1),
    ),
    "dense unit": ("classifier", "hidden:3", "hidden", lambda y: y[:, 3]),
    "logit before softmax": ("classifier", 1, "head", lambda y: y[:, 1]),
    "series": ("series", "conv:2", "conv", lambda y: y[:, 2].mean(1)),
    "series at a time": ("series", "conv:2@5", "conv", lambda y: y[:, 2, 5]),
    "volume": ("volume", "conv:1", "conv", lambda y: y[:, 1].mean((1, 2, 3))),
    "volume at a voxel": ("volume", "conv:1@1,2,0", "conv", lambda y: y[:, 1, 1, 2, 0]),
    "class of every place": ("segmenter", 3, None, lambda y: y[:, 3].sum((1, 2))),
    "channels last": ("mixed", "wide:7", "wide", lambda y: y[..., 7].mean((1, 2))),
    "channels last at a place": ("mixed", "wide:7@1,2", "wide", lambda y: y[:, 1, 2, 7]),
    "tokens in the middle": ("residual", "stem:2", "stem", lambda y: y[:, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_one_step_is_autograds_gradient(subjects, name):
    which, target, layer, score = TARGETS[name]
    subject = subjects(which)
    start = subject.x(2)
    leaf = torch.tensor(start, requires_grad=True)
    expected = score_of(subject.model, leaf, layer, score)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    found = subject.explainer.maximize(target, start=start, **ONE_STEP)
    assert_close(found.scores[0], expected.detach().numpy())
    assert_close(found.images - start, gradient.numpy(), 1e-4)
    assert found.targets[0] == found.targets[1]


def test_probability_is_what_is_asked_for(subjects):
    subject = subjects("classifier")
    start = subject.x(1)
    leaf = torch.tensor(start, requires_grad=True)
    expected = subject.model(leaf)[:, 1]
    found = subject.explainer.maximize(1, start=start, of="probability", **ONE_STEP)
    assert_close(found.scores[0], expected.detach().numpy())
    assert_close(found.images - start, torch.autograd.grad(expected.sum(), leaf)[0].numpy(), 1e-4)


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
    last, _ = nhwc()
    first, _ = nhwc()
    del first.graph.node[0]
    first.graph.node[0].input[0] = "pixels"
    for size, n in zip(first.graph.input[0].type.tensor_type.shape.dim[1:], (3, 9, 11), strict=True):
        size.dim_value = n
    found = {}
    for layout, model in (("NHWC", last), ("NCHW", first)):
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


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """The convolutional network, with a description of its pictures and names of classes."""
    image = ov.ImageInput(12, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    path, classes = tmp_path_factory.mktemp("pictured") / "net.onnx", ["crane", "Egyptian cat", "crane", "cup", "x:1"]
    return ov.load(
        ov.convert(network("cnn"), path, example=normal(2, 3, 12, 12), input=image, classes=classes, quiet=True)
    )


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


def test_classes_by_name(pictured):
    found = pictured.maximize(["egyptian cat", 3, "x:1"], steps=2)
    np.testing.assert_array_equal(found.images, pictured.maximize([1, 3, 4], steps=2).images)
    assert found.targets == ("Egyptian cat", "cup", "x:1")
    with pytest.raises(TargetError, match=r"2 classes are called 'crane'.*\[0, 2\]"):
        pictured.maximize("crane")


def test_results_are_kept_drawn_and_animated(pictured, tmp_path):
    found = pictured.maximize([0, "features.2:1"], steps=6, snapshots=4, regularizers=[ov.LpNorm(6, 1e-9)])
    assert found.snapshot_steps == (0, 2, 4, 6)
    np.testing.assert_array_equal(found.snapshots[-1], found.images)
    assert found.snapshots.shape == (4, 2, 3, 12, 12)
    found.save(tmp_path / "found.npz")
    again = ov.Maximization.load(tmp_path / "found.npz")
    assert repr(again) == repr(found)
    np.testing.assert_array_equal(again.pixels(), found.pixels())
    assert again.options["regularizers"] == ["LpNorm(p=6, weight=1e-09)"]
    found.gif(tmp_path / "found.gif", seconds=2)
    with Image.open(tmp_path / "found.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (4, (24, 12), 500)
    found.save(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    figure = found.plot(columns=1)
    assert [axes.get_title() for axes in figure.axes] == [found.title(0), found.title(1)]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), found.pixels()[1])


def test_faint_pictures_can_be_stretched(pictured):
    found = pictured.maximize(0, steps=3, regularizers=[ov.L2(1.0)], parameterization="pixels", learning_rate=0.2)
    plain, stretched = found.pixels(), found.pixels(stretch=True)
    assert np.ptp(plain) < 100
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert np.corrcoef(plain.ravel(), stretched.ravel())[0, 1] > 0.98


def test_series_and_volumes_are_drawn(subjects):
    curves = subjects("series").explainer.maximize(["conv:1", "conv:2"], steps=2).plot()
    assert [len(axes.lines) for axes in curves.axes] == [2, 2]
    slices = subjects("volume").explainer.maximize(0, steps=2).plot()
    assert sum(axes.get_title().startswith("slice") for axes in slices.axes) == 6
    with pytest.raises(InputError, match="cannot be drawn"):
        subjects("classifier").explainer.maximize(0, steps=2).plot()


def test_other_files_are_refused(tmp_path, pictured):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(FileFormatError, match="no Maximization"):
        ov.Maximization.load(tmp_path / "other.npz")
    found = pictured.maximize(0, steps=1)
    with pytest.raises(OptionError, match="snapshots"):
        found.gif(tmp_path / "found.gif")
    with pytest.raises(OptionError, match=r"\.npz"):
        found.save(tmp_path / "found.jpg")


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


def test_other_inputs_are_held_fixed(subjects):
    subject = subjects("two heads")
    feeds = subject.feeds(1)
    leaf = torch.tensor(feeds["first"], requires_grad=True)
    score = subject.model(leaf, torch.tensor(feeds["second"]))["both"][:, 1]
    found = subject.explainer.maximize(
        [1, 1], start=feeds["first"], inputs={"second": feeds["second"]}, output="both", **ONE_STEP
    )
    assert_close(found.images[1] - feeds["first"][0], torch.autograd.grad(score.sum(), leaf)[0][0].numpy(), 1e-4)
    with pytest.raises(InputError, match="'second' is missing"):
        subject.explainer.maximize(1)


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
    "no list": (0, {"regularizers": ov.L2(1.0)}, OptionError, "expected a list"),
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
