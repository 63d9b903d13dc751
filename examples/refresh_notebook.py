"""Run the notebook anew and keep its outputs: `python examples/refresh_notebook.py`.

Usage: python examples/refresh_notebook.py [notebook], by default examples/tour.ipynb. It needs nbclient and ipykernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TOUR = HERE / "tour.ipynb"


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    paths = [str(HERE.parent), str(HERE.parent / "converters"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "ignore"}
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(HERE)}}, record_timing=False)
    client.execute(env=environment)
    return notebook


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else TOUR
    nbformat.write(executed(chosen), chosen)
    print(f"{chosen}: {chosen.stat().st_size / 1000:.0f} kB")
