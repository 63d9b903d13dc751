"""Two photos side by side: the map of each one's class lies on its own half."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from benchmarks.localisation import PHOTOS, measure, own_shares, pictures, table


@pytest.mark.parametrize(
    ("name", "layer", "least", "mean"),
    [
        ("efficientnet_lite0", "_bn1", 40, 0.9),
        ("squeezenet", "fire9.concat", 36, 0.7),
        ("squeezenet_keras", "fire9_concat", 36, 0.7),
    ],
)
def test_grad_cam_lies_on_the_classs_own_half(converted, name, layer, least, mean):
    explainer = converted(name).explainer
    x, classes = pictures(explainer.image_input)
    maps = explainer.grad_cam(x, classes, layer=layer)
    assert maps.shape == (20, 2, *explainer.image_input.size)
    own = own_shares(maps)
    assert (own > 0.5).sum() >= least, np.round(own, 2)
    assert own.mean() >= mean


# ----- python -m benchmarks.localisation -----

COLUMNS = np.array([[[3, 1, 0, 0], [1, 1, 2, 0]], [[0, 0, 0, 0], [-5, 1, 1, 2]]], np.float32)
"""Pairs × classes × width."""
OWN = [[1, 0.5], [np.nan, 0.75]]


@pytest.mark.parametrize("shape", [(2, 2, 4), (2, 2, 1, 4), (2, 2, 1, 1, 4)])
def test_shares_of_maps_with_and_without_channels(shape):
    axes = ("batch", "target", *["channel"][: len(shape) - 4], "spatial", "spatial")[: len(shape)]
    wide = np.repeat(COLUMNS.reshape(shape), 3, axis=-2) if len(shape) > 3 else COLUMNS
    np.testing.assert_array_equal(own_shares(ov.Explanation(wide, axes, "a method")), OWN)


def test_shares_of_maps_with_channels_last():
    first = np.broadcast_to(COLUMNS[:, :, None, :, None], (2, 2, 5, 4, 3))
    axes = ("batch", "target", "spatial", "spatial", "channel")
    np.testing.assert_array_equal(own_shares(ov.Explanation(first, axes, "a method")), OWN)


def test_one_map_for_both_classes_is_on_one_half_what_it_is_not_on_the_other():
    one = ov.Explanation(np.array([[[3, 1, 4, 0]]]), ("batch", "spatial", "spatial"), "a method")
    assert own_shares(one).tolist() == [[0.5, 0.5]]
    other = ov.Explanation(np.array([[[3, 0, 1, 0]]]), ("batch", "spatial", "spatial"), "a method")
    assert own_shares(other).tolist() == [[0.75, 0.25]]


def test_the_pictures_are_all_ordered_pairs(converted):
    image_input = converted("squeezenet").explainer.image_input
    x, classes = pictures(image_input, ("coffee", "camera", "chelsea"))
    assert classes.tolist() == [[967, 872], [967, 285], [872, 967], [872, 285], [285, 967], [285, 872]]
    assert x.shape == (6, 3, 227, 227)
    assert np.array_equal(x[0, ..., :113], x[1, ..., :113])
    assert np.array_equal(x[1, ..., 113:], x[3, ..., 113:])
    assert len(pictures(image_input)[0]) == len(PHOTOS) * (len(PHOTOS) - 1)


def test_the_table(converted):
    methods = ("grad_cam", "guided_grad_cam", "eigen_cam")
    found = measure(converted("squeezenet").explainer, "fire9.concat", methods, ("chelsea", "coffee"))
    assert [shares.shape for shares in found.values()] == [(2, 2)] * 3
    np.testing.assert_allclose(found["eigen_cam"].sum(1), 1)
    lines = table({"one": found, "two": {method: 1 - shares for method, shares in found.items()}}).splitlines()
    assert lines[0].split(" | ")[1:] == [
        "one: mean share",
        "larger part on the own half",
        "two: mean share",
        "larger part on the own half |",
    ]
    mean = found["grad_cam"].mean()
    assert lines[2] == f"| `grad_cam` | {mean:.2f} | 4 of 4 | {1 - mean:.2f} | 0 of 4 |"
    assert lines[3].startswith("| `guided_grad_cam` |")
    assert lines[4] == "| `eigen_cam` (class-blind) | 0.50 | 2 of 4 | 0.50 | 2 of 4 |"


def test_empty_maps_are_told():
    shares = np.array(OWN)
    assert table({"net": {"score_cam": shares}}).splitlines()[-1] == "| `score_cam` | 0.56 | 2 of 4, 1 empty |"
    with_half = np.nan_to_num(shares, nan=0.75)
    assert table({"net": {"score_cam": with_half}}).splitlines()[-1] == "| `score_cam` | 0.75 | 3 of 4 |"
