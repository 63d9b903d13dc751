"""Samples from everywhere: their names, and the maps that they get."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch import nn

import onnxviz as ov
from onnxviz.errors import InputError


def as_npy(folder, x):
    np.save(folder / "x.npy", x)
    return folder / "x.npy", [f"{folder}/x.npy[{i}]" for i in range(8)]


def as_single_arrays(folder, x):
    for i, one in enumerate(x):
        np.save(folder / f"{i}.npy", one)
    return str(folder / "?.npy"), [f"{folder}/{i}.npy" for i in range(8)]


def as_mixed_folder(folder, x):
    (folder / "in").mkdir()
    np.save(folder / "in" / "a.npy", x[:3])
    np.savez(folder / "in" / "b.npz", image=x[3:7])
    np.save(folder / "in" / "c.npy", x[7])
    names = [*(f"a.npy[{i}]" for i in range(3)), *(f"b.npz[{i}]" for i in range(4)), "c.npy"]
    return folder / "in", [f"{folder}/in/{name}" for name in names]


def as_list(folder, x):
    for i, one in enumerate(x):
        np.save(folder / f"{i}.npy", one[None])
    paths = [folder / f"{i}.npy" for i in (3, 0, 1, 2, 4, 5, 6, 7)]
    return paths, list(map(str, paths))


def as_zarr(folder, x):
    array = zarr.create_array(folder / "x.zarr", shape=x.shape, dtype=x.dtype, chunks=(3, *x.shape[1:]))
    array[:] = x
    return folder / "x.zarr", [f"{folder}/x.zarr[{i}]" for i in range(8)]


def as_zarr_array(folder, x):
    return zarr.open_array(as_zarr(folder, x)[0], mode="r"), [str(i) for i in range(8)]


SOURCES = {
    "a .npy": as_npy,
    "a glob of .npy": as_single_arrays,
    "a folder of .npy and .npz": as_mixed_folder,
    "a list of paths": as_list,
    "a .zarr": as_zarr,
    "an array of Zarr": as_zarr_array,
    "an array": lambda _, x: (x, [str(i) for i in range(8)]),
    "an array in float64": lambda _, x: (x.astype(np.float64), [str(i) for i in range(8)]),
    "pairs": lambda _, x: (((f"s{i}", one) for i, one in enumerate(x)), [f"s{i}" for i in range(8)]),
    "pairs with a batch axis": lambda _, x: (
        [(f"s{i}", one[None]) for i, one in enumerate(x)],
        [f"s{i}" for i in range(8)],
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_each_kind_of_source(network, x, tmp_path, sink, held, kind):
    source, names = SOURCES[kind](tmp_path, x)
    order = [int(name.rpartition("/")[2][0]) for name in names] if kind == "a list of paths" else range(8)
    summary = ov.explain_dataset(source, sink, ex=network, method="saliency", batch_size=3)
    assert (summary.samples, summary.explained, summary.skipped) == (8, 8, ())
    found = held(sink)
    assert found["name"] == names
    assert set(found["error"]) == {""}
    expected = [network.saliency(x[list(order)][start : start + 3]) for start in (0, 3, 6)]  # the same batches
    np.testing.assert_array_equal(found["map"], np.concatenate([e.values for e in expected]))
    np.testing.assert_array_equal(found["target"], np.concatenate([e.target for e in expected]))
    np.testing.assert_array_equal(found["score"], np.concatenate([e.score for e in expected]))


def test_pictures_are_prepared_as_the_file_says_and_bad_ones_are_listed(pictured, photos, sink, held):
    summary = ov.explain_dataset(photos, sink, ex=pictured, method="grad_cam", batch_size=8)
    good, bad = [0, 2, 3, 5, 7], [1, 4, 6]
    found = held(sink)
    assert [name.rpartition("/")[2] for name in found["name"]] == [
        "0.png", "1.png", "2.png", "4.png", "5.jpg", "6.png", "7.png", "8.png"
    ]  # fmt: skip
    expected = pictured.grad_cam(np.concatenate([pictured.read_image(found["name"][i]) for i in good]))
    np.testing.assert_array_equal([found["map"][i] for i in good], expected.values)
    assert [i for i, one in enumerate(found["map"]) if one is None] == bad
    assert [bool(error) for error in found["error"]] == [i in bad for i in range(8)]
    assert "is not a picture" in found["error"][1]
    assert "damaged" in found["error"][6]
    assert [tuple(each) for each in summary.skipped] == [(found["name"][i], found["error"][i]) for i in bad]
    assert "5 of 8 samples explained; 3 skipped" in str(summary)
    assert "1.png: '" in str(summary)


def test_pixels_and_pillow_images(pictured, photos, tmp_path, held):
    pixels = np.stack([np.asarray(Image.open(photos / f"{i}.png")) for i in (0, 8)])
    ov.explain_dataset(pixels, tmp_path / "a.zarr", ex=pictured)
    ov.explain_dataset([(str(i), Image.open(photos / f"{i}.png")) for i in (0, 8)], tmp_path / "b.zarr", ex=pictured)
    np.save(tmp_path / "one.npy", pixels[0])
    ov.explain_dataset(tmp_path / "one.npy", tmp_path / "c.zarr", ex=pictured)
    a, b, c = (held(tmp_path / f"{name}.zarr") for name in "abc")
    np.testing.assert_array_equal(a["map"], b["map"])
    np.testing.assert_array_equal(c["map"], pictured.grad_cam(pixels[:1]).values)


def test_tables_and_series(subjects, tmp_path, held):
    series, table = subjects("series"), subjects("classifier")
    x = series.x(1)
    (tmp_path / "a.csv").write_text("\n".join(",".join(f"{v:.9g}" for v in row) for row in x[0].T))
    ov.explain_dataset(tmp_path / "a.csv", tmp_path / "a.zarr", ex=series.path, method="gradient")
    np.testing.assert_allclose(
        held(tmp_path / "a.zarr")["map"], series.explainer.gradient(x).values, rtol=1e-5, atol=1e-7
    )
    (tmp_path / "t.csv").write_text("1,2,3,4,5,6\n6,5,4,3,2,1\n1,1,1,1,1,1\n")
    ov.explain_dataset(tmp_path / "t.csv", tmp_path / "t.zarr", ex=table.explainer, method="gradient", batch_size=2)
    found = held(tmp_path / "t.zarr")
    assert found["name"] == [f"{tmp_path}/t.csv[{i}]" for i in range(3)]
    assert np.shape(found["map"]) == (3, 6)


def test_several_inputs(subjects, tmp_path, held):
    subject = subjects("two heads")
    feeds = subject.feeds(4)
    np.savez(tmp_path / "x.npz", **feeds)
    ov.explain_dataset(tmp_path / "x.npz", tmp_path / "a.zarr", ex=subject.explainer, method="gradient")
    np.testing.assert_array_equal(held(tmp_path / "a.zarr")["map"], subject.explainer.gradient(feeds).values)


def bad_samples(x):
    """Pairs of which the second, third and fourth are no samples."""
    return [
        ("a", x[0]),
        ("NaN", x[1] * np.nan),
        ("rank", x[0, 0, 0]),
        ("two", x[:2]),
        ("size", x[0, :, :5]),
        ("b", x[3]),
    ]


def test_what_is_no_sample_is_skipped_with_the_reason(network, x, sink, held):
    summary = ov.explain_dataset(iter(bad_samples(x)), sink, ex=network, method="saliency", batch_size=4)
    said = dict(summary.skipped)
    assert list(said) == ["NaN", "rank", "two", "size"]
    for name, words in {"NaN": "NaN or infinity", "rank": "axes", "two": "2 samples", "size": "shape"}.items():
        assert words in said[name]
    found = held(sink)
    np.testing.assert_array_equal(found["map"][0], network.saliency(x[:1]).values[0])
    np.testing.assert_array_equal(found["target"][1:5], [-1] * 4)
    assert np.isnan(found["score"][1:5]).all()


def test_nothing_can_be_read(network, tmp_path, sink, held):
    summary = ov.explain_dataset([tmp_path / "gone.npy", tmp_path / "away.npy"], sink, ex=network, batch_size=1)
    assert (summary.samples, summary.explained) == (2, 0)
    assert "No such file" in summary.skipped[0].reason
    assert held(sink)["map"] == [None, None]


def test_raise_names_the_sample_and_keeps_what_was_done(network, x, sink):
    with pytest.raises(InputError, match=r"source: NaN: .*on_error='skip'"):
        ov.explain_dataset(iter(bad_samples(x)), sink, ex=network, batch_size=1, on_error="raise")
    summary = ov.explain_dataset(iter(bad_samples(x)), sink, ex=network, batch_size=1)
    assert (summary.resumed, summary.explained) == (1, 2)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A network that takes pictures of any size."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    path = tmp_path_factory.mktemp("roomy") / "net.onnx"
    ov.convert(net, path, example=torch.randn(1, 3, 8, 8), open_sizes=True, quiet=True)
    return ov.load(path, threads=1)


def test_maps_of_several_sizes(roomy, sink, held):
    rng = np.random.default_rng(0)
    sizes = [(12, 12), (12, 12), (20, 16), (12, 12), (20, 16)]
    x = [rng.standard_normal((3, *size)).astype(np.float32) for size in sizes]
    summary = ov.explain_dataset([(str(i), one) for i, one in enumerate(x)], sink, ex=roomy, method="saliency")
    found = held(sink)
    if sink.suffix == ".parquet":
        assert [one.shape for one in found["map"]] == sizes
        np.testing.assert_array_equal(found["map"][2], roomy.saliency(np.stack([x[2], x[4]])).values[0])
    else:
        assert [name for name, _ in summary.skipped] == ["2", "4"]
        assert "its map has shape [20, 16], and the first has [12, 12]: a .parquet" in summary.skipped[0].reason
        assert [one is None for one in found["map"]] == [False, False, True, False, True]


REFUSED = {
    "an empty folder": (lambda f: f, "no pictures, .npy or .csv files in"),
    "a folder of folders": (lambda f: (f / "a").mkdir() or f, r"/\*\*/\*.jpg' takes those of its subfolders"),
    "no file": (lambda f: f / "x.npy", "there is no file"),
    "no array": (lambda f: f / "x.zarr", "holds no Zarr array"),
    "an empty list": (lambda _: [], "source holds no samples"),
    "an array without rows": (lambda _: np.zeros((0, 3, 12, 12), np.float32), "holds no samples"),
    "arrays without names": (lambda _: [np.zeros((3, 12, 12))], r"source gives pairs \(name, array\).*ndarray"),
    "a number": (lambda _: 3, "source is a folder, a glob.*got int"),
    "a dict": (lambda _: {"a": 1}, "got dict"),
    "pictures for a file that does not know them": (lambda f: [f / "a.jpg"], "does not say how pictures are prepared"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_sources_that_are_none(network, tmp_path, case):
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        ov.explain_dataset(make(tmp_path), tmp_path / "maps.zarr", ex=network)


def test_the_sources_own_error_comes_through(network, x, tmp_path, held):
    def pairs():
        yield from (("a", x[0]), ("b", x[1]))
        raise KeyError("the camera is off")

    with pytest.raises(KeyError, match="the camera is off"):
        ov.explain_dataset(pairs(), tmp_path / "maps.zarr", ex=network, batch_size=1)
    assert held(tmp_path / "maps.zarr")["name"][:2] == ["a", "b"]
