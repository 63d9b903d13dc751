"""The benchmark runs and compares equal results."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.measure import Quartiles, ratio


def test_the_quick_benchmark(tmp_path):
    out = tmp_path / "times.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--model", "small", "--batch", "1,2", "--out", out]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    table = [line for line in printed.splitlines() if line.startswith("| small")]
    written = json.loads(out.read_text())
    assert written["where"]["versions"].keys() >= {"onnxruntime", "torch", "numpy"}
    assert [(row["batch"], row["method"]) for row in written["rows"]] == [
        (batch, method) for batch in (1, 2) for method in ("saliency", "guided_backprop", "grad_cam")
    ]
    assert len(table) == len(written["rows"])
    for row in written["rows"]:
        assert row["seconds"].keys() >= {"onnxviz", "forward", "torch", "from Keras", "tensorflow"}
        assert min(row["likenesses"].values()) > 0.999
        assert all(len(times) >= 3 and min(times) > 0 for times in row["seconds"].values())


def test_ratios_are_taken_round_by_round():
    times = {"a": [2.0, 20.0, 200.0], "b": [1.0, 10.0, 100.0]}
    assert ratio(times, "a", "b") == Quartiles(2.0, 2.0, 2.0)
