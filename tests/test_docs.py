"""The reference documentation: built without a warning or a request, and complete."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main
from sphinx.util.inventory import InventoryFile

import onnxviz as ov
from onnxviz import errors, manifest
from onnxviz.cli import app

ROOT = Path(__file__).parents[1]
LOADING = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements that make a browser fetch what this attribute of theirs names."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built pages; a warning is an error, a reference that leads nowhere a warning."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "trees"]
    done = subprocess.run([*command, ROOT / "docs", folder / "site"], capture_output=True, text=True, check=False)
    assert not done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def described(site) -> set[str]:
    """The full names of all that is described."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}


def public() -> set[str]:
    """What users may call: the package's names, what its modules and its Explainer have, and its errors."""
    names = set()
    for name in ov.__all__:
        member = getattr(ov, name)
        names |= {f"onnxviz.{name}"} if not inspect.ismodule(member) else {f"onnxviz.{name}.{n}" for n in own(member)}
    names |= {f"onnxviz.Explainer.{name}" for name in (*dir(ov.Explainer), "layers") if not name.startswith("_")}
    return names | {f"onnxviz.errors.{name}" for name in own(errors)} - {"onnxviz.errors.nearest"}


def own(module) -> list[str]:
    """The public functions and classes of a module."""
    defined = [n for n, member in vars(module).items() if getattr(member, "__module__", "") == module.__name__]
    return getattr(module, "__all__", [name for name in defined if not name.startswith("_")])


def test_all_that_is_public_is_described(described):
    assert {"onnxviz.Explainer.saliency", "onnxviz.plot.sheet", "onnxviz.targets.box"} <= public()
    assert sorted(public() - described) == []


def test_the_command_line_is_described(site):
    page = (site / "reference" / "command_line.html").read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():
        assert f'id="onnxviz-{name}"' in page
        assert all(option in page for parameter in command.params for option in parameter.opts if option[0] == "-")


@pytest.mark.parametrize("kind", [manifest.Manifest, manifest.Tensor, manifest.Layer, manifest.Output, manifest.Input])
def test_the_metadata_are_described(site, kind):
    page = (site / "inside" / "file.html").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", re.sub(r"<[^>]+>", "", page)))
    assert {field.name for field in fields(kind)} - words == set()


class Loaded(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        address = dict(attrs).get(LOADING.get(tag))
        self.addresses += [address] if address else []


def test_the_pages_ask_nobody_for_anything(site):
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert len(pages) > 10
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        for address in loaded.addresses:
            assert "//" not in address, page
            assert (page.parent / address.partition("?")[0].partition("#")[0]).resolve().exists(), (page, address)
    assert styles
    for style in styles:
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style
