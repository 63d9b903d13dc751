"""``python -m benchmarks``, from the command line to the file, on the smallest network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from benchmarks.__main__ import BATCHES, METHODS, MODELS, main, parse
from benchmarks.contestants import PEERS
from benchmarks.report import Run
from benchmarks.subject import Question, Setup, Subject
from onnxviz.benchmark import Effort
from onnxviz.engine.optimizations import NAMES

SMALL = ["--quick", "--model", "small", "--threads", "1"]


def measured(*arguments: object, out: Path) -> tuple[str, Run]:
    """In a process of its own: TensorFlow's threads can be set once."""
    command = [sys.executable, "-m", "benchmarks", *SMALL, *map(str, arguments), "--out", out]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return printed, Run.read(out)


@pytest.mark.slow
def test_all_methods_with_their_libraries(tmp_path):
    picture = tmp_path / "plot.svg"
    peers = ["onnxviz from Keras", "torch", "captum", "tensorflow"]
    options = ["--batch", 1, 2, "--samples", 2, "--plot", picture]
    printed, run = measured("--method", *METHODS, "--peer", *peers, *options, out=tmp_path / "run.json")
    assert str(run) in printed
    assert "saliency" in picture.read_text(encoding="utf-8")
    assert [(row.method, row.batch) for row in run.rows] == [(method, batch) for method in METHODS for batch in (1, 2)]
    for row in run.rows:
        assert row.seconds.keys() == {"onnxviz", "forward", *peers}
        assert row.absent == {}
        assert row.likenesses.keys() == set(peers)
        assert min(row.likenesses.values()) > 0.9999
        assert all(len(times) >= 3 and min(times) > 0 for times in row.seconds.values())
    assert run.conversions["small"].keys() == {"explainable", "twin"}
    assert run.where["versions"].keys() >= {"onnxviz", "onnxruntime", "torch", "tensorflow", "captum"}


@pytest.mark.slow
def test_memory_and_start_are_measured_in_fresh_processes(tmp_path):
    options = ["--method", "saliency", "grad_cam", "--batch", 1, "--peer", "torch", "--memory"]
    _, run = measured(*options, out=tmp_path / "run.json")
    alone = {one["contestant"]: one for one in run.alone}
    assert alone.keys() == run.rows[0].seconds.keys() == {"onnxviz", "forward", "torch"}
    assert alone["onnxviz"]["host_bytes"] < alone["torch"]["host_bytes"]
    assert all(one["first_seconds"] > 0 and one["device_bytes"] is None for one in run.alone)


@pytest.mark.slow
def test_compiled_pytorch(tmp_path):
    _, run = measured(
        "--method", "saliency", "grad_cam", "--batch", 1, "--peer", "torch.compile", out=tmp_path / "run.json"
    )
    assert [min(row.likenesses.values()) > 0.9999 for row in run.rows] == [True, True]
    assert all("torch.compile" in row.seconds for row in run.rows)


@pytest.mark.training
def test_the_training_build_takes_turns_in_its_own_process(tmp_path, training_python):
    options = ["--method", "saliency", "--batch", 1, 3, "--peer", "ort-training", "--training", training_python]
    _, run = measured(*options, "--memory", out=tmp_path / "run.json")
    for row in run.rows:
        assert row.likenesses["ort-training"] > 0.9999
        assert len(row.seconds["ort-training"]) == len(row.seconds["onnxviz"])
    assert {one["contestant"] for one in run.alone} == {"onnxviz", "forward", "ort-training"}


def test_a_run_that_is_read_measures_nothing(tmp_path, capsys):
    earlier, again = tmp_path / "earlier.json", tmp_path / "again.json"
    options = ["--method", "saliency", "--batch", "1", "--peer", "torch"]
    assert main([*SMALL, *options, "--out", str(earlier)]) == 0
    printed = capsys.readouterr().out
    assert main(["--read", str(earlier), "--compare", str(earlier), "--out", str(again)]) == 0
    repeated = capsys.readouterr().out
    assert repeated.startswith(printed)
    assert "0 of 3 times have changed beyond noise" in repeated
    assert not again.exists()


def test_what_stays_on_the_device_is_timed_too(tmp_path):
    options = [
        "--method",
        "saliency",
        "smooth_grad",
        "--batch",
        "2",
        "--peer",
        "torch",
        "--transfer",
        "with",
        "without",
    ]
    assert main([*SMALL, *options, "--samples", "2", "--out", str(tmp_path / "run.json")]) == 0
    rows = Run.read(tmp_path / "run.json").rows
    assert [(row.method, row.transfer) for row in rows] == [
        ("saliency", True), ("smooth_grad", True), ("saliency", False)
    ]  # fmt: skip
    assert all(row.seconds.keys() == {"onnxviz", "forward", "torch"} for row in rows)


# ----- what each optimisation brings -----


def test_each_optimisation_is_left_out_in_turn(tmp_path, capsys):
    options = ["--ablate", "--method", "saliency", "--batch", "2", "--out", str(tmp_path / "run.json")]
    assert main([*SMALL, *options]) == 0
    (found,) = Run.read(tmp_path / "run.json").ablations
    assert list(found["seconds"]) == ["all", *NAMES, "every one"]
    assert all(f"| {name} |" in capsys.readouterr().out for name in NAMES[:1])


def test_the_others_are_kept(monkeypatch):
    monkeypatch.setattr(ablation, "NAMES", ("fold", "fuse"))
    assert ablation.variants() == {"all": ["fold", "fuse"], "fold": ["fuse"], "fuse": ["fold"], "every one": []}


def test_an_optimisation_that_changes_the_answer_is_an_error(tmp_path, monkeypatch):
    class Changing(ablation.Without):
        def loaded(self):
            return None

        def answer(self, question):
            return lambda: question.x * (1 if self.kept else -1)

        def close(self):
            pass

    monkeypatch.setattr(ablation, "Without", Changing)
    monkeypatch.setattr(ablation, "NAMES", ("fold", "fuse"))
    question = Question("saliency", Question.input((3, 4, 4), 1), np.zeros(1, np.int64))
    with pytest.raises(ArithmeticError, match="saliency of small without every one: another answer"):
        ablation.ablated(Subject("small", tmp_path, Setup()), question, Effort(1e-9, least=1))


# ----- the command line -----


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"model": MODELS, "method": list(METHODS), "batch": [1, 8, 32], "peer": list(PEERS)}),
        (["--quick"], {"model": ["squeezenet"], "batch": [1, 8]}),
        (["--quick", "--batch", "4"], {"model": ["squeezenet"], "batch": [4]}),
        (["--provider", "cuda"], {"batch": BATCHES["cuda"], "precision": ["float32"], "transfer": ["with"]}),
        (["--provider-option", "a=1", "b=x=y"], {"provider_option": [("a", "1"), ("b", "x=y")]}),
    ],
)
def test_defaults(arguments, expected):
    found = vars(parse(arguments))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "float16"], "on the CPU there is float32 alone"),
        (["--batch", "0"], "expected a positive number"),
        (["--model", "alexnet"], "invalid choice: 'alexnet'"),
        (["--provider-option", "prefer_nhwc"], "expected NAME=VALUE, as prefer_nhwc=1"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert message in capsys.readouterr().err
