from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxviz as ov
from onnxviz.check import verify
from onnxviz.check.digests import difference, digest


def test_info(colours, call):
    _, said, _ = call("info", colours, "--json")
    assert said["framework"] == "pytorch"
    assert said["classes"] == 4
    assert said["inputs"] == {"picture": {"dtype": "float32", "shape": ["N", 3, 24, 36]}}
    assert ov.ImageInput.from_dict(said["image"]) == ov.load(colours).image_input
    assert said["residuals"]["values"] <= 1e-5
    code, text, _ = call("info", colours)
    assert code == 0
    assert "picture dtype float32, shape N 3 24 36" in text
    assert all(len(line) < 300 for line in text.splitlines())


def test_layers(colours, call):
    _, rows, _ = call("layers", colours, "--json")
    assert [row["name"] for row in rows] == ["colour", "relu"]
    assert call("layers", colours, "re*")[1].splitlines()[1].split()[1] == "relu"
    code, _, err = call("layers", colours, "x*")
    assert code == 1
    assert "no layer of 2 has a name like 'x*'" in err


def test_coverage(colours, plain, call):
    for model in (colours, plain):
        _, found, _ = call("coverage", model, "--json")
        assert found["refusal"] is None
        assert {"Relu"} <= {operator["name"] for operator in found["operators"]}
    assert "layers can be explained by their gradient" in call("coverage", colours)[1]
    assert "Conv" in call("coverage")[1]


def test_a_plain_file_says_the_way_out(plain, call):
    for command in ("info", "layers", "verify"):
        code, _, err = call(command, plain)
        assert code == 1
        assert "Convert it once" in err


@pytest.mark.parametrize(
    "name", ["cnn", "series", "volume", "classifier", "segmenter", "two heads", "tokens", "mixed", "rectifiers"]
)
def test_a_file_verifies_itself(name, subjects):
    found = verify(subjects(name).path, providers="cpu")
    assert found.failed == ()
    assert max(found.differences.values()) <= 1e-5
    explainer = subjects(name).explainer
    names = {layer.name for layer in explainer.layers} | {output.name for output in explainer.outputs}
    assert names < set(found.differences)
    assert [key for key in found.differences if key.startswith("grad/")]


def test_verify(colours, call):
    code, text, _ = call("verify", colours)
    assert code == 0
    assert "4 values and gradients on CPUExecutionProvider within" in text
    _, found, _ = call("verify", colours, "--provider", "cpu", "--json")
    assert found["passed"]
    assert set(found["differences"]) == {"colour", "relu", "output", "grad/picture"}


def changed(path, folder, factor):
    """A copy of which one weight is multiplied."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[np.abs(values).argmax()] *= factor
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


@pytest.mark.parametrize(("factor", "passes"), [(1 + 1e-7, True), (1 + 1e-2, False), (-1, False)])
def test_verify_finds_a_changed_weight(factor, passes, colours, folder, call):
    code, found, err = call("verify", changed(colours, folder, factor), "--json")
    assert code == (0 if passes else 1)
    assert found["passed"] == passes
    if not passes:
        assert found["failed"][0] if "failed" in found else "the first is 'colour'" in err


def test_verify_refuses_files_without_digests(colours, folder, call):
    model = onnx.load(colours)
    entries = {entry.key: entry for entry in model.metadata_props}
    import json

    residuals = json.loads(entries["onnxviz.residuals"].value)
    kept = residuals.pop("digests")
    entries["onnxviz.residuals"].value = json.dumps(residuals)
    onnx.save(model, folder / "old.onnx")
    code, _, err = call("verify", "old.onnx")
    assert code == 1
    assert "holds no digests to verify" in err
    kept["inputs"]["picture"]["products"][0] += 1
    entries["onnxviz.residuals"].value = json.dumps(residuals | {"digests": kept})
    onnx.save(model, folder / "other.onnx")
    code, _, err = call("verify", "other.onnx")
    assert code == 1
    assert "draws other numbers" in err


def test_digests_tell_tensors_apart():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 50, 40)).astype(np.float32)
    expected = digest(values)
    assert difference(digest(values + rng.normal(0, 1e-7, values.shape)), expected) < 1e-6
    others = {
        "channels swapped": values[[1, 0, 2]],
        "flipped": values[:, ::-1],
        "scaled": values * 1.01,
        "shifted": values + 0.01,
        "one channel off": values * np.array([1, 1, 1.01])[:, None, None],
    }
    for name, other in others.items():
        assert difference(digest(other), expected) > 1e-4, name
    assert difference(digest(values.ravel()), expected) == np.inf
    broken = values.copy()
    broken[0, 0, 0] = np.nan
    assert difference(digest(broken), expected) == np.inf
    assert difference(digest(np.zeros((2, 2))), digest(np.zeros((2, 2)))) == 0
