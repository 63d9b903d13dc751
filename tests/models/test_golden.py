"""Maps of the real networks are today what they were: whatever the rules, the engine and its optimisations become."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxviz as ov
from tests.models import golden

NETWORKS = ["squeezenet", "efficientnet_lite0"]
ROUNDING = {"squeezenet": 3e-4, "efficientnet_lite0": 8e-4}
"""Of the largest block. Threads, chunks and optimisations change 4e-7 at most. Another machine's kernels round
otherwise, and switch units that lie within rounding of 0: PyTorch's gradient differs by 2e-7 and 3.2e-4, and itself,
after pixels were changed by a millionth at random, by 2.3e-4 and 6.5e-4."""
RULE = 1.001
"""A rule that is wrong by a thousandth is found."""


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(golden.FILE) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_what_they_were(converted, expected, name):
    found = golden.maps(converted(name).explainer)
    assert found.keys() == golden.METHODS.keys()
    for method, values in found.items():
        assert golden.difference(values, expected[f"{name}/{method}"]) <= ROUNDING[name], method


def mutated(model: onnx.ModelProto, operator: str) -> int:
    """Make the result of a gradient operator's bodies larger by a thousandth; how many bodies there are."""
    bodies = [function for function in model.functions if function.name == operator]
    for function in bodies:
        wrong = f"{function.output[0]}/before"
        for node in function.node:
            node.output[:] = [wrong if name == function.output[0] else name for name in node.output]
        factor = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [RULE])
        function.node.add().CopyFrom(onnx.helper.make_node("Constant", [], ["factor"], value=factor))
        function.node.add().CopyFrom(onnx.helper.make_node("Mul", [wrong, "factor"], [function.output[0]]))
    return len(bodies)


@pytest.mark.parametrize(("name", "operator"), [
    ("squeezenet", "ConvGrad"), ("squeezenet", "ReluGrad"), ("squeezenet", "MaxPoolGrad"),
    ("efficientnet_lite0", "ClipGrad"),
])  # fmt: skip
def test_a_rule_that_is_wrong_by_a_thousandth_is_found(converted, expected, tmp_path, name, operator):
    model = onnx.load(converted(name).path)
    assert mutated(model, operator)
    onnx.save(model, tmp_path / "net.onnx")
    with ov.load(tmp_path / "net.onnx", providers="cpu", optimize=False) as ex:
        found = golden.blocks(golden.METHODS["gradient"](ex, ex.read_image(golden.zoo.photos()["chelsea"])))
    assert golden.difference(found, expected[f"{name}/gradient"]) > ROUNDING[name]
