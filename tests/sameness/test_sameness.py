"""The same file, input and provider give the same maps: in other processes, with other threads, tomorrow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxviz as ov
from onnxviz.errors import FileFormatError
from onnxviz.manifest import FORMAT_VERSION
from tests.hostile import specimens
from tests.sameness import stored

X = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
ROUNDING = 2e-6
"""Of the largest value of a map: what another order of its sums changes, some times float32's 6e-8."""
METHODS = ["gradient", "saliency", "guided_backprop", "grad_cam", "integrated_gradients", "smooth_grad", "occlusion"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return specimens.healthy(tmp_path_factory.mktemp("same"))["explainable"]


def maps(path: Path, **options) -> dict[str, np.ndarray]:
    with ov.load(path, providers="cpu", **options) as ex:
        return {method: ex.explain(X, method, 1).values for method in METHODS}


@pytest.mark.parametrize("kind", ["onnx", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("torch", "keras"))])
def test_other_processes_convert_and_explain_to_the_bit(kind):
    """Python orders sets by a seed of its own in each process: neither the file nor a map depends on it."""
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        script = [sys.executable, "-m", "tests.sameness.digests", kind]
        found.add(subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout)
    (told,) = found
    assert [line.split()[0] for line in told.splitlines()][:3] == ["file", "saliency", "guided_backprop"]


@pytest.mark.parametrize("threads", [1, 2])
def test_again_to_the_bit(path, threads):
    first, second = maps(path, threads=threads), maps(path, threads=threads)
    assert all(np.array_equal(first[method], second[method]) for method in METHODS)


@pytest.mark.parametrize("options", [
    {"threads": 2}, {"threads": 1, "batch_size": 1}, {"threads": 1, "batch_size": 4}, {"threads": 1, "optimize": False},
], ids=str)  # fmt: skip
def test_other_orders_of_the_same_sums(path, options):
    """Threads, chunks and optimisations: within rounding."""
    one = maps(path, threads=1)
    for method, values in maps(path, **options).items():
        assert np.abs(values - one[method]).max() <= ROUNDING * np.abs(one[method]).max(), method


# ----- earlier and later files -----


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_file_of_each_version_means_the_same(version):
    expected = np.load(stored.path_of(version).with_suffix(".npz"))
    found = stored.answers(stored.path_of(version))
    assert found.keys() == set(expected.files)
    for name, values in found.items():
        bar = 1e-4 if name == "maximize" else 1e-5  # steps of an ascent add their rounding up
        assert np.abs(values - expected[name]).max() <= bar * np.abs(expected[name]).max(), name


def edited(folder: Path, **entries: str) -> Path:
    """Today's file with other entries in its metadata."""
    model = onnx.load(stored.path_of(1))
    own = {entry.key: entry for entry in model.metadata_props}
    for key, value in entries.items():
        (own.get(f"onnxviz.{key}") or model.metadata_props.add(key=f"onnxviz.{key}")).value = value
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("version", ["0", "2", "1.5", '"1"', "{}", "latest"])
def test_a_file_of_another_version_says_what_to_do(tmp_path, version):
    with pytest.raises(FileFormatError) as refusal:
        ov.load(edited(tmp_path, format_version=version))
    said = str(refusal.value)
    assert f"has format version {version}, this onnxviz reads {FORMAT_VERSION}" in said
    assert "convert the model again, or install the onnxviz that wrote it" in said
    assert "'onnxviz'" in said or '"onnxviz"' in said, "the versions that wrote it are told"


def test_what_a_later_release_adds_is_left_alone(tmp_path):
    path = edited(tmp_path, colours='{"new": [1, 2]}', versions='{"onnxviz":"0.9.0","onnx":"2.0"}')
    found, expected = stored.answers(path), stored.answers(stored.path_of(1))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    with ov.load(path) as ex:
        assert ex.metadata["versions"]["onnxviz"] == "0.9.0"
