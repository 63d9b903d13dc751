"""The table of cases, a module per family of rules."""

import importlib

from onnxviz.gradient import rules

FAMILIES = [importlib.import_module(f"{__name__}.{family}") for family in rules.__all__]
CASES = [case for family in FAMILIES for case in family.CASES]
