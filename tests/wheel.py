"""The wheel of this tree, and commands that run where nothing of the tree is on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {"onnxviz": ROOT, "onnxviz_keras": ROOT / "converters", "onnxviz_torch": ROOT / "converters"}
"""Package → the folder that it lies in."""


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """What a command prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel into a folder, from a copy of the sources: the build writes beside them."""
    for name, home in SOURCES.items():
        place = folder / "source" / home.relative_to(ROOT) / name
        shutil.copytree(home / name, place, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    run([*pip, folder / "source"], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel
