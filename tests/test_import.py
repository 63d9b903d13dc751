"""What is imported when, and that a converted file needs no framework: in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxviz as ov

HEAVY = ["onnx_ir", "onnxscript", "onnxruntime", "cv2", "matplotlib", "torch", "sklearn", "keras", "tensorflow", "onnx"]
FRAMEWORKS = ["torch", "keras", "tensorflow", "onnx_ir", "onnxscript", "sympy", "matplotlib", "sklearn"]


def run(code: str, *arguments: str, blocked: list[str] = ()) -> str:
    """What a fresh Python prints, where modules named ``blocked`` cannot be imported."""
    path = [p for p in sys.path if p]
    head = f"import sys; sys.path[:] = {path!r}; sys.modules.update(dict.fromkeys({list(blocked)!r}))\n"
    command = [sys.executable, "-W", "error", "-c", head + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    loaded = json.loads(run("import onnxviz, json; print(json.dumps(list(sys.modules)))"))
    assert "onnxviz" in loaded
    assert sorted({name.partition(".")[0] for name in loaded} & {*HEAVY, "numpy"}) == []


def test_all_public_names_are_there():
    printed = run("import onnxviz; print([getattr(onnxviz, n).__name__ for n in onnxviz.__all__], dir(onnxviz))")
    assert all(f"'{name}'" in printed for name in ov.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'explode'"):
        _ = ov.explode


EXPLAIN = """
import numpy as np, onnxviz
x = np.load(sys.argv[2])
with onnxviz.load(sys.argv[1], providers="cpu", threads=1) as ex:
    np.savez(sys.argv[3], map=ex.grad_cam(x, 1).values, gradient=ex.guided_backprop(x).values, y=ex.predict(x))
print([name for name in ("torch", "onnx_ir", "sympy", "matplotlib") if sys.modules.get(name) is not None])
"""


def test_a_file_explains_where_no_framework_can_be_imported(cnn, tmp_path):
    x = cnn.x()
    np.save(tmp_path / "x.npy", x)
    arguments = [str(cnn.path), str(tmp_path / "x.npy"), str(tmp_path / "found.npz")]
    assert run(EXPLAIN, *arguments, blocked=FRAMEWORKS).strip() == "[]"
    found, ex = np.load(tmp_path / "found.npz"), cnn.explainer
    assert np.array_equal(found["map"], ex.grad_cam(x, 1).values)
    assert np.array_equal(found["gradient"], ex.guided_backprop(x).values)
    assert np.array_equal(found["y"], ex.predict(x))


FAIL = """
import onnxviz
try:
    {statement}
except onnxviz.OnnxvizError as error:
    print(type(error).__name__, error)
"""


def test_without_onnxruntime_loading_says_what_to_install(cnn):
    code = FAIL.format(statement="onnxviz.load(sys.argv[1])")
    said = run(code, str(cnn.path), blocked=["onnxruntime"])
    assert said.startswith("MissingDependencyError")
    assert "onnxviz[cpu]" in said
    assert "onnxviz[gpu]" in said


@pytest.mark.parametrize(
    ("name", "blocked", "words"),
    [
        ("model.pt2", ["torch"], ["MissingDependencyError", "'torch'", "onnxviz[torch]"]),
        ("model.h5", ["keras"], ["MissingDependencyError", "'keras'", "onnxviz[keras]"]),
        ("model.keras", ["tf2onnx"], ["MissingDependencyError", "'tf2onnx'", "onnxviz[keras]"]),
    ],
)
def test_without_a_framework_converting_says_what_to_do(tmp_path, name, blocked, words):
    (tmp_path / name).write_bytes(b"a model")
    code = FAIL.format(statement="onnxviz.convert(sys.argv[1], sys.argv[2])")
    said = run(code, str(tmp_path / name), str(tmp_path / "net.onnx"), blocked=blocked)
    assert all(word in said for word in words), said
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_plain_onnx_file_converts_without_a_framework(tmp_path):
    import onnx

    from tests.support import model_of, normal

    onnx.save(model_of("y = Tanh(x)", "float[N, 3] x", "float[N, 3] y"), tmp_path / "plain.onnx")
    code = "import onnxviz; onnxviz.convert(sys.argv[1], sys.argv[2], quiet=True)"
    run(code, str(tmp_path / "plain.onnx"), str(tmp_path / "net.onnx"), blocked=["torch", "keras", "tensorflow"])
    found = ov.load(tmp_path / "net.onnx").gradient(normal(2, 3), 1)
    np.testing.assert_allclose(found, (1 - np.tanh(normal(2, 3)) ** 2) * np.eye(3)[1], rtol=1e-5, atol=1e-7)


def test_the_core_names_no_framework():
    for file in Path(ov.__file__).parent.rglob("*.py"):
        lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
        found = [
            li for li in lines if li.startswith(("import torch", "from torch", "import keras", "import tensorflow"))
        ]
        assert found == [], file
