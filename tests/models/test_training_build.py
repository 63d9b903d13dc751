"""ONNX Runtime's last training build as an oracle: its native gradient kernels give the same numbers for the same file,
and its own builder of gradients those of our rules, case by case.

The build shares the import name ``onnxruntime`` with the stock one, so it gets an environment of its own, which is made
at the first run and kept in pytest's cache.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxviz.gradient.registry import VJPS
from tests.gradient.cases import CASES
from tests.gradient.harness import Case, Differentiated, N, parse, relative_error
from tests.models.comparison import assert_values

HERE = Path(__file__).parent

pytestmark = pytest.mark.training

NATIVE = {
    "varied": {"ReluGrad": 4, "ConvGrad": 4},
    "resnet18": {"ReluGrad": 17, "ConvGrad": 20},
    "activations": {
        "SigmoidGrad": 1, "TanhGrad": 1, "LeakyReluGrad": 1, "GeluGrad": 1, "FastGeluGrad": 1, "SoftmaxGrad_13": 1,
        "LogSoftmaxGrad_13": 1, "QuickGeluGrad": 1, "ReluGrad": 1, "ConvGrad": 10,
    },
}  # fmt: skip
LAYERS = {"varied": "grouped", "resnet18": "resnet.encoder.stages.1.layers.0", "activations": "8"}


@pytest.mark.parametrize("name", NATIVE)
def test_native_kernels_compute_the_same(converted, training_python, tmp_path, name):
    network = converted(name)
    (source,), (output,) = network.explainer.inputs, network.explainer.outputs
    seed = np.random.default_rng(7).standard_normal((3, output.logits_shape[-1])).astype(np.float32)
    feeds = {source.name: network.inputs(3, seed=7), f"seed/{output.name}": seed}
    outputs = [output.value, f"grad/{source.name}", f"grad/{LAYERS[name]}"]
    files = {kind: tmp_path / kind for kind in ("feeds.npz", "outputs.npz", "optimised.onnx")}
    np.savez(files["feeds.npz"], **feeds, outputs=outputs)
    command = [training_python, HERE / "native_kernels.py", network.path, *files.values()]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin"})
    stock = onnxruntime.InferenceSession(network.path, providers=["CPUExecutionProvider"]).run(outputs, feeds)
    with np.load(files["outputs.npz"]) as native:
        assert str(native["version"]) != onnxruntime.__version__
        for wanted, value in zip(outputs, stock, strict=True):
            assert_values(native[wanted], value, wanted, bar=1e-5)
    nodes = [node.op_type for node in onnx.load(files["optimised.onnx"]).graph.node if node.domain == "com.microsoft"]
    assert {kind: nodes.count(kind) for kind in NATIVE[name]} == NATIVE[name]


# ----- the builder of gradients, GradientGraphBuilder -----

RIGHT = {
    *("Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Cos", "Div", "Erf", "Exp", "Expand", "Flatten"),
    *("Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "Identity", "LeakyRelu", "Log"),
    *("LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "ReduceL2"),
    *("ReduceLogSumExp", "ReduceMean", "ReduceSum", "Relu", "Reshape", "ScatterND", "Sigmoid", "Sin", "Slice"),
    *("Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where"),
}
"""Operators that it handles rightly, but for the cases of ``DIFFERENT``."""
NOT_RIGHT = {
    "ConvTranspose": "no CPU kernel of its gradient",
    "Dropout": "asks for the mask, and takes the ratio for used",
    "LayerNormalization": "asks for the mean and the deviation",
    "Resize": "no CPU kernel of its gradient",
    "ScatterElements": "the builder refuses indices that are computed",
}
"""Operators that it knows and does not handle. All others with a rule it does not know."""
DIFFERENT = {
    "LeakyRelu<alpha=-0.5>": "the slope is told by the sign of the output",
    "y = Clip(x, a, b) Nx3x4x5 a=0.0 b=6.0 ReLU6 at kinks": "a bound itself passes the gradient",
    "p=0.0 p=0": "NaN at 0",
    "an exponent per column": "NaN at 0 for the exponent 0",
    "integer exponent": "the exponent must be a float",
    "Pow(a, b)": "no gradient of an exponent",
    "Where(c, a, b) Nx3x4 Nx1x4": "what was broadcast keeps its size",
    "ScatterND<reduction": "the reduction is ignored",
    "storage_order=1": "the indices are taken for those of rows",
    "two pieces unused": "the gradient has the size of the pieces that are used",
    "y = Mul(x, x)": "the same input twice is refused",
    "Concat<axis=1>(x, x)": "the same input twice is refused",
    "MatMul(a, b) Nx4x5 5": "matrices of the wrong shape for vectors",
    "MatMul(a, b) 5 Nx5x3": "matrices of the wrong shape for vectors",
    "MatMul(a, b) Nx5 5": "matrices of the wrong shape for vectors",
    "MatMul(s, b)": "matrices of the wrong shape for vectors",
    "ReduceL2<keepdims=0>(x)": "no graph where no axes are named",
    "ReduceLogSumExp<keepdims=0>(x)": "no graph where no axes are named",
    "noop_with_empty_axes=1>(x)": "the forward kernel of that release fails",
    "indices computed": "an input that has no gradient",
    "Pad<mode": "no other mode",
    "Pad(x, p, v, a)": "no axes",
    "Pad(x, p, , a)": "no axes",
    "a=[2] t=[-1]": "its kernel fails at steps backwards to the beginning",
}
"""Parts of the names of cases that it refuses or of which it makes other gradients, and why."""


def stands_out(case: Case) -> bool:
    return any(part in str(case) for part in DIFFERENT)


def operators(case: Case) -> set[str]:
    return {node.op_type for node in case.model().graph} & RULED


RULED = {op_type for domain, op_type in VJPS if domain == ""}
HANDLED = [case for case in CASES if operators(case) <= RIGHT]


@pytest.fixture(scope="session")
def built(training_python, tmp_path_factory):
    """Our gradients of each case of HANDLED, and the folder with those of the builder."""
    folder, ours = tmp_path_factory.mktemp("built"), []
    for number, case in enumerate(HANDLED):
        shapes = {name: [2 if size == N else size for size in shape] for name, shape in case.inputs.items()}
        feeds, constants = case.feeds(2), case.arrays()
        _, seeds, found = Differentiated(parse(case.code, shapes, constants), lambda _, feeds=feeds: feeds)(feeds)
        ours.append(found)
        code = f"{case.code}  weighted = Mul(y, seed)  loss = ReduceSum<keepdims=0>(weighted)"
        model = parse(code, {**shapes, "seed": seeds["y"].shape}, constants, outputs=["loss"])
        onnx.save(ir.to_proto(model), folder / f"{number}.onnx")
        np.savez(folder / f"{number}.npz", seed=seeds["y"], **feeds)
    command = [training_python, HERE / "gradient_builder.py", folder]
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin"}, capture_output=True)
    return ours, folder


@pytest.mark.parametrize("case", [case for case in HANDLED if not stands_out(case)], ids=str)
def test_the_builder_of_gradients_makes_the_same(built, case):
    ours, folder = built
    number = HANDLED.index(case)
    with np.load(folder / f"{number}.found.npz") as found:
        for name, gradient in ours[number].items():
            assert relative_error(found[name], gradient) < 1e-5, name


@pytest.mark.parametrize("case", [case for case in HANDLED if stands_out(case)], ids=str)
def test_where_the_builder_is_known_to_be_wrong_it_still_is(built, case):
    ours, folder = built
    number = HANDLED.index(case)
    if (folder / f"{number}.error").exists():
        return
    with np.load(folder / f"{number}.found.npz") as found:
        pairs = [(found[name], gradient) for name, gradient in ours[number].items()]
    assert any(a.shape != b.shape or not np.abs(a - b).max() < 1e-5 * np.abs(b).max() for a, b in pairs)


def test_every_part_names_a_case_and_every_operator_has_one():
    assert all(any(part in str(case) for case in HANDLED) for part in DIFFERENT)
    assert set().union(*(operators(case) for case in HANDLED if not stands_out(case))) == RIGHT
    assert NOT_RIGHT.keys() < RULED - RIGHT
