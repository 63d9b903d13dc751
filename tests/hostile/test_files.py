"""Files of unknown origin: each is refused by an OnnxvizError or gets a right answer, in bounded time and memory.

They are opened in a process of its own, so that crashes and hangs are seen (:mod:`tests.hostile.watch`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxviz as ov
from onnxviz import limits, soundness
from onnxviz.errors import ConversionError, FileFormatError, OnnxvizError, UnsupportedModelError
from tests.hostile import constructions, specimens
from tests.hostile.damage import KINDS, damaged
from tests.hostile.guided import FINDS
from tests.hostile.watch import Watched, environment

ROUNDS = {"plain": 8, "plain beside": 5, "explainable": 24, "explainable beside": 8}
"""Of each kind of damage, for each healthy file; ``make fuzz`` goes on."""


@pytest.fixture(scope="module")
def watched():
    with Watched() as child:
        yield child


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> dict[str, Path]:
    return specimens.healthy(tmp_path_factory.mktemp("healthy"))


def kind_of(name: str) -> str:
    return "convert" if name.startswith("plain") else "load"


@pytest.mark.parametrize("name", specimens.NAMES)
def test_the_healthy_files_are_right(watched, healthy, name):
    assert watched.outcome(kind_of(name), healthy[name]).verdict == "right"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", specimens.NAMES)
def test_damage_at_random(watched, healthy, name, kind):
    content, path = healthy[name].read_bytes(), healthy[name].with_name("damaged.onnx")
    if kind == "misdescribed" and name.startswith("plain"):
        content = healthy["explainable"].read_bytes()  # a plain file has no tables; as one it is refused
    verdicts = []
    for seed in range(ROUNDS[name]):
        path.write_bytes(damaged(content, seed, kind))
        outcome = watched.outcome(kind_of(name), path)
        assert outcome.harmless, (seed, outcome)
        verdicts.append(outcome.verdict)
    assert "refused" in verdicts


@pytest.mark.parametrize("name", constructions.REFUSED)
def test_made_to_do_harm(watched, tmp_path, name):
    (tmp_path / "net.onnx").write_bytes(constructions.REFUSED[name]().SerializeToString())
    outcome = watched.outcome("convert", tmp_path / "net.onnx")
    assert outcome.verdict == "refused", outcome
    assert not (tmp_path / "net.explainable.onnx").exists()


@pytest.mark.parametrize("find", sorted(FINDS.iterdir()), ids=lambda path: path.name)
def test_what_fuzzing_found(watched, tmp_path, find):
    """Inputs that once raised something else, crashed, hung or took too much; named after where they come in."""
    shutil.copy(find, tmp_path / "net.onnx")
    outcome = watched.outcome(find.name.partition("-")[0], tmp_path / "net.onnx")
    assert outcome.harmless, outcome


@pytest.mark.parametrize("kind", ["cut", "metadata"])
def test_other_entries_take_the_healthy_file(watched, healthy, tmp_path, kind):
    model = onnx.load(healthy["explainable"])
    entries = "\n".join(f"{entry.key}\t{entry.value}" for entry in model.metadata_props)
    (tmp_path / "tables").write_text(entries)
    assert watched.outcome(kind, healthy["explainable"] if kind == "cut" else tmp_path / "tables").verdict == "right"


@pytest.mark.parametrize("name", constructions.RIGHT)
def test_odd_but_right(tmp_path, name):
    onnx.save(constructions.RIGHT[name](), tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"x": x})[0]
    with ov.load(ov.convert(tmp_path / "net.onnx", tmp_path / "out.onnx", quiet=True), providers="cpu") as ex:
        np.testing.assert_allclose(ex.predict(x), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with links that lead out of it, a device and a pipe."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(bytes(100))
    folder = outside / "model"
    (folder / "inside").mkdir(parents=True)
    (folder / "good").write_bytes(bytes(100))
    os.mkfifo(folder / "pipe")
    for name, target in {"link": "../secret", "linked": "..", "zero": "/dev/zero", "loop": "loop"}.items():
        (folder / name).symlink_to(target)
    return folder


@pytest.mark.parametrize("place", constructions.PLACES)
@pytest.mark.parametrize("holder", constructions.HOLDERS)
def test_weights_elsewhere_are_not_read(folder, holder, place):
    model = constructions.HOLDERS[holder](constructions.placed(constructions.PLACES[place]))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises((UnsupportedModelError, FileFormatError)) as refusal:
        ov.convert(folder / "net.onnx", folder / "out.onnx", quiet=True)
    assert "'w'" in str(refusal.value) or "beside" in str(refusal.value)
    assert len(str(refusal.value)) < 6000


@pytest.mark.parametrize("holder", constructions.HOLDERS)
def test_weights_beside_are_read(folder, holder):
    model = constructions.HOLDERS[holder](constructions.placed({"location": "good", "offset": "8", "length": "24"}))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    assert ov.convert(folder / "net.onnx", folder / "out.onnx", quiet=True)


LINKS = {
    "a link within the folder": lambda beside, folder: beside.symlink_to(folder / "numbers"),
    "a second name": lambda beside, folder: beside.hardlink_to(folder / "numbers"),
    "a file with more behind": lambda beside, folder: beside.write_bytes((folder / "numbers").read_bytes() + bytes(99)),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("size", [6, 30_000])
def test_weights_beside_without_a_length(tmp_path, link, size):
    """Small ones are read in, large ones are mapped."""
    w = np.arange(6 * size, dtype=np.float32).reshape(6, size)
    (tmp_path / "numbers").write_bytes(bytes(8) + w.tobytes())
    LINKS[link](tmp_path / "beside", tmp_path)
    model = constructions.graph("y = MatMul(x, w)", outputs=f"float[N, {size}] y")
    weight = model.graph.initializer.add()
    weight.CopyFrom(constructions.placed({"location": "beside", "offset": "8"}))
    weight.dims[:] = w.shape
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with ov.load(ov.convert(tmp_path / "net.onnx", tmp_path / "out.onnx", quiet=True), providers="cpu") as ex:
        np.testing.assert_array_equal(ex.predict(np.eye(6, dtype=np.float32)), w)


def test_a_file_without_layers_whose_weights_are_no_numbers(tmp_path):
    model = constructions.graph("y = Mul(x, w)", w=np.array([1, np.nan, 1, 1, 1, 1], np.float32))
    with ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex:
        found = ex.gradient(np.ones((1, 6), np.float32), np.eye(6, dtype=np.float32)[0])
        assert any("infinit" in note for note in found.notes) == (not np.isfinite(found.values).all())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", [1, 36])
def test_weights_that_are_no_numbers(tmp_path, value, share):
    w = np.ones(36, np.float32)
    w[:share] = value
    model = constructions.graph("h = MatMul(x, w) y = Relu(h)", w=w.reshape(6, 6))
    x = np.ones((2, 6), np.float32)
    with (
        ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex,
        np.errstate(invalid="ignore"),
    ):
        np.testing.assert_array_equal(ex.predict(x), np.maximum(x @ w.reshape(6, 6), 0))
        found = ex.input_x_gradient(x, 0)
        told = any("infinit" in note for note in found.notes)
        assert told == (not np.isfinite(found.values).all())
        assert told or not np.isnan(value)


def test_a_loop_is_ended_in_an_explainable_file_too(tmp_path, monkeypatch):
    body = "(int64 i, bool c, float[N, 6] a) => (bool d, float[N, 6] e) { d = Identity(c) e = Relu(a) }"
    model = constructions.graph(
        f"h = Loop<body = b {body}>(n, more, x) y = Relu(h)", n=np.int64(3), more=np.array(True)
    )
    path = ov.convert(model, tmp_path / "net.onnx", gradient=False, quiet=True)
    endless = onnx.load(path)
    for tensor in endless.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64 and onnx.numpy_helper.to_array(tensor) == 3:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.int64(2**62), tensor.name))
    path.write_bytes(endless.SerializeToString())
    monkeypatch.setattr("onnxviz.limits.MOST_SECONDS", 0.5)
    with ov.load(path, providers="cpu") as ex, pytest.raises(OnnxvizError, match="longer than"):
        ex.predict(np.ones((1, 6), np.float32))


@pytest.mark.parametrize("name", specimens.NAMES[2:])
def test_sound_files_are_called_sound(healthy, name):
    soundness.require_sound(onnx.load(healthy[name], load_external_data=False), name)


def test_deeply_nested_metadata(healthy, tmp_path):
    model = onnx.load(healthy["explainable"])
    next(p for p in model.metadata_props if p.key == "onnxviz.residuals").value = "[" * 10**5
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(FileFormatError, match=r"metadata .* is damaged"):
        ov.load(tmp_path / "net.onnx")


def test_what_does_not_fit_into_memory_says_how_much_it_takes(tmp_path):
    model = constructions.SIZES["a constant of 4 TiB"]()
    with pytest.raises(UnsupportedModelError, match=r"'q' takes 3,725\.3 GiB; on this machine"):
        ov.convert(model, tmp_path / "net.onnx", quiet=True)


GREEDY = """
import sys, numpy, onnxviz
from onnxviz.engine import session
session.most_bytes = lambda: 2**27
with onnxviz.load(sys.argv[1], providers="cpu", threads=1) as ex:
    try:
        ex.saliency(numpy.ones((2, 3, 8, 8), numpy.float32), 1)
    except onnxviz.errors.OutOfMemoryError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("place", ["graph", "MaxPoolGrad"])
