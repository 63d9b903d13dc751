"""Other versions of Python and of the packages: the same answers to the same questions, from the wheel.

In an environment with the lowest versions that pyproject.toml allows, and in one with the highest for each Python that
is installed. ``pytest -m long -s tests/versions`` prints which these were.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from packaging.requirements import Requirement

from tests.networks import normal
from tests.support import assert_close, model_of
from tests.versions import smoke
from tests.wheel import ROOT, build, run

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("cpu", "analysis")

BAR = 1e-5
"""Of the largest absolute value; the networks are small, and no kink lies near."""

pytestmark = pytest.mark.long


def starts(python: str) -> bool:
    """Whether there is a Python of this version."""
    found = shutil.which(f"python{python}")
    return found is not None and not subprocess.run([found, "--version"], capture_output=True, check=False).returncode


ENVIRONMENTS = [("3.11", "lowest"), *((python, "highest") for python in PYTHONS if starts(python))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def files(tmp_path_factory, subjects, pictured) -> Path:
    """Explainable files, inputs for them, and a plain file."""
    folder = tmp_path_factory.mktemp("files")
    for name in (*smoke.MAPS, "mixed", "classifier"):
        shutil.copy(subjects(name).path, folder / f"{name}.onnx")
        np.save(folder / f"{name}.npy", subjects(name).x())
    shutil.copy(pictured.path, folder / "pictured.onnx")
    onnx.save(two_slopes(), folder / "plain.onnx")
    np.save(folder / "converted.npy", normal(3, 6))
    return folder


def two_slopes() -> onnx.ModelProto:
    """Two activations whose gradients are one function of two bodies, and whose values have one shape."""
    weights = {"w": normal(6, 5), "m": normal(5, 5, seed=1)}
    nodes = "a = MatMul(x, w) b = LeakyRelu<alpha = 0.5>(a) c = MatMul(b, m) y = LeakyRelu<alpha = 0.1>(c)"
    return model_of(nodes, "float[N, 6] x", "float[N, 5] y", weights)


@pytest.fixture(scope="module")
def expected(files, tmp_path_factory) -> dict[str, np.ndarray]:
    """What the environment of the tests answers."""
    folder = tmp_path_factory.mktemp("here")
    shutil.copytree(files, folder, dirs_exist_ok=True)
    return smoke.answers(folder)


def lowest() -> list[str]:
    """The lower bounds in pyproject.toml, as exact versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *(one for e in EXTRAS for one in project["optional-dependencies"][e])]
    bounds = ((r.name, s) for r in map(Requirement, declared) for s in r.specifier)
    return [f"{name}=={bound.version}" for name, bound in bounds if bound.operator == ">="]


@pytest.mark.parametrize(("python", "versions"), ENVIRONMENTS)
def test_the_same_answers(wheel, files, expected, tmp_path, python, versions):
    run([f"python{python}", "-m", "venv", "venv"], tmp_path)
    exact = lowest() if versions == "lowest" else []
    inside = tmp_path / "venv" / "bin" / "python"
    run([inside, "-m", "pip", "install", "--quiet", f"{wheel}[{','.join(EXTRAS)}]", *exact], tmp_path)
    shutil.copytree(files, tmp_path / "files")
    print(run([inside, smoke.__file__, tmp_path / "files"], tmp_path, OMP_NUM_THREADS="1"))  # noqa: T201
    with np.load(tmp_path / "files" / "found.npz") as found:
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert_close(found[name], value, BAR)
