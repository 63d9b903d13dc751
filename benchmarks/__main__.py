"""``python -m benchmarks``: explanations against the network's own forward pass, PyTorch and TensorFlow."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import report
from benchmarks.contestants import METHODS, Prepared, contestants, prepare
from benchmarks.measure import QUICK, Contestants, Effort, interleaved, likeness
from benchmarks.networks import NETWORKS

SAME = 0.99
"""Least likeness of results that count as equal: at a kink of ReLU two correct programs differ by a whole term."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table and write the file."""
    wanted = _parse(arguments)
    torch.set_num_threads(wanted.threads)
    torch.backends.cudnn.allow_tf32 = False  # like precision with like: CUDA's products in float32 on both sides
    effort = QUICK if wanted.quick else Effort()
    where = report.surroundings(provider=wanted.provider, threads=wanted.threads)
    rows: list[report.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.model:
            prepared = prepare(name, Path(folder), provider=wanted.provider, threads=wanted.threads)
            settings = [(batch, method) for batch in wanted.batch for method in wanted.method]
            for batch, method in tqdm(settings, desc=name, leave=False, delay=2, disable=None):
                rows.append(_row(name, prepared, batch, method, effort))
                if wanted.out:
                    report.write(wanted.out, rows, where)  # a long run that is stopped leaves what it has measured
    print(report.table(rows, where))


def _row(name: str, prepared: Prepared, batch: int, method: str, effort: Effort) -> report.Row:
    x = np.random.default_rng(0).standard_normal((batch, *NETWORKS[name].shape)).astype(np.float32)
    classes = np.asarray(prepared.explainer.gradient(x).target)
    competing = contestants(prepared, method, x, classes)
    likenesses = dict(_checked(competing, f"{method} of {name}"))
    return report.Row(name, batch, method, interleaved(competing, effort), likenesses)


def _checked(competing: Contestants, what: str) -> Iterator[tuple[str, float]]:
    """How near each result is to ours.

    Raises:
        ArithmeticError: one is another result, so that its time could not be compared.
    """
    ours = competing["onnxviz"]()
    for name, run in competing.items():
        if name not in {"onnxviz", "forward"}:
            found = likeness(run(), ours)
            if found < SAME:
                raise ArithmeticError(f"{what}: {name} computes something else than onnxviz (likeness {found:.4f})")
            yield name, found


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    models = [name for name in NETWORKS if name != "small"]
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it runs, not how fast")
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=models)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--batch", type=_sizes, default=[1, 8], help="batch sizes, by default 1,8")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of each side, by default 2")
    parser.add_argument("--out", type=Path, help="write all times to this JSON file")
    return parser.parse_args(arguments)


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    main(sys.argv[1:])
