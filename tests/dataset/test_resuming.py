"""Killed anywhere, a data set is gone on with: nothing lost, nothing twice, the same bits as in one run."""

from __future__ import annotations

import os
import resource
import shutil
import signal

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.dataset.sinks import Sink
from onnxviz.errors import FileAccessError, LayerError, OptionError, TargetError
from tests.dataset.contents import assert_same
from tests.dataset.killing import killed

ASKED = {"method": "saliency", "batch_size": 3, "top": 2, "progress": False}


def pairs(x):
    """Eight samples, of which the fourth is none."""
    for i, one in enumerate(x):
        yield f"s{i}", one * (np.nan if i == 3 else 1)


def array(x):
    """The same as an array, whose samples can be read in any order."""
    x = x.copy()
    x[3] = np.nan
    return x


SOURCES = {"a stream": pairs, "an array": array}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "each"])
@pytest.mark.parametrize("kind", SOURCES)
def test_killed_at_any_change_of_the_folder(subjects, network, x, tmp_path, sink, held, kind, every):
    source, whole, resumed = SOURCES[kind], tmp_path / f"whole{sink.suffix}", []
    ov.explain_dataset(source(x), whole, ex=network, **ASKED)

    def work():
        with ov.load(subjects("cnn").path, providers="cpu", threads=1) as ex:
            ov.explain_dataset(source(x), sink, ex=ex, **ASKED)

    at = 1
    while killed(work, sink.parent, at):
        summary = ov.explain_dataset(source(x), sink, ex=network, **ASKED)
        assert (summary.samples, [name for name, _ in summary.skipped]) == (8, ["s3" if kind == "a stream" else "3"])
        resumed.append(summary.resumed)
        assert_same(held(sink), held(whole))
        assert not [p for p in sink.parent.rglob("*") if "partial" in p.name or p.name.startswith(".")], "traces"
        shutil.rmtree(sink)
        at += 1 if every or sink.suffix == ".parquet" else 31
    assert set(resumed) <= {0, 3, 6, 8}
    assert resumed == sorted(resumed), "what was there once is not done again"
    met = 3 if every or sink.suffix == ".parquet" else 2
    assert len(set(resumed)) >= met, "kills between all batches"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_while_an_old_one_is_removed(subjects, network, x, tmp_path, sink, held):
    def work():
        with ov.load(subjects("cnn").path, providers="cpu", threads=1) as ex:
            ov.explain_dataset(x, sink, ex=ex, method="saliency", resume=False, progress=False)

    for at in range(1, 20, 5):
        shutil.rmtree(sink, ignore_errors=True)
        ov.explain_dataset(x[:2], sink, ex=network, method="gradient")
        ended = killed(work, sink.parent, at)
        if sink.exists() and ended and len(held(sink).get("name", [])) == 2:
            assert np.shape(held(sink)["map"]) == (2, 3, 12, 12), "the old one, whole"
        ov.explain_dataset(x, sink, ex=network, method="saliency", resume=False)
        assert np.shape(held(sink)["map"]) == (8, 12, 12)
        assert [p.name for p in tmp_path.iterdir()] == [sink.name]


def test_a_finished_one_is_left_as_it_is(network, x, sink):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in sink.rglob("*")}

    ov.explain_dataset(x, sink, ex=network, **ASKED)
    before = stamps()
    summary = ov.explain_dataset(x, sink, ex=network, **ASKED)
    assert (summary.resumed, summary.samples) == (8, 8)
    assert str(summary) == f"{sink}: 8 of 8 samples explained; 8 were there before", "no speed of nothing"
    assert stamps() == before


def replaced(x, at, value):
    x = x.copy()
    x[at] = value
    return x


