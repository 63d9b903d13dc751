"""Damage without end: files made from the healthy ones, opened by a child process, until the time is over.

``python -m tests.hostile.fuzz --seconds 600 --seed 1``. What is neither right nor refused is written to
``tests/hostile/finds``, where every run of the tests opens it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.hostile import specimens
from tests.hostile.damage import KINDS, damaged
from tests.hostile.guided import FINDS, keep
from tests.hostile.watch import Watched


def main() -> int:
    """Damage, open, count; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    verdicts: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder, Watched() as child:
        healthy = specimens.healthy(Path(folder))
        for seed in range(options.seed, sys.maxsize):
            for name, kind in [(name, kind) for name in specimens.NAMES for kind in KINDS]:
                if time.monotonic() > end:
                    print(f"{sum(verdicts.values())} files from seed {options.seed} on: {dict(verdicts)}")  # noqa: T201 - a script prints
                    return int(bool(verdicts.keys() - {"right", "refused"}))
                if kind == "misdescribed" and name.startswith("plain"):
                    continue  # it has no tables
                path = healthy[name].with_name("damaged.onnx")
                path.write_bytes(damaged(healthy[name].read_bytes(), seed, kind))
                entry = "convert" if name.startswith("plain") else "load"
                outcome = child.outcome(entry, path)
                verdicts[outcome.verdict] += 1
                if not outcome.harmless:
                    print(f"{name}, {kind}, seed {seed}: {outcome.verdict} {outcome.error} {outcome.message}")  # noqa: T201
                    keep(entry, path.read_bytes(), FINDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
