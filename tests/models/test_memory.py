"""Memory on a network of VGG16's size, 138 million parameters, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def measure(what, path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.models.resident", what, str(path)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(ended.stdout.splitlines()[-1])


def test_of_a_network_of_138_million_parameters(tmp_path):
    path = tmp_path / "vgg16.onnx"
    conversion = measure("convert", path)
    assert conversion["weights"] > 138e6 * 4
    explaining = measure("explain", path)
    assert explaining["methods"] >= 5
    assert explaining["resident"] <= 3 * conversion["weights"]
    path.unlink()  # pytest keeps the folders of its last runs
