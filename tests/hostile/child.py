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
from pathlib import Path

from onnxviz import limits
from onnxviz.errors import OnnxvizError
from tests.hostile.entries import ENTRIES


def outcome(kind: str, path: Path) -> list[str]:
    """What came of one file."""
    try:
        ENTRIES[kind](path)
    except OnnxvizError as error:
        return ["refused", type(error).__name__, str(error)]
    except Exception as error:  # noqa: BLE001 - that there is none is what is tested
        import traceback

        return ["failed", type(error).__name__, "".join(traceback.format_exception(error)[-3:])]
    return ["right"]


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
