"""The example of activation maximisation at its smallest size."""

from __future__ import annotations

import cv2
from PIL import Image

import filters_dream


def test_pictures_are_written(tmp_path):
    filters_dream.main(tmp_path, steps=2, width=64)
    sheets = sorted(tmp_path.glob("maximize-*.png"))
    assert [sheet.stem.removeprefix("maximize-") for sheet in sheets] == [
        "classes", "filters", "logits-or-probabilities", "regularizers",
    ]  # fmt: skip
    assert cv2.imread(str(tmp_path / "deep-dream.png")).shape == (43, 64, 3)
    with Image.open(tmp_path / "deep-dream.gif") as gif:
        assert gif.n_frames > 2
