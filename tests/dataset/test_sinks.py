"""What is stored: each column, its type, and how it is read back."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
import zarr

import onnxviz as ov
from onnxviz.errors import FileAccessError, InputError, LayerError, MissingDependencyError, OptionError, TargetError

TARGETS = {
    "the top": None,
    "a class": 2,
    "counted from the end": -1,
    "several for all": [[0, 3]],
    "one for each sample": np.arange(8) % 5,
    "several for each sample": np.arange(24).reshape(8, 3) % 5,
    "a weighting": np.array([1.0, -1, 0, 0, 0.5]),
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(network, x, sink, held, target):
    given = TARGETS[target]
    ov.explain_dataset(x, sink, ex=network, method="saliency", target=given, batch_size=8)
    found, expected = held(sink), network.saliency(x, given)
    np.testing.assert_array_equal(found["map"], expected.values)
    np.testing.assert_array_equal(found["score"], expected.score)
    classes = np.full(8, -1) if target == "a weighting" else expected.target
    np.testing.assert_array_equal(found["target"], np.broadcast_to(classes, found["target"].shape))


def test_targets_of_each_sample_stay_with_it(network, x, sink, held):
    """In batches, with samples between them that are skipped."""
    bad = x.copy()
    bad[[1, 4, 5]] = np.inf
    target = np.arange(8) % 5
    ov.explain_dataset(bad, sink, ex=network, method="saliency", target=target, batch_size=3)
    found = held(sink)
    for i in (0, 2, 3, 6, 7):
        np.testing.assert_allclose(found["map"][i], network.saliency(x[[i]], target[[i]]).values[0], rtol=1e-5)
    np.testing.assert_array_equal(found["target"], [0, -1, 2, 3, -1, -1, 1, 2])


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"target": [1, 2]}, TargetError, "a row for each sample, whose number is 8"),
        ({"target": [[0], [1]]}, TargetError, "number is 8"),
        ({"target": [[0], [1, 2]]}, TargetError, "ragged"),
        ({"target": 7}, TargetError, "out of range"),
        ({"layer": ["a", "b"]}, OptionError, "each layer a sink"),
        ({"layer": "nowhere"}, LayerError, "nowhere"),
        ({"batch_size": 0}, OptionError, "batch_size=0"),
        ({"workers": 0}, OptionError, "workers=0"),
        ({"top": -1}, OptionError, "top=-1"),
        ({"dtype": "float64"}, OptionError, "dtype='float64'"),
        ({"on_error": "ignore"}, OptionError, "on_error='ignore'"),
        ({"method": "grad_can"}, OptionError, "did you mean 'grad_cam'"),
        ({"ex": 3}, OptionError, "ex=3: expected an onnxviz.Explainer or text or a path"),
        ({"ray": {}}, OptionError, "'concurrency': the number of actors"),
        ({"sink": "maps.npz"}, OptionError, r"expected a path that ends with \.zarr or \.parquet"),
        ({"sink": 3}, OptionError, "sink=3"),
        ({"sink": "file/maps.zarr"}, FileAccessError, "cannot write file/maps.zarr: Not a directory"),
        ({"source": np.zeros((4, 3))}, InputError, r"shape \[1, 3\]"),
    ],
)
def test_arguments_that_cannot_be(network, x, tmp_path, monkeypatch, asked, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    given = {"source": x, "sink": "maps.zarr", "ex": network, **asked}
    with pytest.raises(error, match=message):
        ov.explain_dataset(given.pop("source"), given.pop("sink"), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ray_refuses_a_stream(network, x, tmp_path):
    with pytest.raises(OptionError, match="ray= needs a source that each machine can read"):
        ov.explain_dataset(zip("abc", x, strict=False), tmp_path / "a.zarr", ex=network, ray={"concurrency": 1})


def test_halves(network, x, sink, held):
    ov.explain_dataset(x, sink, ex=network, method="gradient", dtype="float16")
    maps = held(sink)["map"]
    assert {one.dtype for one in maps} == {np.dtype("float16")}
    np.testing.assert_array_equal(maps, network.gradient(x).values.astype(np.float16))


def test_the_most_probable_classes(network, x, sink, held):
    ov.explain_dataset(x, sink, ex=network, top=7, batch_size=8)
    found, expected = held(sink), network.top(x, 7)
    np.testing.assert_array_equal(found["top_class"][:, :5], [[i for i, _, _ in row] for row in expected])
    np.testing.assert_array_equal(found["top_class"][:, 5:], -1)  # there are five classes
    np.testing.assert_array_equal(found["top_score"][:, :5], np.float32([[p for _, _, p in row] for row in expected]))
    assert np.isnan(found["top_score"][:, 5:]).all()


def test_a_layers_own_gradient(network, x, sink, held):
    layer = network.layers[0].name
    ov.explain_dataset(x, sink, ex=network, method="gradient", layer=layer)
    np.testing.assert_array_equal(held(sink)["map"], network.gradient(x, layer=layer).values)


def test_read_back_as_the_docstring_says(network, x, tmp_path):
    bad = x.copy()
    bad[2] = np.nan
    for kind in ("zarr", "parquet"):
        ov.explain_dataset(bad, tmp_path / f"maps.{kind}", ex=network, method="saliency", batch_size=3)
    group = zarr.open_group(tmp_path / "maps.zarr", mode="r")
    maps = group["map"].oindex[group["status"][:] == 1]
    assert maps.shape == (7, 12, 12)
    assert group["map"].chunks == (3, 12, 12)
    table = pd.read_parquet(tmp_path / "maps.parquet").sort_values("index")
    first = table["map"].iloc[0].reshape(table["map_shape"].iloc[0])
    np.testing.assert_array_equal(first, maps[0])
    scores = pyarrow.dataset.dataset(tmp_path / "maps.parquet").to_table(columns=["name", "score"])
    assert scores["score"].null_count == 1
    assert group.attrs["onnxviz"]["made_by"]["onnxviz"] == ov.__version__


def test_a_map_goes_over_its_photo(pictured, photos, tmp_path, held):
    ov.explain_dataset(photos / "2.png", tmp_path / "maps.zarr", ex=pictured)
    placed = pictured.image_input.view((30, 20)).place(held(tmp_path / "maps.zarr")["map"][0], (0, 1))
    expected = pictured.grad_cam(photos / "2.png").values[0]
    np.testing.assert_array_equal(placed, expected)


@pytest.mark.parametrize(("package", "extra"), [("zarr", "data"), ("pyarrow", "data"), ("ray.data", "ray")])
def test_a_package_that_is_missing(network, x, tmp_path, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    sink, more = (
        ("a.parquet" if package == "pyarrow" else "a.zarr"),
        {"ray": {"concurrency": 1}} if "." in package else {},
    )
    with pytest.raises(MissingDependencyError, match=rf"pip install 'onnxviz\[{extra}\]'"):
        ov.explain_dataset(x, tmp_path / sink, ex=network, **more)


def test_inputs_without_a_batch_axis(network, x, tmp_path, monkeypatch):
    from dataclasses import replace

    image = network.inputs[0]
    unbatched = replace(image, axes=replace(image.axes, batch=None))
    monkeypatch.setattr(type(network), "inputs", (unbatched,))
    with pytest.raises(InputError, match="input 'image' has no batch axis"):
        ov.explain_dataset(x, tmp_path / "a.zarr", ex=network)


def test_the_bar_shows_on_a_terminal_only(network, x, sink, capsys):
    ov.explain_dataset(x, sink, ex=network)
    assert capsys.readouterr() == ("", "")
