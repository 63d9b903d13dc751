"""The sweep's small models pass, and its reports tell what did not."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.sweep import __main__ as sweep
from benchmarks.sweep import one, outcome, report
from benchmarks.sweep.entry import Entry, Package, Subject
from benchmarks.sweep.families import ENTRIES
from benchmarks.sweep.originals import TorchModule
from benchmarks.sweep.outcome import Agreement, Outcome

SMALL = [key for key, entry in ENTRIES.items() if entry.small]
GRADIENT = Agreement("autograd", 1e-6, 1e-8)
PASSED = Outcome("pictures/a", "passed", "", 5, 1e-7, GRADIENT, Agreement("autograd", 2e-6, 1e-8, 1.0, "mid"), 1.0)
FAILED = Outcome("pictures/b", "failed", "UnsupportedOperatorError: no rule for Det | Unique", seconds=2.0)
MISSING = Outcome("files/c", "not installed", "pip install --no-deps c==1")


@pytest.mark.slow
@pytest.mark.parametrize("key", SMALL)
def test_a_small_model(key):
    found = one.run(ENTRIES[key])
    assert (found.status, found.reason) == ("passed", "")
    assert found.layers >= 3
    assert found.values <= 1e-4
    assert found.gradient is not None
    assert found.optimized is not None
    assert found.optimized <= 1e-5
    assert found.middle is not None
    assert found.middle.largest <= (1e-4 if found.middle.by == "autograd" else 1e-2)


def test_the_small_models_come_from_every_family():
    families = {entry.family for entry in ENTRIES.values()}
    assert {ENTRIES[key].family for key in SMALL} == families
    assert 10 <= len(SMALL) <= 20


def module(network):
    return Subject(network.eval(), torch.randn(2, 4))


class Random(nn.Module):
    """Another value at each call."""

    def forward(self, x):
        return x + torch.randn(x.shape)


class Rounded(nn.Module):
    """Without a gradient."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x).round()


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Random(), "CheckFailedError: the converted file computes something else than the pytorch model"),
        (Rounded(), "ConversionError: no output is a float that depends on an input"),
    ],
)
def test_a_failure_is_an_outcome_with_its_reason(network, reason):
    found = one.run(Entry("tests", "failing", partial(module, network)))
    assert found.status == "failed"
    assert found.reason.startswith(reason)
    assert ". " not in found.reason


def test_a_gradient_that_is_another_fails(monkeypatch):
    """The comparison in the middle does not rest on the conversion's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    entry = Entry("tests", "series", partial(module, network))
    assert one.run(entry).status == "passed"
    compared = TorchModule.difference
    monkeypatch.setattr(
        TorchModule, "difference", lambda self, *question: compared(self, *question[:-1], 1.001 * question[-1])
    )
    found = one.run(entry)
    assert found.status == "failed"
    assert "is not that of autograd" in found.reason


def test_a_gradient_that_vanishes_is_no_agreement():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(network[0].weight)
    found = one.run(Entry("tests", "dead", partial(module, network)))
    assert found.reason.startswith("CheckFailedError: the gradient of the inputs is zero everywhere")


# ----- processes, and the file of outcomes -----


def test_a_sweep_and_its_resumption(tmp_path, capsys):
    out = tmp_path / "sweep.jsonl"
    options = ["--family", "series in PyTorch", "--model", "TCN", "--output", str(out)]
    assert sweep.main(options) == 0
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["status"] == "passed"
    progress, *table = capsys.readouterr().out.splitlines()
    assert progress.startswith("[1/1] series in PyTorch/TCN: ")
    assert len(table) == 3
    for again in ("--resume", "--markdown"):
        assert sweep.main([*options, again]) == 0
        assert capsys.readouterr().out.splitlines() == table
        assert out.read_text().splitlines() == [line]


def test_what_failed_has_another_turn(tmp_path, monkeypatch):
    out = tmp_path / "sweep.jsonl"
    entries = {key: Entry(*key.split("/"), None) for key in (PASSED.key, FAILED.key, MISSING.key)}
    for each in (PASSED, FAILED, MISSING):
        outcome.append(out, each)
    monkeypatch.setattr(sweep, "ENTRIES", entries)
    turns = []
    monkeypatch.setattr(sweep, "turn", lambda entry, _limit: turns.append(entry.key) or FAILED)
    assert sweep.main(["--family", "pictures", "--resume", "--output", str(out)]) == 1
    assert turns == [FAILED.key]


def test_a_process_that_dies_or_hangs_leaves_its_reason():
    crashed = sweep.turn(Entry("tests", "not in the list", None))
    assert (crashed.status, crashed.reason) == ("failed", "KeyError: 'tests/not in the list'")
    slow = sweep.turn(ENTRIES[SMALL[0]], limit=0.1)
    assert (slow.status, slow.reason) == ("failed", "took more than 0 s")


def test_a_package_that_is_not_installed():
    needs = (Package("no-such-package==1.0", "no_such_package"), Package("numpy", "numpy"))
    found = sweep.turn(Entry("files", "absent", None, needs))
    assert (found.status, found.reason) == ("not installed", "pip install --no-deps no-such-package==1.0")


def test_outcomes_travel_through_the_file(tmp_path):
    out = tmp_path / "sweep.jsonl"
    for each in (FAILED, PASSED, MISSING):
        outcome.append(out, each)
    outcome.append(out, replace(FAILED, status="passed", reason=""))
    with out.open("a") as file:
        file.write('{"key": "pictures/d", "sta')  # where a sweep was stopped
    found = outcome.read(out)
    assert found[PASSED.key] == PASSED
    assert found[MISSING.key] == MISSING
    assert found[FAILED.key].status == "passed"
    assert len(found) == 3


def test_the_table_keeps_what_failed():
    rows = report.table([PASSED, FAILED, MISSING]).splitlines()
    assert rows[2] == (
        "| pictures | 1 of 2 | 5 | 1.0e-07 | 1.0e-06, median 1.0e-08 | 2.0e-06, median 1.0e-08 | autograd | "
        "b: UnsupportedOperatorError: no rule for Det \\| Unique |"
    )
    assert rows[3].startswith("| files | 0 of 1 |")
    assert rows[3].endswith("| c: pip install --no-deps c==1 |")
    assert report.line(FAILED) == "pictures/b: failed, UnsupportedOperatorError: no rule for Det | Unique (2 s)"
