"""Fuzzing that follows the code: Atheris changes files until they reach lines that none reached before.

``python -m tests.hostile.guided load --seconds 300`` (also ``cut``, ``metadata``; needs ``pip install atheris``). It
begins with the healthy file and what is in ``tests/hostile/finds``. What raises anything but an OnnxvizError, crashes,
hangs or takes too much memory is written there, and opened again in every run of the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from tests.hostile.damage import KINDS, Random, misplaced

FINDS = Path(__file__).with_name("finds")
SECONDS, MEBIBYTES = 20, 2500
"""For one file. The process that tries thousands of them takes more memory than one that opens a single one."""


def keep(kind: str, content: bytes, folder: Path) -> Path:
    """Write a find where the tests find it."""
    path = folder / f"{kind}-{hashlib.sha256(content).hexdigest()[:12]}"
    path.write_bytes(content)
    return path


def seeds(kind: str, folder: Path) -> None:
    """What to begin with."""
    import onnx

    from tests.hostile import specimens

    files = specimens.healthy(folder / "healthy")
    (folder / "corpus").mkdir()
    content = files["explainable"].read_bytes()
    if kind == "metadata":
        content = "\n".join(f"{p.key}\t{p.value}" for p in onnx.ModelProto.FromString(content).metadata_props).encode()
    keep(kind, content, folder / "corpus")
    for path in FINDS.glob(f"{kind}-*"):
        keep(kind, path.read_bytes(), folder / "corpus")


def inside(kind: str, folder: Path, arguments: list[str]) -> None:
    """The fuzzer itself, which ends its process."""
    import atheris

    with atheris.instrument_imports(include=["onnxviz"]):
        from onnxviz import limits
        from onnxviz.errors import OnnxvizError
        from tests.hostile import entries

    warnings.simplefilter("ignore")
    limits.MOST_SECONDS = 1.0
    found: set[str] = set()
    file = folder / "net.onnx"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        try:
            entries.ENTRIES[kind](file)
        except OnnxvizError:
            pass
        except Exception as error:  # noqa: BLE001 - that there is none is what is tested
            places = [frame for frame in traceback.extract_tb(error.__traceback__) if "onnxviz" in frame.filename]
            place = f"{type(error).__name__} {places[-1].filename}:{places[-1].lineno}" if places else repr(error)
            if place not in found:
                found.add(place)
                print(f"{keep(kind, content, FINDS)}: {place}: {error}", flush=True)  # noqa: T201 - a script prints

    def changed(content: bytes, most: int, seed: int) -> bytes:
        """Half of the time a change that leaves the file a protobuf message, or its tables JSON."""
        rng = np.random.default_rng(seed)
        try:
            return wisely(content, rng)[:most] if rng.random() < 0.5 else atheris.Mutate(content, most)
        except (ValueError, TypeError, LookupError, DecodeError):  # what it was has been lost already
            return atheris.Mutate(content, most)

    wisely = line_misplaced if kind == "metadata" else damaged_somehow
    atheris.Setup([sys.argv[0], *arguments], attempt, custom_mutator=changed)
    atheris.Fuzz()


def damaged_somehow(content: bytes, rng: Random) -> bytes:
    """A file after one damage of any kind."""
    return KINDS[str(rng.choice(list(KINDS)))](content, rng)


def line_misplaced(content: bytes, rng: Random) -> bytes:
    """Of a file's tables, one value replaced by another kind of value."""
    lines = content.decode().split("\n")
    index = int(rng.integers(len(lines)))
    key, value = lines[index].split("\t", 1)
    lines[index] = f"{key}\t{misplaced(value, rng)}"
    return "\n".join(lines).encode()


def main() -> int:
    """Fuzz until the time is over, again after each crash; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("load", "cut", "metadata"))
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.inside:
        inside(options.kind, options.inside, rest)
    end, before, runs = time.monotonic() + options.seconds, set(FINDS.iterdir()), 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        seeds(options.kind, folder)
        while (left := int(end - time.monotonic())) > 0:
            limits = [f"-max_total_time={left}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEBIBYTES}", "-max_len=65536"]
            places = [str(folder / "corpus"), f"-artifact_prefix={folder}/found-", f"-seed={options.seed + runs}"]
            again = [sys.executable, "-m", "tests.hostile.guided", options.kind, "--inside", str(folder)]
            subprocess.run([*again, *places, *limits], check=False)
            runs += 1
            for path in folder.glob("found-*"):
                print(f"{keep(options.kind, path.read_bytes(), FINDS)}: {path.name}")  # noqa: T201 - a script prints
                path.unlink()
    return int(set(FINDS.iterdir()) != before)


if __name__ == "__main__":
    sys.exit(main())
