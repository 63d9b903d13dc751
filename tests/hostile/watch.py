"""The parent of :mod:`tests.hostile.child`: hands it files, and sees crashes, hangs and memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS, MEBIBYTES = 20.0, 1500
"""The bounds for one file: of a network of 4 kB, whose conversion takes half a second and 200 MiB."""
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Outcome:
    """What came of a file: right, refused, or what must not be: failed, crashed, hung, greedy."""

    verdict: str
    error: str = ""
    message: str = ""

    @property
    def harmless(self) -> bool:
        """Whether it is one of the two that are promised."""
        return self.verdict in {"right", "refused"}


def environment() -> dict[str, str]:
    """Of a process that imports what this one does, on one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Watched:
    """A child that is started again when it is lost."""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment(), text=True, bufsize=1,
        )  # fmt: skip

    def _stop(self) -> int:
        self.child.kill()
        self.child.communicate()
        return self.child.returncode

    def outcome(self, kind: str, path: Path) -> Outcome:
        """Let the child open a file: ``kind`` is ``"load"`` or ``"convert"``."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{kind}\t{path}\n")
        ready, _, _ = select.select([self.child.stdout], [], [], SECONDS)
        line = self.child.stdout.readline() if ready else ""
        if not line:
            code = self.child.wait() if ready else 0
            self._stop()
            self._start()
            return Outcome("crashed", f"exit status {code}") if ready else Outcome("hung", f"after {SECONDS} s")
        verdict, *told, held = json.loads(line)
        if int(held) > MEBIBYTES:
            self._stop()
            self._start()
            return Outcome("greedy", f"{held} MiB")
        return Outcome(verdict, *told)
