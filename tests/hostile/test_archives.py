"""Archives of exported programs that bring code along: torch would run it when it opens them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import UnsupportedModelError
from onnxviz_torch.program import load

Entries = dict[str, bytes]


class Planted:
    """An object whose pickle makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """With an open batch, so that it holds sizes as text, a buffer and a constant."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).eval()
    x = torch.randn(2, 3, 8, 8)
    net(x)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n", max=64)},)), path)
    return path


def saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def configured(entries: Entries, name: str, file: str, content: bytes) -> None:
    """One tensor of a table of weights or constants replaced by a pickle."""
    (table,) = [key for key in entries if key.endswith(f"model_{name}_config.json")]
    document = json.loads(entries[table])
    meta = {"path_name": file, "is_param": False, "use_pickle": True, "tensor_meta": None}
    document["config"][next(iter(document["config"]), "c")] = meta
    entries[table] = json.dumps(document).encode()
    entries[table.rpartition("/")[0] + "/" + file] = content


def sized(entries: Entries, folder: Path) -> None:
    (model,) = [key for key in entries if key.endswith("models/model.json")]
    document = entries[model].decode()
    start = document.index('"expr_str": "') + len('"expr_str": "')
    code = f"__import__('os').mkdir('{folder}')"
    entries[model] = (document[:start] + code + document[document.index('"', start) :]).encode()


def put(entries: Entries, end: str, content: bytes) -> None:
    (name,) = [key for key in entries if key.endswith(end)]
    entries[name] = content


PLANTED: dict[str, Callable[[Entries, Path], None]] = {
    "example inputs": lambda e, f: put(e, "sample_inputs/model.pt", saved(((Planted(f),), {}))),
    "a weight": lambda e, f: configured(e, "weights", "weight_0", saved(Planted(f))),
    "a weight elsewhere": lambda e, f: configured(e, "weights", "../hidden/weight_7", saved(Planted(f))),
    "a constant": lambda e, f: configured(e, "constants", "tensor_0", saved(Planted(f))),
    "an object": lambda e, f: configured(e, "constants", "opaque_obj_0", pickle.dumps(Planted(f))),
    "weights as they were saved once": lambda e, f: e.update({"net/data/weights/model.pt": saved(Planted(f))}),
    "a size": sized,
    "a compiled library": lambda e, f: e.update({"net/data/aotinductor/model/net.so": b"\x7fELF"}),
}


@pytest.mark.parametrize("place", PLANTED)
def test_code_is_not_run(program, tmp_path, place):
    with zipfile.ZipFile(program) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    PLANTED[place](entries, tmp_path / "planted")
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(UnsupportedModelError, match=r"may hold code that would be run \(.*trust_code=True"):
        ov.convert(tmp_path / "net.pt2", tmp_path / "net.onnx", quiet=True)
    assert not (tmp_path / "planted").exists()


def test_an_entry_that_is_there_twice(program, tmp_path):
    """Readers differ in which they take."""
    with zipfile.ZipFile(program) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(*entries[0])
    with pytest.raises(UnsupportedModelError, match="there twice"):
        ov.convert(tmp_path / "net.pt2", tmp_path / "net.onnx", quiet=True)


def test_a_small_archive_of_something_large(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/models/model.json", bytes(10**7))
    with pytest.raises(UnsupportedModelError, match="compressed"):
        ov.convert(tmp_path / "net.pt2", tmp_path / "net.onnx", quiet=True)


DOCUMENTS = {
    "nothing": lambda said: None,
    "a list": lambda said: [said],
    "a program without a graph": lambda said: {**said, "graph_module": {}},
    "nodes that are none": lambda said: {**said, "graph_module": {**said["graph_module"], "graph": {"nodes": [None]}}},
    "deep": lambda said: functools.reduce(lambda inner, _: {"a": inner}, range(500), said),
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_of_something_else(program, tmp_path, document):
    with zipfile.ZipFile(program) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (model,) = [name for name in entries if name.endswith("models/model.json")]
    entries[model] = json.dumps(DOCUMENTS[document](json.loads(entries[model]))).encode()
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(UnsupportedModelError, match="holds no exported program"):
        ov.convert(tmp_path / "net.pt2", tmp_path / "net.onnx", quiet=True)


def test_a_program_without_code_is_taken(program, tmp_path):
    with ov.load(ov.convert(program, tmp_path / "net.onnx", quiet=True), providers="cpu") as ex:
        assert ex.saliency(torch.ones(3, 3, 8, 8), 1).shape == (3, 8, 8)


def test_code_that_is_trusted_is_run(program, tmp_path):
    """As torch runs it: that the refusals above refuse something is shown by this."""
    with zipfile.ZipFile(program) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    PLANTED["example inputs"](entries, tmp_path / "planted")
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with contextlib.suppress(Exception):  # the example is now no example
        load(tmp_path / "net.pt2", trust_code=True)
    assert (tmp_path / "planted").exists()


def test_trust_is_taken_where_it_means_something(tmp_path, program):
    program.with_suffix(".onnx").touch()
    with pytest.raises(ov.OnnxvizError, match="an ONNX file holds no code"):
        ov.convert(program.with_suffix(".onnx"), tmp_path / "net.onnx", trust_code=True)
