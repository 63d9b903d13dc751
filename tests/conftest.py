"""What holds for all tests."""

from __future__ import annotations

import os

# Several workers share the machine: each gets one thread for torch's and numpy's kernels. Read when they are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime
import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where ONNX Runtime has none; pytest counts it as deselected."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
