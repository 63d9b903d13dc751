"""Samples, and what a sink holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset import contents


@pytest.fixture(scope="session")
def network(subjects):
    """A convolutional network on arrays, computed by one thread."""
    return subjects("cnn").explainer


@pytest.fixture(scope="session")
def x(subjects) -> np.ndarray:
    """Eight samples for it."""
    return subjects("cnn").x(8)


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder: five pictures, of different sizes, two that are none, and one that is cut off."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for i, size in enumerate([(12, 12), (30, 20), (12, 40), (9, 9), (12, 12)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{2 * i}.png")
    (folder / "1.png").write_text("no picture")
    (folder / "5.jpg").touch()
    (folder / "7.png").write_bytes((folder / "2.png").read_bytes()[:60])
    return folder


@pytest.fixture(params=[".zarr", ".parquet"])
def sink(request, tmp_path) -> Path:
    """A path of each kind of sink."""
    return tmp_path / f"maps{request.param}"


@pytest.fixture
def held():
    """What a sink holds, by the column's name, whichever kind it is."""
    return contents.read
