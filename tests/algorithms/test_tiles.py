"""Pictures in tiles: what is cut, and what it is joined to."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.tiles import CHOSEN, RETURNS, Tiles
from tests.algorithms.appended import appended
from tests.support import assert_close, normal

CASES = {
    "image": ((3, 11, 25), (8, 8)), "one axis": ((2, 16, 5), (8, None)), "series": ((2, 19), (8,)),
    "smaller": ((1, 3, 20), (8, 8)), "as it is": ((3, 5, 6), (None, None)), "volume": ((1, 9, 4, 10), (4, 4, 4)),
}  # fmt: skip


def tiles_of(name):
    shape, windows = CASES[name]
    return Tiles(Canvas(shape[:1], shape[1:], tuple(range(len(shape) + 1))), windows), normal(1, *shape)


def all_of(tiles, picture):
    (fed,) = tiles.runs(1000, None)
    return appended(lambda add: tiles.cut(add, "x"), x=picture, **{CHOSEN: fed[CHOSEN]})[0]


@pytest.mark.parametrize("name", CASES)
def test_tiles_are_what_lies_there(name):
    """Tile by tile, by places modulo the picture's size."""
    tiles, picture = tiles_of(name)
    parts, expected = all_of(tiles, picture), []
    windows = [window or n for window, n in zip(tiles.windows, tiles.canvas.space, strict=True)]
    for corner in np.ndindex(*tiles.rows):
        places = [(k * w + np.arange(w)) % n for k, w, n in zip(corner, windows, tiles.canvas.space, strict=True)]
        expected.append(picture[(slice(0, 1), slice(None), *np.ix_(*places))][0])
    np.testing.assert_array_equal(parts, np.stack(expected))
    assert tiles.count == len(parts)
    assert tiles.window.shape == parts.shape[1:]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("most", "static"), [(1000, None), (2, None), (4, 4)])
def test_what_tiles_say_is_joined_as_a_mean_over_several_runs(name, most, static):
    tiles, picture = tiles_of(name)
    said = normal(*all_of(tiles, picture).shape, seed=1)
    joined, returned, seen = 0, 0, []
    for fed in tiles.runs(most, static):
        rows = said[fed[CHOSEN]]
        parts = appended(
            lambda add: [tiles.join(add, "rows"), tiles.returned(add, "scores")],
            rows=rows, scores=rows[:, 0].reshape(len(rows), -1)[:, 0], **{RETURNS: fed[RETURNS]},
        )  # fmt: skip
        joined, returned = joined + parts[0], returned + parts[1]
        seen.append(len(rows))
    assert set(seen) == {static} if static else max(seen) <= most
    expected, count = np.zeros(picture.shape), np.zeros(picture.shape)
    (places,) = (all_of(tiles, np.arange(picture.size, dtype=np.float32).reshape(picture.shape)).astype(int),)
    np.add.at(expected.reshape(-1), places, said)
    np.add.at(count.reshape(-1), places, 1)
    assert_close(joined, expected / count, 1e-6)
    np.testing.assert_array_equal(returned, said[:, 0].reshape(len(said), -1)[:, 0])
