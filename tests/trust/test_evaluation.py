"""What ``evaluate`` takes and gives."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.errors import InputError, OptionError, TargetError
from onnxviz.trust.metrics import METRICS
from tests.support import assert_close, normal


@pytest.fixture(scope="module")
def asked(subjects):
    subject = subjects("cnn")
    return subject.explainer, subject.x(2)


FEW = {"deletion": {"n_steps": 6}, "insertion": {"n_steps": 6}, "infidelity": {"n_samples": 4}}


def test_all_metrics_of_several_maps_beside_a_random_one(asked):
    explainer, x = asked
    maps = {"by name": "grad_cam", "computed": explainer.grad_cam(x), "raw": explainer.grad_cam(x).values}
    found = ov.evaluate(explainer, maps, x, masks=np.ones((12, 12), bool))
    assert list(found.values) == list(maps)
    for values in (*found.values.values(), found.random):
        assert list(values) == list(METRICS)
        assert all(array.shape == (2,) for array in values.values())
    for metric in METRICS:
        one, two, three = (found.values[label][metric] for label in maps)
        assert np.array_equal(two, three, equal_nan=True)
        if metric == "max_sensitivity":
            assert np.isfinite(one).all()
            assert np.isnan(two).all()  # a map that is given cannot be made again
        else:
            assert_close(one + 1, two + 1, 1e-5)
    lines = repr(found).splitlines()
    assert lines[1].split()[:3] == ["map", "deletion", "↓"]
    assert lines[-1].startswith("random map")
    assert found.table(markdown=True).splitlines()[1].startswith("| --- | ---")
    assert f"{found.mean('road', 'raw'):.3g}" in lines[4]


def test_the_same_seed_gives_the_same_numbers(asked):
    explainer, x = asked
    one, two, other = (ov.evaluate(explainer, "gradient", x, metrics=FEW, seed=seed) for seed in (0, 0, 1))
    for metric in FEW:
        assert np.array_equal(one.random[metric], two.random[metric])
        assert not np.array_equal(one.random[metric], other.random[metric])
        assert np.array_equal(one.values["gradient"][metric], two.values["gradient"][metric])


def test_chunks_make_no_difference(asked):
    explainer, x = asked
    whole = ov.evaluate(explainer, "saliency", x, metrics=FEW)
    explainer.batch_size = 3
    try:
        parts = ov.evaluate(explainer, "saliency", x, metrics=FEW)
    finally:
        explainer.batch_size = "auto"
    for metric in FEW:
        assert_close(parts.values["saliency"][metric], whole.values["saliency"][metric], 1e-5)


def test_the_target_is_that_of_the_explanation(asked):
    explainer, x = asked
    named = ov.evaluate(explainer, explainer.grad_cam(x, [2, 4]), x, metrics=FEW)
    given = ov.evaluate(explainer, explainer.grad_cam(x, [2, 4]).values, x, [2, 4], metrics=FEW)
    for metric in FEW:
        assert np.array_equal(named.values["grad_cam"][metric], given.values["map"][metric])


def test_slopes_are_ranked_by_their_size_and_parts_by_their_sign(asked):
    explainer, x = asked
    gradient, parts = explainer.gradient(x, 1), explainer.input_x_gradient(x, 1)
    maps = {"slopes": gradient, "size": np.abs(gradient.values).sum(1), "parts": parts, "sum": parts.values.sum(1)}
    found = ov.evaluate(explainer, maps, x, metrics={"deletion": {"n_steps": 6}}).values
    assert np.array_equal(found["slopes"]["deletion"], found["size"]["deletion"])
    assert np.array_equal(found["parts"]["deletion"], found["sum"]["deletion"])


def test_small_maps_are_resized(asked):
    explainer, x = asked
    small, large = explainer.grad_cam(x, upsample=False), explainer.grad_cam(x)
    found = ov.evaluate(explainer, {"small": small, "large": large}, x, metrics=FEW).values
    for metric in FEW:
        assert_close(found["small"][metric], found["large"][metric], 1e-5)


def test_maps_of_pictures_are_cut_to_what_the_network_saw(pictured):
    picture = np.random.default_rng(0).integers(0, 255, (24, 36, 3), np.uint8)
    found = pictured.grad_cam(picture, 1)
    assert found.shape == (1, 24, 36)
    placed = ov.evaluate(pictured, found, picture, metrics=FEW)
    plain = ov.evaluate(pictured, "grad_cam", pictured.read_image(picture), 1, metrics=FEW)
    for metric in FEW:
        assert_close(placed.values["grad_cam"][metric], plain.values["grad_cam"][metric], 0.05)


@pytest.mark.parametrize("name", ["series", "volume", "classifier", "regressor"])
def test_inputs_of_every_kind(subjects, name):
    """What needs pixels or positive probabilities is left out by itself."""
    subject = subjects(name)
    found = ov.evaluate(subject.explainer, "gradient", subject.x(2))
    assert "road" not in found.better
    assert all(np.isfinite(values).all() for values in found.values["gradient"].values())


def test_channels_last(twin_files):
    first, last, x = twin_files
    for metric, options in {**FEW, "road": {}}.items():
        one, two = (
            ov.evaluate(ex, "input_x_gradient", given, 1, metrics={metric: options}).values["input_x_gradient"][metric]
            for ex, given in ((first, x), (last, x.transpose(0, 2, 3, 1)))
        )
        assert_close(one, two, 1e-4)


@pytest.fixture(scope="module")
def twin_files(tmp_path_factory):
    """A network of channels first, and the same behind a transpose."""
    import torch
    from torch import nn

    class Last(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            return self.body(x.permute(0, 3, 1, 2))

    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 4)).eval()
    x, folder = normal(2, 3, 8, 8), tmp_path_factory.mktemp("twins")
    first = ov.convert(body, folder / "first.onnx", example=x, quiet=True)
    last = ov.convert(Last(body).eval(), folder / "last.onnx", example=x.transpose(0, 2, 3, 1).copy(), quiet=True)
    return ov.load(first, providers="cpu"), ov.load(last, providers="cpu"), x


REFUSALS = {
    "unknown metric": ({"metrics": ["deletoin"]}, OptionError, "no metric 'deletoin'.*did you mean 'deletion'"),
    "no metrics": ({"metrics": []}, OptionError, "metrics is empty"),
    "unknown option": ({"metrics": {"deletion": {"steps": 3}}}, OptionError, "deletion has no option 'steps'"),
    "unknown method": ({"maps": "grad_camm"}, OptionError, "no method 'grad_camm'.*did you mean 'grad_cam'"),
    "no maps": ({"maps": {}}, InputError, "maps is empty"),
    "another rank": ({"maps": np.ones((2, 5))}, InputError, r"maps has shape \[2, 5\]: expected \[2, 12, 12\]"),
    "another batch": ({"maps": np.ones((3, 12, 12))}, InputError, "maps has shape"),
    "not finite": ({"maps": np.full((2, 12, 12), np.nan)}, InputError, "maps holds NaN"),
    "no masks": ({"metrics": ["pointing_game"]}, InputError, "pointing_game needs to know where the object is"),
    "masks of another size": ({"masks": np.ones((2, 5, 5))}, InputError, "masks has one for each of 2 samples"),
    "empty masks": ({"masks": np.zeros((2, 12, 12))}, InputError, "without a single place"),
    "given maps": (
        {"maps": np.ones((2, 12, 12)), "metrics": ["max_sensitivity"]}, InputError, "makes maps of other inputs",
    ),
    "several targets": ({"target": [[1, 2]]}, TargetError, "one target of each sample"),
    "another baseline": ({"baseline": np.ones((5, 5))}, InputError, "baseline has shape"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(asked, changes, error, message):
    explainer, x = asked
    arguments = {"maps": "gradient", "target": None, **changes}
    with pytest.raises(error, match=message):
        ov.evaluate(explainer, arguments.pop("maps"), x, arguments.pop("target"), **arguments)
