from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.algorithms import streams
from onnxviz.errors import InputError, LayerError, MissingDependencyError
from onnxviz.manifest import Axes
from tests.support import assert_close, mlp, model_of

LABELS = np.arange(7) % 3


def streamed(subject, batches, layer):
    engine = subject.explainer._engine
    tensor = streams.tensor_of(engine.bundle.manifest, layer, None)
    return list(streams.parts(engine, batches, tensor))


@pytest.mark.parametrize(
    "batches",
    [
        lambda x: x,
        lambda x: {"image": x},
        torch.tensor,
        lambda x: [x[:3], x[3:]],
        lambda x: (x[i : i + 2] for i in range(0, 7, 2)),
        lambda x: torch.utils.data.DataLoader(torch.tensor(x), batch_size=4),
    ],
    ids=["array", "dict", "tensor", "list", "generator", "loader"],
)
def test_every_kind_of_batches_gives_the_same_values(cnn, batches):
    x = cnn.x(7)
    parts = streamed(cnn, batches(x), "features.2")
    assert_close(np.concatenate([p.values for p in parts]), cnn.explainer.features(x, "features.2")["features.2"], 1e-6)
    assert [p.first for p in parts] == list(np.cumsum([0] + [len(p.values) for p in parts[:-1]]))
    assert all(p.labels is None for p in parts)


@pytest.mark.parametrize(
    "batches",
    [
        lambda x: (x, LABELS),
        lambda x: [(x[:3], LABELS[:3]), [x[3:], torch.tensor(LABELS[3:])]],
        lambda x: (x, LABELS[:, None]),
        lambda x: ({"image": x}, LABELS),
    ],
    ids=["pair", "pairs", "column", "dict"],
)
def test_labels_stay_with_their_samples(cnn, batches):
    parts = streamed(cnn, batches(cnn.x(7)), "logits")
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), LABELS)


def test_arrays_are_read_in_slices(cnn, monkeypatch):
    monkeypatch.setattr(streams, "SLICE", 2)
    parts = streamed(cnn, (cnn.x(7), LABELS), "logits")
    assert [len(p.values) for p in parts] == [2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), LABELS)


def test_two_inputs_are_a_tuple_and_with_labels_a_pair(subjects):
    subject = subjects("two heads")
    feeds = tuple(subject.feeds(4).values())
    for batches, labelled in ((feeds, False), ([feeds], False), ((feeds, np.arange(4)), True)):
        (part,) = streamed(subject, batches, "left")
        assert len(part.values) == 4
        assert (part.labels is not None) == labelled


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda x: [], "no samples"),
        (lambda x: 3, "batches is an array, a pair"),
        (lambda x: "file", "got str"),
        (lambda x: (x, LABELS[:5]), r"each of the 7 samples; got shape \[5\]"),
        (lambda x: (x, np.eye(3)[LABELS]), r"labels.argmax\(1\)"),
        (lambda x: [(x, LABELS), x], "some batches have labels"),
        (lambda x: x[0], r"Add the batch axis: x\[None\]"),
        (lambda x: [x, x[:, :2]], "input 'image' has shape"),
    ],
)
def test_what_is_no_stream_is_refused(cnn, batches, message):
    with pytest.raises(InputError, match=message):
        streamed(cnn, batches(cnn.x(7)), "logits")


def test_layers_with_several_entries_per_sample_are_refused(tmp_path):
    nodes = "r = Reshape(x, pairs)  h = Relu(r)  s = Reshape(h, back)  y = MatMul(s, m)"
    weights = {"pairs": np.array([-1, 3]), "back": np.array([-1, 6]), "m": np.eye(6, dtype=np.float32)}
    path = ov.convert(
        model_of(nodes, "float[N, 6] x", "float[N, 6] y", weights), tmp_path / "net.onnx", layers=["h"], quiet=True
    )
    with ov.load(path, providers="cpu") as ex, pytest.raises(LayerError, match="no axis that counts the samples"):
        ex.embed(np.ones((4, 6), np.float32), "h")


def test_infinities_are_refused(tmp_path):
    path = ov.convert(mlp(), tmp_path / "net.onnx", quiet=True)
    x = np.zeros((3, 6), np.float32)
    x[1] = 3e38
    with ov.load(path, providers="cpu") as ex, pytest.raises(LayerError, match="samples 0 … 2"):
        ex.embed(x, components=1)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((4, 3), Axes(0, 1), (4, 3)),
        ((4, 3), Axes(0), (4, 3)),
        ((4,), Axes(0), (4, 1)),
        ((4, 3, 5, 6), Axes(0, 1, (2, 3)), (4, 3, 5, 6)),
        ((4, 5, 6, 3), Axes(0, 3, (1, 2)), (4, 3, 5, 6)),
        ((4, 5, 3), Axes(0), None),
        ((4, 5, 3), Axes(0, 2), (4, 3, 5)),
    ],
)
def test_units_come_second(shape, axes, expected):
    found = streams.by_unit(np.zeros(shape), axes)
    assert (None if found is None else found.shape) == expected


def test_a_missing_package_names_the_extra(cnn):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['sklearn', 'scipy']))\n"
        "import numpy as np, onnxviz as ov\n"
        "ex = ov.load(sys.argv[1], providers='cpu')\n"
        "x = np.ones((3, 3, 12, 12), np.float32)\n"
        "stats = ex.unit_stats(x, 'features.0')\n"
        "for ask in (lambda: ex.embed(x), lambda: stats.redundant):\n"
        "    try: ask()\n"
        "    except ov.OnnxvizError as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(cnn.path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in printed] == [MissingDependencyError.__name__] * 2
    assert "scikit-learn" in printed[0]
    assert "SciPy" in printed[1]
    assert all("pip install 'onnxviz[analysis]'" in line for line in printed)
