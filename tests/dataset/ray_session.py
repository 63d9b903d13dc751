"""A session with Ray: a local cluster on the loopback interface, two actors, of which one is killed mid-way.

Prints what came of it as JSON. A process of its own, since Ray leaves threads, sockets and settings behind.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import ray

import onnxviz as ov
from onnxviz.dataset.ray import ExplainBatch


def actors() -> dict[int, psutil.Process]:
    """The processes of the actors that explain, by their ids."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if "Explain" in " ".join(process.cmdline()):
                found[process.pid] = process
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def kill_one(sink: Path, seen: dict[str, object]) -> None:
    """Kill an actor once three parts are there, then see who comes in its place."""
    while len(list(sink.glob("part-*.parquet"))) < 3:
        time.sleep(0.01)
    before = actors()
    seen["actors"], seen["parts"] = len(before), len(list(sink.glob("part-*.parquet")))
    victim = before[min(before)]
    victim.send_signal(signal.SIGKILL)
    while not seen.get("done"):
        seen["replaced"] = bool(seen.get("replaced")) or bool(actors().keys() - before.keys())
        time.sleep(0.05)


def main(file: str, x: str, photos: str, out: Path, asked: dict[str, object], temporary: str) -> None:
    """Explain arrays with a kill, and pictures by the class for data sets of Ray's own."""
    ray.init(
        num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=temporary,
        object_store_memory=100 * 2**20, log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    seen: dict[str, object] = {"address": ray.util.get_node_ip_address()}
    killer = threading.Thread(target=kill_one, args=(out / "ray.parquet", seen))
    killer.start()
    with ov.load(file, providers="cpu", threads=1) as ex:
        summary = ov.explain_dataset(x, out / "ray.parquet", ex=ex, ray={"concurrency": 2, "num_cpus": 1}, **asked)
    seen["done"] = True
    killer.join()
    seen |= {"samples": summary.samples, "skipped": [each.name for each in summary.skipped]}
    paths = [{"path": str(path), "label": i} for i, path in enumerate(sorted(Path(photos).iterdir()))]
    rows = ray.data.from_items(paths, override_num_blocks=2).map_batches(
        ExplainBatch,
        fn_constructor_args=(file, "saliency"),
        fn_constructor_kwargs={"column": "path", "on_error": "skip", "top": 2, "load": {"threads": 1}},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=4,
    )
    found = sorted(rows.take_all(), key=lambda row: row["label"])
    np.savez(out / "rows.npz", **{name: np.array([row[name] for row in found]) for name in found[0]})
    ray.shutdown()
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as temporary:  # names of sockets are short
        main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), json.loads(sys.argv[5]), temporary)
