"""Sphinx builds the reference documentation from the docstrings: `make docs`."""
# ruff: noqa: INP001 - Sphinx reads it by its path

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer.main
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective
from typer.cli import get_docs_for_click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "converters")]

import onnxviz  # noqa: E402 - of this tree, not an installed one
from onnxviz.cli import app  # noqa: E402

project, release = "onnxviz", onnxviz.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
suppress_warnings = ["myst.header"]  # a part of README begins at whatever level it has there

html_theme = "furo"
html_title = f"onnxviz {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = html_show_copyright = html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

add_module_names = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 96
autodoc_member_order = "bysource"
autodoc_mock_imports = ["quantus"]  # which would bring TensorFlow
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    "Array": "ndarray", "Images": "ndarray", "MapLike": "ArrayLike | Explanation", "Pixels": "ndarray",
    "npt.ArrayLike": "ArrayLike",
}  # fmt: skip
napoleon_attr_annotations = False  # the docstrings say more of arrays than their types
napoleon_numpy_docstring = False
napoleon_use_ivar = True

for field in PyObject.doc_field_types:
    if field.name == "variable":
        field.label = "Attributes"

COLON = "\0"
EXAMPLES = re.compile("\x08\n((?:.+\n)+)")
"""Paragraphs of a command's help that stay as they are."""
SEVERAL = re.compile(r":(?:ivar|param) \w+(?:, \w+)+:")
MARKUP = re.compile(r"(?P<literal>``.+?``)|(?<![*`\w])\*(?=\w+[,)])|\|(?=\w+\|)")
"""What reStructuredText would take for the beginning of emphasis or of a substitution; and literals."""


class Commands(SphinxDirective):
    """The command line's help, which typer writes in Markdown; examples, which it leaves as they are, become blocks."""

    def run(self) -> list[nodes.Node]:
        """The page's nodes."""
        command = typer.main.get_command(app)
        context = command.context_class(command, info_name="onnxviz")
        text = get_docs_for_click(obj=command, ctx=context, name="onnxviz", title="Command line")
        page = self.parse_text_to_nodes(EXAMPLES.sub(r"```text\n\1```\n", text), allow_section_headings=True)
        for node in page:
            node["support_smartquotes"] = False  # which would make a dash of an option's
        return page


def sentence(_app: Sphinx, kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a property's first colon for its type; :func:`bare` undoes it."""
    if kind in {"attribute", "data", "property"}:
        lines[0] = lines[0].replace(":", COLON)


def bare(_app: Sphinx, _kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Leave shapes like (N, *spatial), and bars as in |r|, what they are; several names of one field are one name."""
    for i, written in enumerate(lines):
        line = written.replace(COLON, ":")
        if field := SEVERAL.match(line):
            line = field[0].replace(", ", "/") + line[field.end() :]
        lines[i] = MARKUP.sub(lambda found: found["literal"] or f"\\{found[0]}", line)


def named(_app: Sphinx, _kind: str, _name: str, _object: object, _options: object, *written: str | None) -> Any:
    """Signatures with the plain names of types that Sphinx wraps."""
    return tuple(text and re.sub(r"TypeAliasForwardRef\('(.*?)'\)", r"\1", text) for text in written)


def in_signature(_app: Sphinx, _domain: object, node: nodes.Element) -> bool | None:
    """Whether a name that leads nowhere is a type in a signature, which may be one of numpy's or the engine's own."""
    while node.parent is not None and not isinstance(node, addnodes.desc_signature):
        node = node.parent
    return isinstance(node, addnodes.desc_signature) or None


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry."""
    app.add_directive("commands", Commands)
    app.connect("autodoc-process-docstring", sentence, priority=400)
    app.connect("autodoc-process-docstring", bare, priority=600)
    app.connect("autodoc-process-signature", named)
    app.connect("warn-missing-reference", in_signature)
    return {"parallel_read_safe": True}
