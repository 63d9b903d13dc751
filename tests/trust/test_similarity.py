"""Measures of similarity, against SciPy's and scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine as cosine_distance
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from onnxviz.trust.similarity import MEASURES, cosine, spearman, ssim
from tests.support import normal

PAIRS = {
    "noise": (normal(3, 20, 17), normal(3, 20, 17, seed=1)),
    "alike": (normal(1, 30, 30), normal(1, 30, 30) + 0.3 * normal(1, 30, 30, seed=1)),
    "many ties": (np.round(normal(1, 16, 16)), np.round(normal(1, 16, 16, seed=1))),
    "opposite": (normal(2, 12, 12), -normal(2, 12, 12)),
}


@pytest.mark.parametrize(("a", "b"), PAIRS.values(), ids=PAIRS)
def test_as_other_libraries_measure(a, b):
    assert spearman(a, b) == pytest.approx(spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic, abs=1e-9)
    assert cosine(a, b) == pytest.approx(
        1 - cosine_distance(a.ravel().astype(float), b.ravel().astype(float)), abs=1e-6
    )
    x, y = (np.abs(v.astype(np.float64)).sum(0) for v in (a, b))
    expected = structural_similarity(
        x / x.max(), y / y.max(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert ssim(a, b, (1, 2)) == pytest.approx(expected, abs=1e-6)


def test_series_and_volumes_have_structure_too():
    for shape, space in (((2, 40), (1,)), ((1, 13, 12, 14), (1, 2, 3))):
        a, b = normal(*shape), normal(*shape, seed=1)
        expected = structural_similarity(
            *(np.abs(v.astype(float)).sum(0) / np.abs(v.astype(float)).sum(0).max() for v in (a, b)),
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
        )  # fmt: skip
        assert ssim(a, b, space) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("shape", "space"), [((3, 9, 9), (1, 2)), ((4, 4), (0, 1)), ((6,), ())])
def test_a_map_is_like_itself(measure, shape, space):
    a = normal(*shape)
    assert MEASURES[measure](a, a, space) == pytest.approx(1)
    assert MEASURES[measure](a, 5 * a, space) == pytest.approx(1)


def test_a_map_without_differences_ranks_nothing():
    assert spearman(np.zeros((4, 4)), normal(4, 4)) == 0
    assert cosine(np.zeros((4, 4)), normal(4, 4)) == 0
    assert np.isfinite(ssim(np.zeros((4, 4)), normal(4, 4), (0, 1)))
