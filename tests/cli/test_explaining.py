from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import onnxviz as ov
from onnxviz.image import read_pixels


def test_a_photo_becomes_a_plot(colours, call):
    code, out, err = call("explain", colours, "photos/red.png")
    assert (code, err) == (0, "")
    assert out.startswith("red.grad_cam.png: red · ")
    assert read_pixels("red.grad_cam.png").shape[1] > 300


def test_the_overlay_has_the_photos_size_and_lies_on_the_object(colours, call):
    code, _, _ = call("explain", colours, "photos/red.png", "--view", "overlay", "--out", "a.png", "-t", "red")
    assert code == 0
    laid = read_pixels("a.png").astype(int).sum(2)
    assert laid.shape == (60, 100)
    rows, columns = np.nonzero(laid > 0.8 * laid.max())
    assert np.abs(np.array([rows.min(), rows.max(), columns.min(), columns.max()]) - (20, 39, 50, 69)).max() <= 2


def test_numbers_are_those_of_the_api(colours, call):
    arguments = ("-m", "integrated_gradients", "-o", "n_steps=5", "-t", "azure", "-t", "2", "--of", "probability")
    assert call("explain", colours, "photos/sky.png", *arguments, "--out", "a.npz")[0] == 0
    found, expected = (
        ov.Explanation.load("a.npz"),
        ov.load(colours).integrated_gradients("photos/sky.png", [[1, 2]], n_steps=5, of="probability"),
    )
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.target, [[1, 2]])


def test_folders_globs_and_layers(colours, folder, call):
    code, rows, _ = call(
        "explain", colours, "photos", "ph*/r*.png", "-l", "colour", "-l", "relu", "--out", "maps", "--format", "npz",
        "--json",
    )  # fmt: skip
    assert code == 0
    expected = [
        (f"photos/{n}.png", f"maps/{n}.grad_cam.{layer}.npz") for n in ("red", "sky") for layer in ("colour", "relu")
    ]
    assert [(row["input"], row["file"]) for row in rows] == expected
    assert [row["titles"][0][0].split(" · ")[0] for row in rows] == ["red", "red", "blue, azure", "blue, azure"]
    assert rows[0]["shape"] == [1, 60, 100]
    assert "rows 15 … 44 and columns 27 … 72" in rows[0]["notes"][0]
    assert all((folder / row["file"]).exists() for row in rows)


def test_what_cannot_be_read_is_told_and_the_rest_is_done(colours, folder, call):
    (folder / "photos" / "bad.png").write_text("no picture")
    code, rows, err = call("explain", colours, "photos", "--json")
    assert code == 1
    assert [row["input"] for row in rows] == ["photos/red.png", "photos/sky.png", "photos/bad.png"]
    assert "not a picture" in rows[2]["error"]
    assert "'photos/bad.png' is not a picture" in err
    assert "1 of 3 inputs could not be read" in err


def test_what_the_model_does_not_take_is_told_and_the_rest_is_done(subjects, folder, call):
    x = subjects("cnn").x(1)
    for name, array in (("a", x[:, :, :-1]), ("b", x[:, :2]), ("c", x)):
        np.save(folder / f"{name}.npy", array)
    code, rows, err = call("explain", subjects("cnn").path, ".", "--json")
    assert code == 1
    assert [row["input"] for row in rows] == ["c.npy", "a.npy", "b.npy"]
    assert "the model takes ['N', 3, 12, 12]" in rows[1]["error"]
    assert "2 of 3 inputs could not be read" in err


SAME_NAMES = {
    "folders": (["cats/1.png", "dogs/1.png", "dogs/2.png"], ["cats_1.png", "dogs_1.png", "2"]),
    "folders of folders": (["a/cats/1.png", "b/cats/1.png"], ["a_cats_1.png", "b_cats_1.png"]),
    "suffixes": (["1.png", "1.bmp"], ["1.png", "1.bmp"]),
    "a folder and none": (["1.png", "cats/1.png"], ["1.png", "cats_1.png"]),
}


