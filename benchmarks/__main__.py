"""``python -m benchmarks``: explanations against the network's own forward pass, and what else would be used."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

from benchmarks.alone import alone
from benchmarks.compare import compared
from benchmarks.contestants import ALWAYS, PEERS, Contestant
from benchmarks.networks import NETWORKS
from benchmarks.race import FLOOR, entered, question_for, race
from benchmarks.report import Run, surroundings
from benchmarks.subject import METHODS, ON_DEVICE, PRECISIONS, Setup, Subject
from onnxviz.benchmark import Effort

MODELS = [name for name in NETWORKS if name != "small"]
BATCHES = {"cpu": [1, 8, 32], "cuda": [1, 2, 4, 8, 16, 32, 64, 128, 256]}
FULL, QUICK = Effort(20.0, least=5, most=60), Effort(1.0, least=3, most=7)
QUICKLY = {
    "model": ["squeezenet"], "method": ["saliency", "guided_backprop", "grad_cam"], "batch": [1, 8],
    "peer": [name for name in PEERS if name != "torch.compile"],
}  # fmt: skip
"""What ``--quick`` measures where nothing else is said: compiling a network takes half a minute for each row."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write the file and the plot; 1 if somebody computed something else."""
    wanted = parse(arguments)
    run = Run.read(wanted.read) if wanted.read else measure(wanted)
    print(run)
    if wanted.plot:
        from benchmarks.drawing import plot

        plot(run.rows).savefig(wanted.plot, dpi=150)
    if wanted.compare:
        print(f"\n{compared(Run.read(wanted.compare), run)}")
    return int(any(row.differing for row in run.rows))


def measure(wanted: argparse.Namespace) -> Run:
    """All that was asked for."""
    setups = list(_setups(wanted))
    run = Run(surroundings(setups[0]))
    with tempfile.TemporaryDirectory() as folder:
        for name, setup in product(wanted.model, setups):
            subject = Subject(name, Path(folder), setup)
            (_ablate if wanted.ablate else _race)(subject, wanted, run)
            if subject.conversions:
                run.conversions[name] = subject.conversions
            _save(run, wanted)
    return run


def _race(subject: Subject, wanted: argparse.Namespace, run: Run) -> None:
    with entered(subject, [*ALWAYS, *wanted.peer]) as entrants:
        floor = entrants[FLOOR]
        assert isinstance(floor, Contestant)
        for method, batch in _settings(subject, wanted):
            question = question_for(subject, floor, method, batch, wanted.samples)
            run.rows.append(race(subject, entrants, question, wanted.effort))
            _save(run, wanted)  # a long run that is stopped leaves what it has measured
            if wanted.memory and method == wanted.method[0]:
                run.alone.extend(alone(subject, name, question) for name in run.rows[-1].seconds)


def _ablate(subject: Subject, wanted: argparse.Namespace, run: Run) -> None:
    from benchmarks.ablation import ablated

    with entered(subject, [FLOOR]) as entrants:
        floor = entrants[FLOOR]
        assert isinstance(floor, Contestant)
        for method, batch in _settings(subject, wanted):
            question = question_for(subject, floor, method, batch, wanted.samples)
            run.ablations.append(ablated(subject, question, wanted.effort))


def _settings(subject: Subject, wanted: argparse.Namespace) -> Iterator[tuple[str, int]]:
    methods = [method for method in wanted.method if subject.setup.transfer or method in ON_DEVICE]
    settings = list(product(methods, wanted.batch))
    return iter(tqdm(settings, desc=subject.name, leave=False, delay=2, disable=None))


def _setups(wanted: argparse.Namespace) -> Iterator[Setup]:
    options = tuple(wanted.provider_option)
    whole = Setup(wanted.provider, threads=wanted.threads, training=wanted.training, options=options)
    for precision, transfer in product(wanted.precision, wanted.transfer):
        yield replace(whole, precision=precision, transfer=transfer == "with")


def _save(run: Run, wanted: argparse.Namespace) -> None:
    if wanted.out:
        run.write(wanted.out)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, with the defaults of ``--quick`` and of the provider filled in."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="under three minutes on two cores: one model, few rounds")
    add("--model", nargs="+", choices=NETWORKS, help="by default all but 'small'")
    add("--method", nargs="+", choices=METHODS, help="by default all")
    add("--batch", nargs="+", type=_positive, help="by default 1 8 32 on the CPU, 1 2 4 … 256 on CUDA")
    add("--peer", nargs="+", choices=PEERS, help="who takes part besides onnxviz and the forward pass; by default all")
    add("--provider", choices=BATCHES, default="cpu")
    add("--provider-option", nargs="+", type=_pair, default=[], metavar="NAME=VALUE",
        help="of ONNX Runtime's provider, for ours and the forward pass, as prefer_nhwc=1")  # fmt: skip
    add("--precision", nargs="+", choices=PRECISIONS, default=["float32"], help="other than float32 on CUDA alone")
    add(
        "--transfer",
        nargs="+",
        choices=("with", "without"),
        default=["with"],
        help="from and to the host; by default with",
    )
    add("--threads", type=_positive, default=2, help="of each side, by default 2")
    add("--samples", type=_positive, default=16, help="gradients per input of smooth_grad, integrated_gradients")
    add("--seconds", type=float, help="of each comparison, by default 20; at least five rounds are taken")
    add(
        "--memory",
        action="store_true",
        help="also each tool in a fresh process, with the first method: peak memory, start",
    )
    add("--ablate", action="store_true", help="instead: what each optimisation of the engine brings")
    add("--training", metavar="PYTHON", help="of an environment with onnxruntime-training-cpu==1.19.2")
    add("--out", type=Path, help="write all times to this JSON file")
    add("--plot", type=Path, help="draw images per second over batch size into this file (.png, .svg, .pdf)")
    add("--compare", type=Path, metavar="EARLIER", help="say what is faster or slower than in this JSON file")
    add("--read", type=Path, metavar="EARLIER", help="measure nothing: report, draw or compare this JSON file")
    wanted = parser.parse_args(arguments)
    if wanted.provider == "cpu" and wanted.precision != ["float32"]:
        parser.error("--precision: on the CPU there is float32 alone")
    wanted.effort = QUICK if wanted.quick else FULL
    if wanted.seconds is not None:
        wanted.effort = replace(wanted.effort, seconds=wanted.seconds)
    whole = {"model": MODELS, "method": list(METHODS), "batch": BATCHES[wanted.provider], "peer": list(PEERS)}
    for name, value in {**whole, **(QUICKLY if wanted.quick else {})}.items():
        if getattr(wanted, name) is None:
            setattr(wanted, name, value)
    return wanted


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE, as prefer_nhwc=1")
    return name, value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