OTHERWISE = {
    "method": (lambda x: x, {"method": "gradient"}, 'method="saliency", and now method="gradient"'),
    "target": (lambda x: x, {"target": 1}, "target=null, and now target=1"),
    "targets": (lambda x: x, {"target": np.arange(8) % 3}, "now target="),
    "of": (lambda x: x, {"of": "probability"}, 'of="logits", and now of="probability"'),
    "an option": (lambda x: x, {"reduce": "sum"}, 'options={}, and now options={"reduce": "sum"}'),
    "dtype": (lambda x: x, {"dtype": "float16"}, "dtype"),
    "top": (lambda x: x, {"top": 1}, "top=2, and now top=1"),
    "batch_size": (lambda x: x, {"batch_size": 4}, "batch_size=3, and now batch_size=4"),
    "fewer samples": (lambda x: x[:7], {}, "samples=8, and now samples=7"),
    "another kind of source": (pairs, {}, 'source="Rows", and now source="Stream"'),
    "another sample": (lambda x: replaced(x, 5, 0), {}, "sample 5, now '5', had another"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_what_differs_is_named(network, x, tmp_path, held, case):
    sink = tmp_path / "maps.parquet"
    ov.explain_dataset(x, sink, ex=network, **ASKED)
    source, asked, message = OTHERWISE[case]
    before = held(sink)
    with pytest.raises(OptionError) as caught:
        ov.explain_dataset(source(x), sink, ex=network, **{**ASKED, **asked})
    assert message in str(caught.value)
    assert "resume=False" in str(caught.value)
    assert_same(held(sink), before)
    assert ov.explain_dataset(source(x), sink, ex=network, **{**ASKED, **asked}, resume=False).resumed == 0


def test_another_network(subjects, network, x, sink, tmp_path):
    ov.explain_dataset(x, sink, ex=network, **ASKED)
    other = tmp_path / "other.onnx"
    shutil.copy(subjects("cnn").path, other)
    assert ov.explain_dataset(x, sink, ex=other, **ASKED).resumed == 8
    with other.open("ab") as file:
        file.write(b"\x7a\x03abc")  # a field that nobody knows
    with pytest.raises(OptionError, match=r"another file of the network \(its SHA-256 differs\)"):
        ov.explain_dataset(x, sink, ex=other, **ASKED)


FILES = {
    "content": lambda folder: (folder / "2.npy").write_bytes((folder / "2.npy").read_bytes()),
    "a new one": lambda folder: shutil.copy(folder / "2.npy", folder / "2a.npy"),
    "a lost one": lambda folder: (folder / "4.npy").unlink(),
    "a renamed one": lambda folder: (folder / "4.npy").rename(folder / "4a.npy"),
}


@pytest.mark.parametrize("change", FILES)
def test_changed_files(network, x, tmp_path, change):
    folder, sink = tmp_path / "in", tmp_path / "maps.parquet"
    folder.mkdir()
    for i, one in enumerate(x):
        np.save(folder / f"{i}.npy", one)
        os.utime(folder / f"{i}.npy", (1, 1))
    ov.explain_dataset(folder, sink, ex=network, **ASKED)
    FILES[change](folder)
    with pytest.raises(OptionError, match=r"sample (2|4), now '.*/in/(2|4a).npy'|samples=8, and now samples=(7|9)"):
        ov.explain_dataset(folder, sink, ex=network, **ASKED)


STREAMS = {
    "another name": (["a", "b", "x", "d", "e"], "sample 2 was 'c', and is now 'x'"),
    "fewer": (["a", "b", "c"], "sample 3 was 'd', and is now None"),
    "fewer by whole batches": (["a", "b"], "sample 2 was 'c', and is now None"),
    "more": (["a", "b", "c", "d", "e", "f"], "sample 5 was None, and is now 'f'"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_another_stream(network, x, sink, case):
    ov.explain_dataset(zip("abcde", x, strict=False), sink, ex=network, batch_size=2)
    names, message = STREAMS[case]
    with pytest.raises(OptionError) as caught:
        ov.explain_dataset(zip(names, x, strict=False), sink, ex=network, batch_size=2)
    assert message in str(caught.value)


def test_one_that_was_killed_before_its_first_batch_holds_nobody_to_it(network, x, sink, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Sink, "close", Sink._unlock)  # nothing is tidied
        with pytest.raises(OptionError):
            ov.explain_dataset(x, sink, ex=network, method="grad_can")
    assert sink.exists()
    assert ov.explain_dataset(x, sink, ex=network, method="grad_cam").explained == 8


def test_what_is_not_ours_is_not_touched(network, x, sink):
    sink.mkdir()
    (sink / "thesis.txt").write_text("years of work")
    for resume in (True, False):
        with pytest.raises(OptionError, match="is no data set of onnxviz"):
            ov.explain_dataset(x, sink, ex=network, resume=resume)
    assert (sink / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_no_room_left_on_the_disk(network, x, tmp_path, sink, held, room):
    """The limit of a file's size stands for the disk's: write() fails in the middle, in a place that nobody chose."""
    asked = {**ASKED, "method": "gradient"}
    ov.explain_dataset(x, tmp_path / f"whole{sink.suffix}", ex=network, **asked)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(FileAccessError, match=f"cannot write .*{sink.name}: .*File too large"):
            ov.explain_dataset(x, sink, ex=network, **asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert ov.explain_dataset(x, sink, ex=network, **asked).explained == 8
    assert_same(held(sink), held(tmp_path / f"whole{sink.suffix}"))


def test_one_writes_at_a_time(network, x, sink, held):
    """Another call finds the folder taken, whether it would go on with it or begin anew; then it is free again."""
    refused = []

    def begun_meanwhile():
        for i, one in enumerate(pairs(x)):
            if i in (4, 5):
                with pytest.raises(FileAccessError, match="is being written by another explain_dataset: wait"):
                    ov.explain_dataset(pairs(x), sink, ex=network, **ASKED, resume=i == 4)
                refused.append(i)
            yield one

    for resumed in (0, 8):
        assert ov.explain_dataset(begun_meanwhile(), sink, ex=network, **ASKED).resumed == resumed
    assert refused == [4, 5, 4, 5]
    assert len(held(sink)["name"]) == 8


@pytest.mark.parametrize(
    ("asked", "error"),
    [({"method": "grad_can"}, OptionError), ({"target": 7}, TargetError), ({"layer": "nowhere"}, LayerError)],
)
def test_beginning_anew_loses_nothing_if_it_is_refused(network, x, sink, held, asked, error):
    ov.explain_dataset(x, sink, ex=network, **ASKED)
    before = held(sink)
    with pytest.raises(error):
        ov.explain_dataset(x, sink, ex=network, **{**ASKED, "method": "gradient", **asked}, resume=False)
    assert_same(held(sink), before)
    assert [path.name for path in sink.parent.iterdir()] == [sink.name]
