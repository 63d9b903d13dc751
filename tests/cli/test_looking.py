from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import onnxviz as ov
from onnxviz.image import read_pixels


def test_features_as_pictures_and_numbers(colours, call):
    code, out, _ = call("features", colours, "photos/red.png")
    assert code == 0
    assert out.startswith("red.relu.png: relu 1×4×24×36")
    assert read_pixels("red.relu.png").shape[1] > 100
    code, rows, _ = call(
        "features", colours, "photos/red.png", "-l", "colour", "-l", "relu", "--out", "a.npz", "--json"
    )
    assert code == 0
    assert [row["layer"] for row in rows] == ["colour", "relu"]
    explainer = ov.load(colours)
    for name, expected in explainer.features("photos/red.png", ["colour", "relu"]).items():
        np.testing.assert_array_equal(np.load("a.npz")[name], expected)


def test_features_of_a_series_and_a_table(subjects, call):
    np.save("x.npy", subjects("series").x(1))
    assert call("features", subjects("series").path, "x.npy", "-l", "conv")[0] == 0
    np.save("t.npy", subjects("classifier").x(1))
    assert call("features", subjects("classifier").path, "t.npy", "-l", "hidden")[0] == 0


def test_filters(colours, call):
    code, out, _ = call("filters", colours, "colour", "--colour")
    assert (code, out) == (0, "colours.colour.filters.png: colour 4×3×3×3\n")
    assert read_pixels("colours.colour.filters.png").shape[1] > 100
    assert call("filters", colours, "colour", "--out", "k.npz")[0] == 0
    np.testing.assert_array_equal(np.load("k.npz")["filters"], ov.load(colours).filters("colour"))
    code, _, err = call("filters", colours, "relu")
    assert code == 1
    assert "colour" in err


def test_maximize(colours, call):
    code, found, _ = call(
        "maximize", colours, "red", "colour:1", "1", "--steps", "3", "-r", "tv:0.1", "-r", "lp:6,10", "-o", "jitter=2",
        "--json",
    )  # fmt: skip
    assert code == 0
    assert len(found["targets"]) == 3
    assert read_pixels("colours.maximize.png").shape[1] > 100
    assert call("maximize", colours, "red", "--steps", "4", "--out", "a.npz")[0] == 0
    expected = ov.load(colours).maximize(["red"], steps=4)
    np.testing.assert_array_equal(ov.Maximization.load("a.npz").images, expected.images)
    assert call("maximize", colours, "colour:0", "--steps", "20", "-o", "snapshots=3", "--out", "a.gif")[0] == 0
    with Image.open("a.gif") as animation:
        assert animation.n_frames == 3


def test_filters_of_a_network_that_takes_blue_first(tmp_path, call):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 2), torch.nn.Flatten())
    image = ov.ImageInput(2, channels="BGR")
    path = ov.convert(model, tmp_path / "net.onnx", example=torch.rand(1, 3, 2, 2), input=image, quiet=True)
    assert call("filters", path, "0", "--colour", "--out", "a.png")[0] == 0
    expected = ov.plot.filters(model[0].weight.detach().numpy()[:, [2, 1, 0]], colour=True)
    expected.savefig("b.png", dpi=110)
    np.testing.assert_array_equal(read_pixels("a.png"), read_pixels("b.png"))


def test_features_of_several_inputs_do_not_go_into_one_file(colours, folder, call):
    code, _, err = call("features", colours, "photos", "--out", "a.npz")
    assert code == 1
    assert "two results would go to a.npz: give --out a folder" in err
    assert not (folder / "a.npz").exists()


@pytest.mark.parametrize(
    "arguments",
    [["features", "{}", "photos/red.png", "--out", "new/sub/a.npz"], ["filters", "{}", "colour", "--out", "new/a.png"],
     ["embed", "{}", "photos", "--out", "new/a.csv"], ["maximize", "{}", "red", "--steps", "2", "--out", "new/a.gif"],
     ["explain", "{}", "photos/red.png", "--view", "overlay", "--out", "new/a.png"]],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_folders_of_files_are_made(arguments, colours, folder, call):
    assert call(*(argument.format(colours) for argument in arguments))[0] == 0
    assert (folder / arguments[-1]).stat().st_size


def test_an_option_that_is_none(colours, call):
    code, _, err = call("maximize", colours, "red", "-o", "jiter=3")
    assert code == 1
    assert "there is no option 'jiter'" in err
    assert "did you mean 'jitter'" in err


@pytest.mark.parametrize(
    ("text", "message"), [("tvv:1", "one of tv"), ("lp:x", "with numbers"), ("l2:1,2,3", "other numbers")]
)
def test_regularizers_that_are_none(text, message, colours, call):
    code, _, err = call("maximize", colours, "red", "-r", text)
    assert code == 1
    assert message in err


def test_embed(colours, folder, call):
    for name, level in (("one", 60), ("two", 90), ("three", 200)):
        pixels = np.random.default_rng(level).integers(0, level, (30, 40, 3)).astype(np.uint8)
        (folder / "other").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "other" / f"{name}.png")
    (folder / "photos" / "cut.png").write_bytes(b"\x89PNG")
    code, found, err = call("embed", colours, "photos", "other", "--json")
    assert code == 1
    assert "cut.png" in err
    assert [point["folder"] for point in found["points"]] == ["photos"] * 2 + ["other"] * 3
    explainer = ov.load(colours)
    x = np.concatenate([explainer.read_image(point["input"]) for point in found["points"]])
    np.testing.assert_allclose([p["point"] for p in found["points"]], explainer.embed(x).points, atol=1e-6)
    assert read_pixels("colours.embed.png").shape[1] > 300
    assert call("embed", colours, "other", "-o", "components=1", "-l", "relu", "--out", "p.csv")[0] == 0
    rows = list(csv.reader((folder / "p.csv").read_text().splitlines()))
    assert rows[0] == ["input", "component_1"]
    assert len(rows) == 4
    assert call("embed", colours, "other", "--out", "p.npz")[0] == 0
    assert np.load("p.npz")["points"].shape == (3, 2)


def test_bench(colours, call):
    code, rows, _ = call("bench", colours, "-b", "2", "--seconds", "0.1", "-m", "saliency", "--json")
    assert code == 0
    assert rows[0]["batch"] == 2
    assert 0 < rows[0]["milliseconds"]["low"] <= rows[0]["milliseconds"]["high"]
    code, out, _ = call("bench", colours, "photos/red.png", "--seconds", "0.1", "--threads", "1")
    assert code == 0
    assert out.startswith("saliency, batch 1: ")
    assert "grad_cam, batch 1: " in out