@pytest.mark.parametrize("command", ["explain", "features"])
@pytest.mark.parametrize("case", SAME_NAMES)
def test_inputs_of_the_same_name_get_files_of_their_own(case, command, colours, folder, call):
    inputs, names = SAME_NAMES[case]
    for name in inputs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("photos/red.png", name)
    code, rows, _ = call(command, colours, *inputs, "-l", "relu", "--out", "made", "--json")
    ending = "grad_cam.png" if command == "explain" else "relu.png"
    assert code == 0
    assert [(row["input"], row["file"]) for row in rows] == [
        (given, f"made/{name}.{ending}") for given, name in zip(inputs, names, strict=True)
    ]
    assert sorted(path.name for path in (folder / "made").iterdir()) == sorted(f"{name}.{ending}" for name in names)


def test_a_series_of_two_columns(subjects, folder, call):
    subject = subjects("series")
    table = subject.x(1)[0].T
    for name, delimiter, head in (("a.csv", ",", "left,right\n"), ("b.csv", ";", ""), ("c.csv", "\t", "l\tr\n")):
        lines = [delimiter.join(f"{value:.9g}" for value in row) for row in table]
        (folder / name).write_text(head + "\n".join(lines) + "\n")
        assert call("explain", subject.path, name, "-m", "gradient", "--out", "a.npz")[0] == 0
        expected = subject.explainer.gradient(table.T[None])
        np.testing.assert_allclose(ov.Explanation.load("a.npz").values, expected.values, rtol=1e-5, atol=1e-7)
    assert call("explain", subject.path, "a.csv", "-m", "saliency")[0] == 0
    assert read_pixels("a.saliency.png").shape[1] > 300


def test_arrays_and_tables(subjects, folder, call):
    x = subjects("cnn").x(2)
    np.save("two.npy", x)
    np.save("one.npy", x[0])
    assert call("explain", subjects("cnn").path, "two.npy", "-m", "saliency", "--out", "a.npz")[0] == 0
    assert ov.Explanation.load("a.npz").shape == (2, 12, 12)
    assert call("explain", subjects("cnn").path, "one.npy")[0] == 0
    (folder / "table.csv").write_text("1,2,3,4,5,6\n6,5,4,3,2,1\n")
    assert call("explain", subjects("classifier").path, "table.csv", "-m", "gradient", "--out", "b.npz")[0] == 0
    assert ov.Explanation.load("b.npz").shape == (2, 6)
    np.savez("both.npz", **subjects("two heads").feeds(2))
    assert call("explain", subjects("two heads").path, "both.npz", "-m", "gradient", "--out", "c.npz")[0] == 0
    assert ov.Explanation.load("c.npz").shape == (2, 6)


def test_percentile_divides_the_map(colours, call):
    assert call("explain", colours, "photos/red.png", "-m", "saliency", "--percentile", "90", "--out", "a.npz")[0] == 0
    expected = ov.load(colours).saliency("photos/red.png").normalize(90)
    np.testing.assert_array_equal(ov.Explanation.load("a.npz").values, expected.values)


def test_percentile_of_what_is_drawn(colours, call):
    """Channels are summed before they are clipped: the scale of the picture ends at ±1."""
    more = ("-m", "integrated_gradients", "--percentile", "90", "--json")
    _, rows, _ = call("explain", colours, "photos/red.png", *more)
    assert (rows[0]["shape"], max(map(abs, rows[0]["range"]))) == ([1, 60, 100], 1)
    _, rows, _ = call("explain", colours, "photos/red.png", *more, "--out", "a.npz")
    assert rows[0]["shape"] == [1, 3, 60, 100]


