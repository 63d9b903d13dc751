"""The notebook runs, and what it shows is what it stores."""

from __future__ import annotations

import re

import nbformat
import pytest

import refresh_notebook

EMBEDDED = re.compile('base64,[^"]*')
STORED = nbformat.read(refresh_notebook.TOUR, as_version=4)


def shown(cell) -> list[str]:
    """What a cell displays, as text: pictures by their kind alone, numbers of whole layers not at all."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        text = data.get("text/html") or data.get("text/plain") or output.get("text") or f"{output}"
        found.append(f"{sorted(data)} {re.sub(EMBEDDED, '', text)}")
    return found


@pytest.mark.slow
def test_it_runs_and_shows_what_it_stores():
    fresh = refresh_notebook.executed(refresh_notebook.TOUR)
    for cell, stored in zip(fresh.cells, STORED.cells, strict=True):
        if cell.cell_type == "code":
            assert shown(cell) == shown(stored), cell.source


def test_it_is_small_and_shows_pictures():
    assert refresh_notebook.TOUR.stat().st_size < 400_000
    pictures = [
        (output.data, cell.source) for cell in STORED.cells if cell.cell_type == "code" for output in cell.outputs
        if "data" in output
    ]  # fmt: skip
    assert sum("image/png" in data for data, _ in pictures) == 1
    assert sum("<img" in data.get("text/html", "") for data, _ in pictures) == 1
    assert sum("<table" in data.get("text/html", "") for data, _ in pictures) == 3
