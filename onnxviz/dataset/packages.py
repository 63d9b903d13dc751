"""Packages that data sets need and nothing else does."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from onnxviz.errors import MissingDependencyError

EXTRAS = {"zarr": "data", "pyarrow": "data", "ray": "ray"}


def optional(module: str) -> Any:
    """A module of an optional dependency.

    Raises:
        MissingDependencyError: it is not installed; the message says which extra to install.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this data set needs {package}: pip install 'onnxviz[{EXTRAS[package]}]'"
        ) from error