REFUSED = {
    "no file": (["photos/none.png"], "there is no file 'photos/none.png'"),
    "an empty glob": (["photos/*.jpg"], "there is no file 'photos/*.jpg'"),
    "an empty folder": (["empty"], "no pictures, .npy or .csv files in 'empty'"),
    "a method": (["photos", "-m", "grad_can"], "did you mean 'grad_cam'"),
    "a class": (["photos", "-t", "purple"], "there is no class 'purple'"),
    "a class's number": (["photos", "-t", "9"], "9"),
    "a layer": (["photos", "-l", "relus"], "did you mean 'relu'"),
    "an option": (["photos", "-m", "saliency", "-o", "steps=3"], "saliency has no option 'steps'"),
    "a suffix": (["photos", "--out", "a.jpg"], "--out is a folder, or a file that ends with .png or .npz"),
    "two results in one file": (["photos", "--out", "a.png"], "two results would go to a.png"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(case, colours, folder, call):
    arguments, message = REFUSED[case]
    (folder / "empty").mkdir()
    code, out, err = call("explain", colours, *arguments)
    assert code == 1
    assert message in err
    assert err.startswith("onnxviz: ")
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "holds no numbers"),
        ("1,2\n3\n", "line 2: expected 2 numbers"),
        ("1,2\n3,x\n", "line 2"),
        ("nan,1\n", "no num"),
    ],
)
def test_tables_that_are_none(content, message, subjects, folder, call):
    (folder / "a.csv").write_text(content)
    code, _, err = call("explain", subjects("series").path, "a.csv")
    assert code == 1
    assert message in err


def test_pictures_for_a_file_that_does_not_know_them(subjects, call):
    code, _, err = call("explain", subjects("cnn").path, "photos")
    assert code == 1
    assert err.count("does not say how images are prepared") == 1


def test_classes_that_share_a_name(tmp_path, call):
    from tests.support import mlp

    path = ov.convert(mlp(), tmp_path / "net.onnx", classes=["crane", "crane", "dog"], quiet=True)
    np.save("x.npy", np.ones((1, 6), np.float32))
    code, _, err = call("explain", path, "x.npy", "-m", "gradient", "-t", "crane")
    assert code == 1
    assert "the classes 0, 1 are all called 'crane'" in err


def test_compare_draws_methods_and_classes(colours, call):
    code, out, err = call("compare", colours, "photos", "--top", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["red.compare.png", "sky.compare.png"]
    assert "grad_cam, integrated_gradients, guided_backprop, saliency × red · " in lines[0]
    height = len(read_pixels("red.compare.png"))
    code, rows, _ = call(
        "compare", colours, "photos/red.png", "-m", "saliency", "-m", "grad_cam", "-t", "red", "-t", "Green",
        "-l", "relu", "--percentile", "99", "--out", "a.png", "--json",
    )  # fmt: skip
    assert code == 0
    assert [(row["method"], row["target"], row["layer"]) for row in rows] == [
        ("saliency", [[0, 2]], None), ("grad_cam", [[0, 2]], "relu"),
    ]  # fmt: skip
    assert len(read_pixels("a.png")) < height


def test_compare_leaves_out_what_a_model_cannot_answer(subjects, tmp_path, call):
    np.save("x.npy", subjects("cnn").x(1))
    assert call("compare", subjects("cnn").path, "x.npy", "--top", "1")[0] == 0
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 12), torch.nn.Flatten())
    path = ov.convert(model, tmp_path / "linear.onnx", example=torch.rand(1, 3, 12, 12), quiet=True)
    code, out, err = call("compare", path, "x.npy")
    assert (code, out.partition(" × ")[0]) == (0, "x.compare.png: integrated_gradients, saliency")
    assert "without guided_backprop: " in err
    assert "without grad_cam: " in err


@pytest.mark.parametrize("name", ["series", "classifier"])
def test_compare_draws_pictures_alone(name, subjects, call):
    np.save("x.npy", subjects(name).x(1))
    code, _, err = call("compare", subjects(name).path, "x.npy")
    assert code == 1
    assert "compare draws pictures, and input " in err
    assert "`onnxviz report` compares methods on series" in err


def test_methods(call):
    _, rows, _ = call("methods", "--json")
    assert [row["name"] for row in rows] == [method.name for method in ov.methods()]
    assert "n_steps=50" in call("methods")[1]
