"""A contestant in a process of its own: ``python -m benchmarks.alone``, its peak memory and how fast it starts.

The process reads one JSON object from its standard input, answers with one, and lives until that input ends, so that
the device's memory can be read meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.subject import Question, Subject

REPEATS = 3
"""Answers: the first is timed, the memory has settled after the others."""


def alone(subject: Subject, contestant: str, question: Question) -> dict[str, Any]:
    """What a contestant takes in a fresh process.

    Returns:
        model, method, batch, contestant; ``host_bytes``, the peak of its resident memory, libraries included;
        ``device_bytes``, what it holds on the device, None on the CPU; ``import_seconds``; ``first_seconds``, from the
        start of loading to the first answer.
    """
    described = subject.described() | {
        "contestant": contestant, "method": question.method, "batch": len(question.x), "samples": question.samples,
        "classes": question.classes.tolist(),
    }  # fmt: skip
    before = _device_used(subject)
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.alone"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | paths,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(described), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{contestant} on {subject.name}: its process ended without an answer")
        after = _device_used(subject)
        process.stdin.close()
    device = None if before is None or after is None else after - before
    named = {"model": subject.name, "method": question.method, "batch": len(question.x), "contestant": contestant}
    return named | json.loads(line) | {"device_bytes": device}


def _device_used(subject: Subject) -> int | None:
    if subject.setup.provider != "cuda":
        return None
    import torch

    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return total - free


def main() -> None:
    """Answer the question on the standard input."""
    asked = json.loads(sys.stdin.readline())
    subject = Subject.of(asked)
    x, classes = Question.input(subject.network.shape, asked["batch"]), np.array(asked["classes"])
    question = Question(asked["method"], x, classes, asked["samples"])
    start = time.perf_counter()
    from benchmarks import contestants

    kind = contestants.kind_of(asked["contestant"])
    imported = time.perf_counter()
    contestant = kind(subject)
    run = contestant.answer(question)
    run()
    first = time.perf_counter()
    for _ in range(REPEATS - 1):
        run()
    told = {"host_bytes": _peak(contestant.pid), "import_seconds": imported - start, "first_seconds": first - imported}
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    contestant.close()


def _peak(pid: int) -> int:
    """Peak bytes of resident memory. ``getrusage`` would count what the process had before it became this program."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
