"""What takes the place of pixels, against a direct solver and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from onnxviz.trust.filling import blurred, imputed
from tests.support import normal

HEIGHT, WIDTH = 41, 37
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
MISSING = {
    "disc": np.hypot(ROWS - 20, COLUMNS - 18) < 9,
    "all around": np.hypot(ROWS - 20, COLUMNS - 18) > 7,
    "scattered": np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.8,
    "half": COLUMNS < 18,
    "a corner is known": (ROWS > 1) | (COLUMNS > 1),
    "one pixel": (ROWS == 0) & (COLUMNS == 0),
    "nothing": ROWS < 0,
}


def direct(picture, missing):
    """Each missing pixel minus the weighted mean of the neighbours that it has is 0."""
    number = np.full(missing.shape, -1)
    number[missing] = np.arange(missing.sum())
    rows, columns, entries = [], [], []
    right, total = np.zeros((missing.sum(), picture.shape[2])), np.zeros(missing.sum())
    for y, x in np.argwhere(missing):
        for v in range(max(0, y - 1), min(len(picture), y + 2)):
            for u in range(max(0, x - 1), min(picture.shape[1], x + 2)):
                weight = {0: 0, 1: 1 / 6, 2: 1 / 12}[abs(v - y) + abs(u - x)]
                total[number[y, x]] += weight
                if missing[v, u]:
                    rows.append(number[y, x]), columns.append(number[v, u]), entries.append(-weight)
                else:
                    right[number[y, x]] += weight * picture[v, u]
    matrix = coo_array((entries, (rows, columns)), shape=(len(total),) * 2) + diags_array(total)
    result = picture.astype(np.float64)
    result[missing] = spsolve(matrix.tocsc(), right).reshape(right.shape)
    return result


@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
def test_pixels_from_their_neighbours(missing):
    picture = cv2.GaussianBlur(normal(HEIGHT, WIDTH, 3), (0, 0), 3)
    found = imputed(picture, missing)
    assert found.dtype == picture.dtype
    assert np.array_equal(found[~missing], picture[~missing])
    if missing.any():
        assert np.abs(found - direct(picture, missing)).max() < 0.01 * np.ptp(picture)


def test_blurred_as_opencv_blurs():
    x = normal(2, 3, 30, 31)
    expected = [[cv2.GaussianBlur(c, (11, 11), 5, borderType=cv2.BORDER_REPLICATE) for c in sample] for sample in x]
    np.testing.assert_allclose(blurred(x, (2, 3)), expected, atol=1e-5)
    np.testing.assert_allclose(blurred(x.transpose(0, 2, 3, 1), (1, 2)).transpose(0, 3, 1, 2), expected, atol=1e-5)
