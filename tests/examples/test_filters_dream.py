"""The example of activation maximisation at its smallest size."""

from __future__ import annotations

import cv2
import pytest
from PIL import Image

import filters_dream


@pytest.mark.slow
def test_pictures_are_written(tmp_path):
    filters_dream.main(tmp_path, steps=2, width=160)
    sheets = sorted(tmp_path.glob("maximize-*.png"))
    assert [sheet.stem.removeprefix("maximize-") for sheet in sheets] == [
        "classes", "filters", "logits-or-probabilities", "regularizers",
    ]  # fmt: skip
    assert cv2.imread(str(tmp_path / "deep-dream.png")).shape == (107, 160, 3)
    with Image.open(tmp_path / "deep-dream.gif") as gif:
        assert gif.n_frames > 2
