"""README names exactly the operators that have a rule."""

import re
from pathlib import Path

import onnxviz.gradient  # noqa: F401 - fills the registry
from onnxviz.gradient.registry import VJPS


def listed() -> list[str]:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    block = re.search(r"<!-- operators:.*?-->\n(.*?)<!-- /operators -->", text, re.DOTALL)
    assert block is not None
    return re.findall(r"`([^`]+)`", block.group(1))


def test_readme_lists_the_operators_with_a_rule():
    registered = sorted(op_type for domain, op_type in VJPS if domain == "")
    assert listed() == registered
