"""What holds for all tests."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import venv
import warnings

# Several workers share the machine: each gets one thread for torch's and numpy's kernels. Read when they are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import onnx
import onnxruntime
import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from onnxviz import Explainer
    from tests.support import Subject

TRAINING = "onnxruntime-training-cpu==1.19.2"

settings.register_profile("ordinary", derandomize=True, database=None, deadline=None, max_examples=400)
settings.register_profile("long", deadline=None, max_examples=5000)  # pytest --hypothesis-profile=long
settings.load_profile("ordinary")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where ONNX Runtime has none; pytest counts it as deselected."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Other libraries may warn of what they do: Captum of the hooks that it sets, Quantus of much."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def quantus() -> ModuleType:
    """Quantus, which warns when it is imported, after it was told of explainers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("onnxviz.compat.quantus")
        return importlib.import_module("quantus")


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """The networks of :mod:`tests.support` by name, each converted when it is first asked for."""
    from tests import support  # imports torch, which tests without networks do not need

    folder = tmp_path_factory.mktemp("converted")

    @cache
    def subject(name: str) -> Subject:
        return support.Subject(name, support.network(name), support.convert(name, folder / f"{name}.onnx"))

    return subject


@pytest.fixture
def cnn(subjects) -> Subject:
    """The smallest convolutional network, for tests that any network would do for."""
    return subjects("cnn")


@pytest.fixture(scope="session")
def pictured(tmp_path_factory) -> Explainer:
    """The same with a description of its pictures and names of classes."""
    import onnxviz as ov
    from tests.support import convert

    image = ov.ImageInput(12, scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    path, classes = tmp_path_factory.mktemp("pictured") / "net.onnx", ["crane", "Egyptian cat", "crane", "cup", "x:1"]
    return ov.load(convert("cnn", path, input=image, classes=classes))


@pytest.fixture
def plain(tmp_path) -> Path:
    """A plain ONNX file."""
    from tests.support import mlp

    onnx.save(mlp(), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def _converted(folder: Path, **options) -> Path:
    import onnxviz
    from tests.support import mlp

    return onnxviz.convert(mlp(), folder / "net.onnx", quiet=True, **options)


@pytest.fixture(scope="session")
def file(tmp_path_factory) -> Path:
    """An explainable file; not to be changed."""
    return _converted(tmp_path_factory.mktemp("file"))


@pytest.fixture(scope="session")
def two_files(tmp_path_factory) -> Path:
    """The folder of an explainable file with its weights beside; not to be changed."""
    return _converted(tmp_path_factory.mktemp("two"), external_data=True).parent


@pytest.fixture
def beside(two_files, tmp_path) -> Path:
    """A copy of that file, to be changed."""
    shutil.copytree(two_files, tmp_path / "copy")
    return tmp_path / "copy" / "net.onnx"


@pytest.fixture(scope="session")
def training_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment with the training build and numpy."""
    folder = request.config.cache.mkdir("onnxruntime-training")
    python = folder / "bin" / "python"
    with FileLock(folder / "lock"):
        if not (folder / "installed").exists():
            venv.create(folder, with_pip=True)
            constraints = Path(__file__).parent / "constraints.txt"
            install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--constraint", constraints]
            subprocess.run([*install, TRAINING, "numpy"], check=True)
            (folder / "installed").touch()
    return python


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The command of Node.js, and a folder with scripts, packages and a browser."""
    from tests import javascript

    folder = request.config.cache.mkdir("javascript")
    with FileLock(folder / "lock"):
        return javascript.installed(folder)
