"""What a run leaves: tables, the file, the comparison with an earlier one, and the plot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.compare import changes, compared
from benchmarks.drawing import plot
from benchmarks.race import Row
from benchmarks.report import Run, absent_lines, speed_lines

WHERE = {
    "date": "2026-01-01", "processor": "p", "cores": 2, "device": "cpu", "threads": 2, "python": "3.11",
    "versions": {"onnxviz": "1"},
}  # fmt: skip


def row(batch=1, method="saliency", model="vgg16", **seconds):
    times = {"onnxviz": [0.01, 0.02, 0.04], "forward": [0.01, 0.01, 0.01], "captum": [0.02, 0.06, 0.16], **seconds}
    return Row(model, method, batch, "float32", True, times)


def run(*rows, **where):
    return Run(WHERE | where, list(rows))


def whole():
    alone = {
        "model": "vgg16", "method": "saliency", "batch": 1, "contestant": "torch", "host_bytes": 2**30,
        "device_bytes": None, "import_seconds": 1.0, "first_seconds": 0.5,
    }  # fmt: skip
    found = run(replace(row(), likenesses={"captum": 1.0}, absent={"torch": "no"}), row(8))
    found.conversions["vgg16"] = {"explainable": {"seconds": 12.0, "bytes": 3 * 2**20}}
    found.alone.append(alone)
    ablation = {"all": [0.1, 0.1], "folding": [0.2, 0.2], "every one": [0.4, 0.4]}
    found.ablations.append({"model": "vgg16", "method": "saliency", "batch": 1, "seconds": ablation})
    return found


def test_what_is_written_is_read(tmp_path):
    whole().write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == whole()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_tables():
    printed = str(whole())
    for line in (
        "| model | method | batch | onnxviz, ms | images/s | onnxviz / forward | captum / onnxviz |",
        "| vgg16 | saliency | 8 | 20 (15 – 30) | 400 | 2 (1.5 – 3) | 3 (2.5 – 3.5) |",
        "| vgg16 | PyTorch | 12 | 3 |",
        "| vgg16 | saliency | 1 | torch | 1024 | – | 1.00 | 0.50 |",
        "| vgg16 | saliency | 1 | folding | 100 (100 – 100) | 200 (200 – 200) | 2 (2 – 2) |",
        "| vgg16 | saliency | 1 | every one | 100 (100 – 100) | 400 (400 – 400) | 4 (4 – 4) |",
        "* torch, in saliency of vgg16: no",
    ):
        assert line in printed.splitlines()
    assert "2026-01-01; p, 2 cores, 2 threads, on cpu; Python 3.11, onnxviz 1." in printed
    assert "on cpu with prefer_nhwc=1; Python" in str(run(row(), options={"prefer_nhwc": "1"}))


def test_precision_and_transfer_have_columns_where_they_vary():
    assert "precision" not in speed_lines([row()])[0]
    varied = [row(), replace(row(), precision="tf32", transfer=False)]
    heads, *lines = speed_lines(varied)
    assert [line[heads.index("precision")] for line in lines] == ["float32", "tf32"]
    assert [line[heads.index("transfer")] for line in lines] == ["with", "without"]


def test_reasons_are_told_once_for_many_rows():
    rows = [replace(row(batch), absent={"torch": "no"}, method=m) for m in "abcdef" for batch in (1, 8)]
    assert absent_lines(rows).splitlines() == [
        "Not taking part:",
        "* torch, in a of vgg16, b of vgg16, c of vgg16, d of vgg16 and 2 more: no",
    ]


# ----- compared with an earlier run -----


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ([1.0, 1.1, 1.2], [0.5, 0.6, 0.7], "faster"),
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.2], "slower"),
        ([1.0, 2.0, 3.0], [1.4, 1.5, 1.6], "within noise"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "within noise"),
    ],
)
def test_verdicts(before, now, verdict):
    (change,) = [c for c in changes(run(row(torch=before)), run(row(torch=now))) if c.contestant == "torch"]
    assert change.verdict == verdict
    assert change.before.median == pytest.approx(1000 * np.median(before))


def test_the_comparison_tells_what_changed_beyond_noise_first():
    earlier, later = run(row(), row(8)), run(row(), row(8, captum=[1.0, 1.0, 1.0]), row(32), threads=4)
    head, around, table = compared(earlier, later).split("\n\n")
    assert "1 of 6 times have changed beyond noise" in head
    assert around == "Not the same: threads: 2 → 4."
    lines = table.splitlines()[2:]
    assert lines[0] == "| vgg16 | saliency | 8 | captum | 60 (40 – 110) | 1000 (1000 – 1000) | 16.67 | slower |"
    assert len(lines) == 6
    assert all(line.endswith("| 1.00 | within noise |") for line in lines[1:])


def test_runs_with_nothing_in_common():
    assert compared(run(row()), run(row(model="small"))) == "The two runs have timed nothing in common."


# ----- the plot -----


def test_the_plot_shows_the_medians():
    rows = [row(b, m, n) for n in ("vgg16", "small") for m in ("saliency", "grad_cam") for b in (8, 1)]
    figure = plot([*rows, replace(row(), precision="tf32")])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["saliency", "grad_cam"]
    assert [axes.get_ylabel().splitlines()[0] for axes in figure.axes[::2]] == ["vgg16", "small", "vgg16, tf32"]
    lines = {c.get_label(): c.lines[0] for c in figure.axes[2].containers}
    assert lines.keys() == {"onnxviz", "forward", "captum"}
    assert lines["onnxviz"].get_xdata().tolist() == [1, 8]
    assert lines["onnxviz"].get_ydata().tolist() == pytest.approx([1 / 0.02, 8 / 0.02])
    assert lines["captum"].get_ydata().tolist() == pytest.approx([1 / 0.06, 8 / 0.06])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "onnxviz", "forward (the network alone)", "captum"
    ]  # fmt: skip