@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand"])
def test_what_an_explainable_file_computes_is_bounded(healthy, tmp_path, operator, place):
    """A run takes half of the memory at most; here 128 MiB, of which one value would take four times as much."""
    model = onnx.load(healthy["explainable"])
    holder = model.graph if place == "graph" else next(f for f in model.functions if f.name == place)
    index = next(i for i, node in enumerate(holder.node) if node.op_type in ("Conv", "MaxPool"))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in holder.node]
    given, nodes[index].input[0] = nodes[index].input[0], "fatter"
    size, one = (onnx.numpy_helper.from_array(a) for a in (np.array([2**27]), np.ones(1, np.float32)))
    fat = [
        onnx.helper.make_node("Constant", [], ["size"], value=size),
        onnx.helper.make_node("Constant", [], ["one"], value=one),
        onnx.helper.make_node(operator, ["size"] if operator == "ConstantOfShape" else ["one", "size"], ["fat"]),
        onnx.helper.make_node("ReduceMean", ["fat"], ["mean"], keepdims=0),
        onnx.helper.make_node("Add", [given, "mean"], ["fatter"]),
    ]
    del holder.node[:]
    holder.node.extend([*nodes[:index], *fat, *nodes[index:]])
    onnx.save(model, tmp_path / "net.onnx")
    child = [sys.executable, "-c", GREEDY, tmp_path / "net.onnx"]
    said = subprocess.run(child, env=environment(), check=True, capture_output=True, text=True).stdout
    assert said == "OutOfMemoryError\n"


def test_a_container_may_use_less_than_the_machine_has(monkeypatch, tmp_path):
    machine = limits.most_bytes()
    for told, most in (("1048576\n", 2**19), ("max\n", machine), (f"{2**62}\n", machine)):
        (tmp_path / "memory.max").write_text(told)
        monkeypatch.setattr("onnxviz.limits.CONTAINER", tmp_path / "memory.max")
        assert limits.most_bytes() == most


def test_a_conversion_that_takes_too_long_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxviz.limits.MOST_SECONDS", 0.3)
    with pytest.raises(ConversionError, match="takes longer than"):
        ov.convert(constructions.CYCLES["a loop without an end"](), tmp_path / "net.onnx", quiet=True)
