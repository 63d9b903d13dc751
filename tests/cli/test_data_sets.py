from __future__ import annotations

import numpy as np
import pytest
import zarr

import onnxviz as ov


@pytest.mark.parametrize("name", ["maps.zarr", "maps.parquet"])
def test_a_folder_becomes_a_data_set_and_is_gone_on_with(colours, folder, call, name):
    arguments = ("explain", colours, "photos", "-m", "saliency", "-t", "red", "--out", name)
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: 2 of 2 samples explained; ")
    code, row, _ = call(*arguments, "--json")
    assert code == 0
    assert (row["sink"], row["samples"], row["explained"], row["resumed"], row["refused"]) == (name, 2, 2, 2, [])
    assert call(*arguments, "--fresh", "--json")[1]["resumed"] == 0
    assert {path.name for path in folder.iterdir()} == {"photos", name}


def test_numbers_are_those_of_the_api(colours, call):
    options = ("-m", "integrated_gradients", "-o", "n_steps=5", "-t", "azure", "-t", "2", "--of", "probability")
    assert call("explain", colours, "photos", *options, "-b", "2", "--workers", "1", "--out", "a.zarr")[0] == 0
    asked = {"n_steps": 5, "of": "probability", "target": [[1, 2]]}
    ov.explain_dataset("photos", "b.zarr", ex=colours, method="integrated_gradients", batch_size=2, **asked)
    a, b = (zarr.open_group(name, mode="r") for name in ("a.zarr", "b.zarr"))
    assert a["map"].shape == (2, 2, 3, 24, 36)
    for column in ("map", "target", "score"):
        np.testing.assert_array_equal(a[column][:], b[column][:])


def test_what_cannot_be_read_is_told(colours, folder, call):
    (folder / "photos" / "bad.png").write_text("no picture")
    code, row, err = call("explain", colours, "photos", "photos/*.png", "--out", "maps.zarr", "--json")
    assert code == 1
    assert [each["input"] for each in row["refused"]] == ["photos/bad.png"]
    assert "not a picture" in row["refused"][0]["error"]
    assert "1 of 3 inputs could not be explained" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--percentile", "99"], "--percentile is for pictures"),
        (["--view", "overlay"], "--view is for pictures"),
        (["--format", "npz"], "--format is for pictures"),
        (["-l", "colour", "-l", "relu"], "each layer a sink"),
        (["-m", "gradient"], 'was begun with method="grad_cam", and now method="gradient"'),
        (["-t", "purple"], "there is no class 'purple'"),
    ],
)
def test_refusals_say_why(colours, call, arguments, message):
    assert call("explain", colours, "photos", "--out", "maps.zarr")[0] == 0
    code, _, err = call("explain", colours, "photos", "--out", "maps.zarr", *arguments)
    assert code == 1
    assert err.startswith("onnxviz: ")
    assert message in err
