"""A data set explained in a process of its own, which tells how much memory it held: ``file source sink method``.

Prints, as JSON, what the summary says and the MiB of resident memory at each tenth of a second.
"""

from __future__ import annotations

import json
import sys
import threading

import psutil

import onnxviz as ov


def main(file: str, source: str, sink: str, method: str) -> None:
    """Explain all of it."""
    resident, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            resident.append(psutil.Process().memory_info().rss / 2**20)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        summary = ov.explain_dataset(source, sink, ex=file, method=method)
    finally:
        done.set()
        watching.join()
    said = {"samples": summary.samples, "resumed": summary.resumed, "seconds": summary.seconds}
    said |= {"skipped": [each.name for each in summary.skipped], "resident": resident}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
