"""The versions of onnxruntime that the engine refuses: what they compute is wrong at times, and nothing tells."""

from __future__ import annotations

import re

import onnxruntime
import pytest

from onnxviz.engine.session import runtime
from onnxviz.errors import MissingDependencyError


@pytest.mark.parametrize(
    ("version", "works"), [("1.9.0", False), ("1.29.0", False), ("1.30.0", True), ("1.32.0", True), ("2.0.0", True)]
)
def test_a_version_that_is_too_old_is_refused(monkeypatch, version, works):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    if works:
        assert runtime() is onnxruntime
    else:
        with pytest.raises(
            MissingDependencyError, match=rf"needs onnxruntime 1\.30 or later, and {re.escape(version)} is"
        ):
            runtime()
