"""Five thousand photos and a real network: killed twice, in flat memory, hardly slower than the engine alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import onnxviz as ov

PHOTOS, BATCH = 5000, 32
BAD = (17, 2500, 4999)


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> Path:
    import torch

    import zoo

    network, image_input = zoo.squeezenet()
    path = tmp_path_factory.mktemp("squeezenet") / "squeezenet.onnx"
    return ov.convert(network, path, example=torch.randn(1, 3, 227, 227), input=image_input, quiet=True)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory) -> Path:
    import torch

    from benchmarks.networks import build

    path, image_input = tmp_path_factory.mktemp("resnet18") / "resnet18.onnx", ov.ImageInput.preset("torchvision")
    return ov.convert(build("resnet18"), path, example=torch.randn(1, 3, 224, 224), input=image_input, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Crops of four photos at the network's size; three files are none."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    whole = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    for i in range(PHOTOS):
        photo = whole[i % len(whole)]
        y, x = (rng.integers(0, side - 227) for side in photo.shape[:2])
        Image.fromarray(photo[y : y + 227, x : x + 227]).save(folder / f"{i:05}.jpg", quality=90)
    for i in BAD:
        (folder / f"{i:05}.jpg").write_bytes((folder / f"{i:05}.jpg").read_bytes()[:500])
    return folder


def started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.dataset.explaining", *map(str, arguments)]
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": ""}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def batches(sink: Path) -> int:
    """How many are marked as done."""
    return len(list((sink / "status").glob("c.*"))) - len(list((sink / "status").glob("*.partial")))


@pytest.mark.long
def test_killed_twice_nothing_lost_nothing_twice_memory_flat(squeezenet, folder, tmp_path, held):
    sink = tmp_path / "maps.zarr"
    for at in (40, 100):
        with started(squeezenet, folder, sink, "saliency") as child:
            while batches(sink) < at:
                assert child.poll() is None
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
    there = batches(sink)
    with started(squeezenet, folder, sink, "saliency") as child:
        said = json.loads(child.communicate()[0])
    assert said["resumed"] == there * BATCH, "what was marked is not done again"
    assert said["samples"] == PHOTOS
    assert [Path(name).stem for name in said["skipped"]] == [f"{i:05}" for i in BAD]
    found = held(sink)
    assert found["name"] == sorted(map(str, folder.iterdir()))
    assert sum(one is None for one in found["map"]) == len(BAD)
    assert_alike(squeezenet, found, (0, 1279, 1280, 3199, 3200, PHOTOS - 2))
    resident = np.array(said["resident"])
    early, late = resident[len(resident) // 3 : len(resident) // 2], resident[-len(resident) // 4 :]
    sys.stderr.write(
        f"\nresident: {np.median(early):.0f} then {np.median(late):.0f} MiB, at most {resident.max():.0f}\n"
    )
    assert np.median(late) < np.median(early) * 1.05


def assert_alike(file: Path, found: dict, samples: tuple[int, ...]) -> None:
    """Maps on both sides of the kills are those of the engine alone, each with its own photo."""
    with ov.load(file, providers="cpu") as ex:
        for i in samples:
            expected = ex.saliency(ex.read_image(found["name"][i])).values[0]
            np.testing.assert_allclose(found["map"][i], expected, atol=1e-4 * expected.max())


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "method", "given"),
    [
        ("squeezenet", "saliency", "files"),
        ("squeezenet", "saliency", "arrays"),
        ("squeezenet", "grad_cam", "files"),
        ("resnet18", "saliency", "files"),
        ("resnet18", "saliency", "arrays"),
    ],
)
def test_throughput_beside_the_bare_engine(request, folder, tmp_path, network, method, given):
    """Turn by turn, so that what slows the machine slows both.

    The engine alone reads the same files, or has its inputs in memory, which weighs the heavier the lighter a network
    is: decoding and storing take as long for SqueezeNet as for any other (README has the figures).
    """
    files = sorted(folder.iterdir())[32 : 32 + 32 * BATCH]
    with ov.load(request.getfixturevalue(network), providers="cpu") as ex:
        x = files if given == "files" else np.concatenate([ex.read_image(file) for file in files])
        ratios, speeds = [], []
        for _ in range(5):
            began = time.perf_counter()
            for start in range(0, len(x), BATCH):
                ex.explain(x[start : start + BATCH], method)
            middle = time.perf_counter()
            ov.explain_dataset(files, tmp_path / "maps.zarr", ex=ex, method=method, resume=False)
            ended = time.perf_counter()
            shutil.rmtree(tmp_path / "maps.zarr")
            ratios.append((ended - middle) / (middle - began))
            speeds.append(len(files) / (ended - middle))
    sys.stderr.write(
        f"\n{network}, {method}: {np.median(speeds):.1f} samples/s, {np.median(ratios):.3f} × the engine's time\n"
    )
    assert np.median(ratios) < 1.10
