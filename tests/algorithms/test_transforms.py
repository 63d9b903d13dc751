"""What an image must survive: each map, its adjoint, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.transforms import MATRIX, ROLL, Resample, Roll, Transforms
from onnxviz.errors import OptionError
from tests.algorithms.appended import appended
from tests.algorithms.ascent_in_numpy import Resampling
from tests.support import assert_close, normal


def canvas_of(*shape: int) -> Canvas:
    """Of images (channels, *space)."""
    return Canvas((shape[0],), shape[1:], tuple(range(len(shape) + 1)))


def applied(map, x, g, fed):
    """A map of images, and its adjoint of a gradient."""

    def build(add):
        seen, adjoint = map.apply(add, "x")
        return [seen, adjoint(add, "g")]

    return appended(build, x=x, g=g, **fed)


@pytest.mark.parametrize(
    ("shape", "most", "shifts"),
    [
        ((3, 5, 4), 2, (2, -1)), ((3, 5, 4), 2, (0, 0)), ((2, 4, 6), 9, (-9, 7)), ((2, 7), 3, (-3,)),
        ((1, 4, 5, 3), 2, (1, -2, 2)), ((1, 1, 6), 4, (3, -4)),
    ],
)  # fmt: skip
def test_roll_goes_around(shape, most, shifts):
    roll, x, g = Roll(canvas_of(*shape), most), normal(2, *shape), normal(2, *shape, seed=1)
    seen, back = applied(roll, x, g, roll.fed(np.array(shifts)))
    axes = tuple(range(2, x.ndim))
    np.testing.assert_array_equal(seen, np.roll(x, shifts, axes))
    np.testing.assert_array_equal(back, np.roll(g, [-shift for shift in shifts], axes))


@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 9), (1, 4, 5, 3)])
def test_resample_and_its_adjoint(shape):
    """Against the sums written out; far out of the image, so that all comes around."""
    count = len(shape) - 1
    matrix = np.eye(count) * 1.7 + 0.2 * normal(count, count)
    x, g = normal(2, *shape), normal(2, *shape, seed=1)
    seen, back = applied(Resample(canvas_of(*shape)), x, g, {MATRIX: matrix})
    reference = Resampling(matrix, x.shape, range(2, x.ndim))
    assert_close(seen, reference.forward(x), 1e-6)
    assert_close(back, reference.adjoint(g), 1e-6)
    assert (back.astype(np.float64) * x).sum() == pytest.approx((seen.astype(np.float64) * g).sum(), rel=1e-5)


def test_resample_interpolates_as_pytorch_does():
    x, matrix = normal(1, 2, 9, 9), np.array([[0.6, 0.3], [-0.3, 0.6]])  # stays inside: nothing comes around
    theta = torch.tensor(matrix[::-1, ::-1].copy(), dtype=torch.float32)  # torch counts (x, y)
    grid = torch.nn.functional.affine_grid(
        torch.cat([theta, torch.zeros(2, 1)], 1)[None], (1, 2, 9, 9), align_corners=True
    )
    expected = torch.nn.functional.grid_sample(torch.tensor(x), grid, align_corners=True)
    assert_close(applied(Resample(canvas_of(2, 9, 9)), x, x, {MATRIX: matrix})[0], expected.numpy(), 1e-5)


def test_transforms_are_drawn_within_their_ranges():
    random, canvas = np.random.default_rng(0), canvas_of(3, 9, 9)
    starts = [Transforms(jitter=2).draw(random, canvas)[ROLL] for _ in range(200)]
    assert {2 - start for pair in starts for start in pair} == {-2, -1, 0, 1, 2}
    assert Transforms().draw(random, canvas) == {}
    assert Transforms(jitter=5).draw(random, canvas_of(6)) == {}
    turned = [Transforms(scale=(0.5, 2), rotation=90).draw(random, canvas)[MATRIX] for _ in range(200)]
    factors = [1 / np.sqrt(np.linalg.det(matrix)) for matrix in turned]
    angles = [np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) for matrix in turned]
    assert (0.5 <= min(factors) < 0.6, 1.9 < max(factors) <= 2) == (True, True)
    assert (-90 <= min(angles) < -80, 80 < max(angles) <= 90) == (True, True)
    maps = Transforms(jitter=1, scale=(0.9, 1.1), rotation=5).maps(canvas)
    assert [type(map) for map in maps] == [Roll, Resample]


def test_a_step_at_which_nothing_changes():
    canvas, x = canvas_of(3, 5, 6), normal(1, 3, 5, 6)
    transforms = Transforms(jitter=3, scale=(0.5, 2), rotation=90)
    fed = transforms.draw(None, canvas)
    for map in transforms.maps(canvas):
        mine = {name: fed[name] for name in fed if (name == MATRIX) == isinstance(map, Resample)}
        seen, back = applied(map, x, x, mine)
        np.testing.assert_array_equal(seen, x)
        np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"jitter": -1}, "jitter=-1"), ({"scale": (1.1, 0.9)}, "scale="), ({"rotation": 200}, "rotation=200")],
)
def test_impossible_transforms(options, named):
    with pytest.raises(OptionError, match=named):
        Transforms(**options)


def test_rotation_needs_two_axes():
    with pytest.raises(OptionError, match="1 spatial axes"):
        Transforms(rotation=5).maps(canvas_of(2, 9))
