"""A process of its own in which files of unknown origin are opened: what happens to it is seen from outside.

Reads lines ``kind<TAB>path`` and answers each with a line of JSON: ``["right", …]`` where all questions got an answer,
``["refused", class, message]`` for an OnnxvizError, ``["failed", class, message]`` for any other exception; the last is
the most memory the process has held so far, in MiB.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onnxviz as ov
from onnxviz import limits
from onnxviz.errors import OnnxvizError

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
QUESTIONS: list[Callable[[ov.Explainer], object]] = [
    repr,
    lambda ex: repr(ex.layers) + repr(ex.outputs) + repr(ex.classes) + repr(ex.residuals) + repr(ex.metadata),
    lambda ex: ex.inputs[0].image and ex.image_input,
    lambda ex: ex.predict(X),
    lambda ex: ex.top(X),
    lambda ex: ex.features(X),
    lambda ex: ex.gradient(X, layer=ex.layers[0].name),
    lambda ex: ex.saliency(X, [[0, 1]]),
    lambda ex: ex.guided_backprop(X, 1),
    lambda ex: ex.grad_cam(X, 1),
    lambda ex: ex.filters(0),
    lambda ex: ex.maximize(0, steps=1),
]


def load(path: Path) -> list[str]:
    """Open an explainable file and ask; every question is asked, whatever the others gave."""
    outcome = ["right"]
    with ov.load(path, providers="cpu", threads=1) as ex:
        for ask in QUESTIONS:
            try:
                ask(ex)
            except OnnxvizError as error:
                outcome = ["refused", type(error).__name__, str(error)]
    return outcome


def convert(path: Path) -> list[str]:
    """Convert a plain file, and ask what comes of it."""
    return load(ov.convert(path, path.with_suffix(".explainable.onnx"), quiet=True))


def outcome(kind: str, path: Path) -> list[str]:
    """What came of one file."""
    try:
        return {"load": load, "convert": convert}[kind](path)
    except OnnxvizError as error:
        return ["refused", type(error).__name__, str(error)]
    except Exception as error:  # noqa: BLE001 - that there is none is what is tested
        import traceback

        return ["failed", type(error).__name__, "".join(traceback.format_exception(error)[-3:])]


def peak() -> int:
    """MiB of resident memory at most. ``getrusage`` would count what its parent had before it became this program."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def main() -> None:
    """Answer until the lines end."""
    warnings.simplefilter("ignore")
    limits.MOST_SECONDS = 1.0
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        found = outcome(kind, Path(path))
        found.append(str(peak()))
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
