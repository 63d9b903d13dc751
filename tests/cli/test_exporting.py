from __future__ import annotations

import json
import re

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import onnxviz as ov


def content(path) -> dict:
    """What a page shows."""
    return json.loads(re.search(r'type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_page_of_a_folder(colours, folder, call):
    code, out, err = call("report", colours, "photos")
    assert (code, err) == (0, "")
    assert out.startswith("report.html: 2 inputs, grad_cam, integrated_gradients, guided_backprop, saliency, ")
    assert out.endswith(f"{(folder / 'report.html').stat().st_size / 2**10:.1f} KiB\n")
    shown = content(folder / "report.html")
    assert [sample["name"] for sample in shown["samples"]] == ["red.png", "sky.png"]
    assert [len(method["maps"]) for method in shown["samples"][0]["methods"]] == [3] * 4


def test_methods_and_classes_are_chosen(colours, folder, call):
    arguments = ("-m", "saliency", "-m", "grad_cam", "-t", "azure", "-t", "3", "--percentile", "100", "--out", "a.html")
    code, row, _ = call("report", colours, "photos/sky.png", *arguments, "--json")
    assert code == 0
    assert (row["file"], row["inputs"], row["methods"]) == ("a.html", ["sky.png"], ["saliency", "grad_cam"])
    assert row["bytes"] == (folder / "a.html").stat().st_size
    (sample,) = content(folder / "a.html")["samples"]
    expected = ov.load(colours).saliency(ov.load(colours).read_image("photos/sky.png"), [[1, 3]])
    found = sample["methods"][0]["maps"]
    np.testing.assert_allclose([one["high"] for one in found], expected.values.max((0, 2, 3)))
    np.testing.assert_allclose([one["score"] for one in found], expected.score[0], rtol=1e-6)


def test_explain_writes_a_page_of_one_method(colours, folder, call):
    arguments = ("-m", "layer_cam", "-l", "colour", "-l", "relu", "-t", "red", "--out", "a.html")
    assert call("explain", colours, "photos", *arguments)[0] == 0
    shown = content(folder / "a.html")
    methods = [(method["name"], method["layer"]) for method in shown["samples"][1]["methods"]]
    assert methods == [("layer_cam", "colour"), ("layer_cam", "relu")]


def test_a_page_of_series(subjects, folder, call):
    np.save("x.npy", subjects("series").x(2))
    assert call("report", subjects("series").path, "x.npy", "-m", "gradient")[0] == 0
    shown = content(folder / "report.html")["samples"]
    assert [(one["name"], one["kind"], len(one["curves"])) for one in shown] == [
        (f"x.npy[{i}]", "series", 2) for i in range(2)
    ]


def test_what_cannot_be_read_is_told_and_the_rest_is_on_the_page(colours, folder, call):
    (folder / "photos" / "bad.png").write_text("no picture")
    code, row, err = call("report", colours, "photos", "--json")
    assert code == 1
    assert (row["inputs"], [each["input"] for each in row["refused"]]) == (["red.png", "sky.png"], ["photos/bad.png"])
    assert "1 of 3 inputs could not be read" in err


def test_an_exported_file_gives_the_engine_s_map(colours, folder, call):
    arguments = ("-t", "input", "--pixels", "--layers", "relu", "--layers", "colour")
    code, row, _ = call("export", colours, "cam.onnx", *arguments, "--json")
    assert code == 0
    assert row["bytes"] == (folder / "cam.onnx").stat().st_size
    assert (list(row["inputs"]), list(row["outputs"])) == (["pixels", "class"], ["prediction", "map", "relu", "colour"])
    ex = ov.load(colours)
    with Image.open("photos/red.png") as photo:
        pixels = ex.image_input.fit(np.asarray(photo))[None]
    session = onnxruntime.InferenceSession("cam.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["map"], {"pixels": pixels, "class": np.array([2])})
    np.testing.assert_allclose(found, ex.grad_cam(ex.image_input.encode(pixels), 2).values, atol=1e-5)


def test_exports_in_a_line(colours, folder, call):
    code, out, _ = call("export", colours, "a.onnx", "-m", "saliency", "-t", "azure", "--precision", "float16")
    assert code == 0
    size = (folder / "a.onnx").stat().st_size / 2**10
    assert out.startswith(f"a.onnx: saliency, {size:.1f} KiB; ")
    code, out, _ = call("export", colours, "b.onnx", "-m", "none", "--layers", "relu")
    assert (code, "map" in out) == (0, False)


REFUSED = {
    "another suffix": (["report", "photos", "--out", "a.txt"], "--out is a file that ends with .html"),
    "no folder": (["report", "photos", "--out", "none/a.html"], "there is no folder none"),
    "a method": (["report", "photos", "-m", "grad_can"], "did you mean 'grad_cam'"),
    "a class": (["report", "photos", "-t", "purple"], "there is no class 'purple'"),
    "nothing that can be read": (["report", "bad.png"], "bad.png"),
    "a percentile": (["report", "photos", "--percentile", "0"], "percentile lies within 0 … 100"),
    "an export of a class": (["export", "a.onnx", "-t", "purple"], "there is no class 'purple'"),
    "an export of two classes": (["export", "a.onnx", "-t", "1", "-t", "2"], "target"),
    "an export of a method": (["export", "a.onnx", "-m", "rise"], "rise"),
    "an export of a layer": (["export", "a.onnx", "--layers", "relus"], "did you mean 'relu'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(case, colours, folder, call):
    (folder / "bad.png").write_text("no picture")
    (command, *arguments), message = REFUSED[case]
    code, out, err = call(command, colours, *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in out + err
    assert not {"a.html", "a.onnx", "report.html"} & {file.name for file in folder.iterdir()}
