"""What a new user does: README's session, from `pip install` to an explained photo, with the wheel that is built."""

from __future__ import annotations

import os
import re
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import zoo
from tests.readme import blocks
from tests.wheel import ROOT, SOURCES, build, run

SESSION = "From nothing to an explained photo"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (file.relative_to(home) for name, home in SOURCES.items() for file in (home / name).rglob("*"))
    assert packed == {file.as_posix() for file in files if file.suffix and "__pycache__" not in file.parts}


def session() -> Iterator[tuple[str, list[str]]]:
    """The session's commands, and what each prints."""
    lines = "".join(blocks(SESSION, "console")).splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start].removeprefix("$ "), lines[start + 1 : end]


def prepared(folder: Path) -> Path:
    """A folder with what the user brings: a photo, and the script that converts."""
    folder.mkdir()
    Image.fromarray(zoo.photos()["chelsea"]).save(folder / "photo.jpg")
    (script,) = blocks(SESSION, "python")
    (folder / "convert.py").write_text(script, encoding="utf-8")
    return folder


def said(lines: list[str]) -> list[str]:
    """Without what differs between machines by rounding: numbers, and whether a gradient was checked by stages."""
    return [NUMBER.sub("…", line.removesuffix(", stage by stage")) for line in lines]


def assert_explained(folder: Path) -> None:
    with Image.open(folder / "photo.grad_cam.png") as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 10_000


@pytest.mark.slow
def test_the_session_but_for_the_installation(wheel, tmp_path):
    """With the wheel's own files, in the environment of the tests."""
    site, folder = tmp_path / "site", prepared(tmp_path / "user")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], folder)
    path = os.pathsep.join([str(site / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    commands = [(command, printed) for command, printed in session() if not command.startswith("pip ")]
    assert len(commands) >= 2
    for command, printed in commands:
        found = run(["bash", "-c", command], folder, PATH=path, PYTHONPATH=str(site))
        assert said(found.splitlines()) == said(printed)
    assert str(site) in run(
        [sys.executable, "-c", "import onnxviz; print(onnxviz.__file__)"], folder, PYTHONPATH=str(site)
    )
    assert_explained(folder)


@pytest.mark.long
def test_the_session(wheel, tmp_path):
    """In an environment of its own: each line as a user types it; ``onnxviz`` is the wheel."""
    folder = prepared(tmp_path / "user")
    venv.create(tmp_path / "venv", with_pip=True)
    settings = {
        "PATH": os.pathsep.join([str(tmp_path / "venv" / "bin"), os.environ["PATH"]]),
        "PIP_FIND_LINKS": f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}",
        "PIP_CONSTRAINT": str(ROOT / "tests" / "constraints.txt"),
    }
    for command, printed in session():
        found = run(["bash", "-c", command], folder, **settings)
        assert command.startswith("pip ") or said(found.splitlines()) == said(printed)
    assert_explained(folder)
