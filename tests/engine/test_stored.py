"""Sessions on disk: the same numbers, for the same file alone, and rebuilt where an entry does not hold."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import onnxviz as ov
from onnxviz.engine import stored
from onnxviz.errors import OnnxvizWarning, ProviderError
from tests.engine.questions import METHODS
from tests.networks import Cnn
from tests.support import assert_close, model_of, normal, torch_gradient


@pytest.fixture
def path(cnn, tmp_path) -> Path:
    return Path(shutil.copy(cnn.path, tmp_path / "net.onnx"))


def entries(path: Path) -> list[Path]:
    return sorted(path.with_name(f"{path.name}.cache").glob("*"))


def gradient(path: Path, x: np.ndarray, **options) -> np.ndarray:
    with ov.load(path, providers="cpu", **{"cache": True, **options}) as ex:
        return ex.gradient(x, 1).values


@pytest.fixture
def prepared(monkeypatch) -> list[None]:
    """One for each session that onnxruntime prepares anew."""
    made, create = [], stored.create_session

    def counted(*args, **options):
        made.append(None)
        return create(*args, **options)

    monkeypatch.setattr(stored, "create_session", counted)
    return made


def test_entries_give_the_same_numbers_to_the_bit(cnn, path, prepared):
    x = cnn.x(3)
    with ov.load(path, providers="cpu") as ex:
        expected = {name: METHODS[name](ex, x) for name in METHODS}
    for _ in range(2):
        with ov.load(path, providers="cpu", cache=True, max_sessions=50) as ex:
            for name, method in METHODS.items():
                assert np.array_equal(method(ex, x), expected[name]), name
    assert len(entries(path)) == len(prepared) > 5


@pytest.mark.parametrize("network", ["volume", "mixed", "tokens", "residual"])
def test_entries_of_other_networks_in_a_folder_of_the_users(subjects, tmp_path, prepared, network):
    subject, folder = subjects(network), tmp_path / "elsewhere"
    x, layer = subject.x(2), next(t.name for t in subject.explainer.layers if t.has_gradient)
    expected, gradient = subject.explainer.features(x), subject.explainer.gradient(x, layer=layer).values
    for _ in range(2):
        with ov.load(subject.path, providers="cpu", cache=folder) as ex:
            assert all(np.array_equal(value, expected[name]) for name, value in ex.features(x).items())
            assert np.array_equal(ex.gradient(x, layer=layer).values, gradient)
    assert len(list(folder.iterdir())) == len(prepared) == 2


def ends_with(entry: bytes, **changes) -> bytes:
    """An entry whose description says something else."""
    length = int.from_bytes(entry[-16:-8], "little")
    said = json.dumps({**json.loads(entry[-16 - length : -16]), **changes}).encode()
    return entry[: -16 - length] + said + stored._END.pack(len(said), stored._MAGIC)


def with_graph(entry: bytes, graph: bytes) -> bytes:
    """An entry with another graph, and the right digest of it."""
    length = int.from_bytes(entry[-16:-8], "little")
    start = json.loads(entry[-16 - length : -16])["start"]
    digest = stored.hashlib.sha256(graph).hexdigest()
    return ends_with(entry[:start] + graph + entry[-16 - length :], length=len(graph), graph=digest)


DAMAGE = {
    "empty": lambda entry: b"",
    "cut in the weights": lambda entry: entry[:1000],
    "cut in the graph": lambda entry: entry[: len(entry) - 2000],
    "cut at the end": lambda entry: entry[:-1],
    "cut at the beginning": lambda entry: entry[4096:],
    "garbage": lambda entry: np.random.default_rng(0).bytes(len(entry)),
    "garbage with the right end": lambda entry: np.random.default_rng(0).bytes(len(entry) - 16) + entry[-16:],
    "a length beyond the file": lambda entry: entry[:-16] + stored._END.pack(2**63, stored._MAGIC),
    "another format": lambda entry: entry[:-1] + b"\x02",
    "a flipped bit in the graph": lambda entry: entry.replace(b"com.microsoft.nchwc", b"com.microsoft.nchwd", 1),
    "a description that is none": lambda entry: entry[:-16] + b"[1]" + stored._END.pack(3, stored._MAGIC),
    "a description of something else": lambda entry: ends_with(entry, colour="red"),
    "numbers that are text": lambda entry: ends_with(entry, start="0"),
    "an entry of another name": lambda entry: ends_with(entry, name="x.session"),
    "weights that the file lacks": lambda entry: ends_with(entry, kept=["nothing"]),
    "lists that are none": lambda entry: ends_with(entry, kept=None),
    "other weights": lambda entry: ends_with(entry, made_of="0" * 64),
    "a graph that is none": lambda entry: with_graph(entry, b"\xff" * 100),
    "a graph of something else": lambda entry: with_graph(entry, onnx.ModelProto().SerializeToString()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_entry_that_does_not_hold_is_rebuilt(cnn, path, prepared, damage):
    x = cnn.x(2)
    expected = gradient(path, x)
    (entry,) = entries(path)
    whole = entry.read_bytes()
    assert DAMAGE[damage](whole) != whole
    entry.write_bytes(DAMAGE[damage](whole))
    assert np.array_equal(gradient(path, x), expected)
    assert entries(path) == [entry]
    assert np.array_equal(gradient(path, x), expected)
    assert len(prepared) == 2


IN_ITS_PLACE = {
    "a pipe": os.mkfifo,
    "a device": lambda entry: entry.symlink_to("/dev/zero"),
    "a folder": lambda entry: entry.mkdir(),
}


@pytest.mark.filterwarnings("ignore:cache")
@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_what_is_no_entry_is_not_read(cnn, path, what):
    expected = gradient(path, cnn.x(2))
    (entry,) = entries(path)
    entry.unlink()
    IN_ITS_PLACE[what](entry)
    assert np.array_equal(gradient(path, cnn.x(2)), expected)


def test_entries_of_others_are_made_anew(cnn, path, monkeypatch, prepared):
    """Whoever may write into the folder could have the graph compute anything."""
    expected = gradient(path, cnn.x(2))
    monkeypatch.setattr(stored, "_trusted", lambda weights: set())
    assert np.array_equal(gradient(path, cnn.x(2)), expected)
    assert len(prepared) == 2


@pytest.mark.parametrize("what", ["onnxruntime", "onnxviz", "processor", "options"])
def test_entries_are_for_what_they_were_made_with(cnn, path, monkeypatch, prepared, what):
    expected = gradient(path, cnn.x(2))
    if what == "onnxruntime":
        monkeypatch.setattr(onnxruntime, "__version__", "1.99.0")
    elif what == "onnxviz":
        monkeypatch.setattr(stored, "__version__", "99.0")
    elif what == "processor":
        monkeypatch.setattr(stored, "_processor", lambda: "flags: none")
    options = {"providers": [("cpu", {"use_arena": "1"})]} if what == "options" else {"providers": "cpu"}
    with ov.load(path, cache=True, **options) as ex:
        assert np.array_equal(ex.gradient(cnn.x(2), 1).values, expected)
    assert len(entries(path)) == len(prepared) == 2


@pytest.mark.parametrize("external", [False, True])
def test_other_weights_under_the_same_name_are_not_explained_with_the_old(cnn, tmp_path, external):
    path, x = tmp_path / "net.onnx", cnn.x(2)
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = Cnn().eval()
        ov.convert(model, path, example=x, external_data=external, quiet=True)
        assert_close(gradient(path, x), torch_gradient(model, {"image": x}, lambda y: y[:, 1]))


def dense(folder: Path, seed: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """A network of one large matrix that sessions share; an input, and the gradient of its second output."""
    weights = {"w": normal(600, 500, seed=seed), "m": normal(500, 3, seed=2)}
    model = model_of("h = Gemm(x, w)  a = Relu(h)  y = MatMul(a, m)", "float[N, 600] x", "float[N, 3] y", weights)
    onnx.save(model, folder / "plain.onnx")
    x = normal(4, 600, seed=5)
    expected = (weights["m"][:, 1] * (x @ weights["w"] > 0)) @ weights["w"].T
    return ov.convert(folder / "plain.onnx", folder / "net.onnx", quiet=True), x, expected


def test_large_matrices_are_not_written_again(tmp_path):
    path, x, expected = dense(tmp_path, 0)
    for _ in range(2):
        assert_close(gradient(path, x), expected)
    (entry,) = entries(path)
    assert entry.stat().st_size < path.stat().st_size / 10
    path, x, expected = dense(tmp_path, 1)
    assert_close(gradient(path, x), expected)


def test_entries_go_along_with_the_file(cnn, path, tmp_path_factory, prepared):
    expected = gradient(path, cnn.x(2))
    moved = tmp_path_factory.mktemp("other") / "folder"
    shutil.copytree(path.parent, moved)
    shutil.rmtree(path.parent)
    assert np.array_equal(gradient(moved / path.name, cnn.x(2)), expected)
    assert len(prepared) == 1


@pytest.mark.parametrize("where", ["in a file's place", "in no folder"])
def test_a_folder_that_cannot_be_written_is_done_without(cnn, path, tmp_path, where):
    folder = tmp_path / "a" / "b"
    if where == "in a file's place":
        folder = tmp_path / "cache"
        folder.write_text("no folder")
    with pytest.warns(OnnxvizWarning, match=f"cache: {folder} cannot be written, going on without"):
        assert_close(gradient(path, cnn.x(2), cache=folder), cnn.explainer.gradient(cnn.x(2), 1).values, bar=1e-6)


def test_a_disk_that_is_full_is_done_without(cnn, path, monkeypatch):
    create = stored.create_session

    def full(*args, copy=None, **options):
        if copy is not None:
            copy.write_bytes(b"\x08")
            raise ProviderError("No space left on device")
        return create(*args, **options)

    monkeypatch.setattr(stored, "create_session", full)
    with pytest.warns(OnnxvizWarning, match="going on without: No space left on device"):
        assert_close(gradient(path, cnn.x(2)), cnn.explainer.gradient(cnn.x(2), 1).values, bar=1e-6)
    assert not entries(path)


def test_several_at_once_write_the_same_entry(cnn, path):
    expected = cnn.explainer.gradient(cnn.x(2), 1).values
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: gradient(path, cnn.x(2)), range(4)):
            assert_close(found, expected, bar=1e-6)
    assert len(entries(path)) == 1


def test_engines_of_changed_weights_leave_no_entries(cnn, path):
    with ov.load(path, providers="cpu", cache=True) as ex:
        report = ov.sanity_check(ex, cnn.x(1), methods=["saliency"])
        assert report
        before = entries(path)
    with ov.load(path, providers="cpu", cache=True) as ex:
        ov.sanity_check(ex, cnn.x(1), methods=["saliency"], seed=7)
    assert entries(path) == before


def test_nothing_is_kept_unless_it_is_asked_for(cnn, path):
    gradient(path, cnn.x(1), cache=False)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
