import io
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from onnxviz.gradient.registry import VJPS
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import PROJECT
from onnxviz.graph.composites import SPELLINGS, recognise
from tests.gradient.harness import Differentiated, N, by_torch, load, parse, relative_error

TORCH = {
    "Silu": nn.SiLU(),
    "QuickGelu": lambda x: x * torch.sigmoid(1.702 * x),
    "Gelu": nn.GELU(),
    "FastGelu": nn.GELU("tanh"),
    "Mish": nn.Mish(),
    "HardSwish": nn.Hardswish(),
    "HardSigmoid": nn.Hardsigmoid(),
}
GRADIENTS = {
    "Silu": "QuickGeluGrad", "QuickGelu": "QuickGeluGrad", "Gelu": "GeluGrad", "FastGelu": "FastGeluGrad",
    "Mish": "MishGrad", "HardSwish": "HardSwishGrad", "HardSigmoid": "HardSigmoidGrad",
}  # fmt: skip
X = np.linspace(-9.1, 9.3, 60, dtype=np.float32).reshape(4, 15)


def feeds(batch: int) -> dict[str, np.ndarray]:
    return {"x": X[:batch]}


def written(spelling, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([N, 15]), type=ir.TensorType(dtype))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="g")
    y = spelling(Ops(graph), x)
    y.name, y.dtype = "y", dtype
    graph.outputs.append(y)
    return ir.Model(graph, ir_version=10)


def exported(module: nn.Module, *, dynamo: bool) -> ir.Model:
    buffer, x = io.BytesIO(), torch.zeros(2, 15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        if dynamo:
            shapes = ({0: torch.export.Dim(N)},)
            program = torch.onnx.export(
                module.eval(),
                (x,),
                input_names=["x"],
                output_names=["y"],
                opset_version=18,
                dynamo=True,
                dynamic_shapes=shapes,
                verbose=False,
            )
            return ir.from_proto(program.model_proto)
        torch.onnx.export(
            module.eval(),
            (x,),
            buffer,
            input_names=["x"],
            output_names=["y"],
            opset_version=18,
            dynamo=False,
            dynamic_axes={"x": {0: N}, "y": {0: N}},
        )
    return ir.from_proto(onnx.load_from_string(buffer.getvalue()))


def check(model: ir.Model, activation: str, expected_found: int) -> None:
    before = load(ir.to_proto(model)).run(["y"], {"x": X})[0]
    assert recognise(model) == expected_found
    gradients = Differentiated(model, feeds)
    outputs, seeds, found = gradients({"x": X})
    np.testing.assert_array_equal(outputs["y"], before)
    _, expected = by_torch(TORCH[activation], {"x": X}, {}, seeds["y"])
    assert relative_error(found["x"], expected["x"]) < 1e-5
    nodes = list(gradients.model.graph)
    assert nodes[-1].op_type == GRADIENTS[activation]
    assert len(nodes) == 2


@pytest.mark.parametrize(("activation", "spelling"), SPELLINGS, ids=[f"{a} {i}" for i, (a, _) in enumerate(SPELLINGS)])
def test_every_spelling_becomes_one_call(activation, spelling):
    check(written(spelling), activation, 1)


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch.export", "tracing"])
@pytest.mark.parametrize("activation", ["Silu", "Gelu", "FastGelu", "Mish", "HardSwish", "HardSigmoid"])
def test_exports_of_pytorch_become_one_call(activation, dynamo):
    model = exported(nn.Sequential(TORCH[activation]), dynamo=dynamo)
    operators = {node.op_type for node in model.graph}
    check(model, activation, 0 if operators <= {"HardSwish", "HardSigmoid"} or operators == {"Mish"} else 1)


def test_commuted_operands_are_the_same_spelling():
    model = parse("s = Sigmoid(x)  y = Mul(s, x)", {"x": (N, 15)})
    check(model, "Silu", 1)


def test_half_precision_constants_are_compared_in_half_precision():
    for activation, spelling in SPELLINGS:
        model = written(spelling, ir.DataType.FLOAT16)
        before = load(ir.to_proto(model)).run(["y"], {"x": X.astype(np.float16)})[0]
        assert recognise(model) == 1, activation
        after = load(ir.to_proto(model)).run(["y"], {"x": X.astype(np.float16)})[0]
        assert relative_error(after, before) < np.finfo(np.float16).eps, activation


@pytest.mark.parametrize(
    ("code", "outputs"),
    [
        ("s = Sigmoid(x)  y = Mul(x, s)", ["y", "s"]),
        ("s = Sigmoid(x)  z = Mul(x, s)  y = Add(z, s)", ["y"]),
        ("s = Sigmoid(x)  z = Neg(x)  y = Mul(z, s)", ["y"]),
        ("s = Sigmoid(x)  t = Add(x, s)  y = Mul(t, s)", ["y"]),
        ("c = Constant<value_float=1.7>()  z = Mul(x, c)  s = Sigmoid(z)  y = Mul(x, s)", ["y"]),
        ("s = HardSigmoid(x)  y = Mul(x, s)", ["y"]),
    ],
)
def test_what_is_read_elsewhere_or_means_something_else_stays(code, outputs):
    model = parse(code, {"x": (N, 15)}, outputs=outputs)
    nodes = [node.op_type for node in model.graph]
    assert recognise(model) == 0
    assert [node.op_type for node in model.graph] == nodes


def test_several_in_one_graph_share_their_function():
    code = "a = Sigmoid(x)  b = Mul(x, a)  c = Sigmoid(b)  d = Mul(c, b)  e = Softplus(d)  f = Tanh(e)  y = Mul(d, f)"
    model = parse(code, {"x": (N, 15)})
    assert recognise(model) == 3
    assert [node.op_type for node in model.graph] == ["Silu", "Silu", "Mish"]
    assert sorted(function.name for function in model.functions.values()) == ["Mish", "Silu"]


def test_every_composite_has_a_rule_and_a_spelling():
    assert {(PROJECT, activation) for activation, _ in SPELLINGS} == {key for key in VJPS if key[0] == PROJECT}
    assert GRADIENTS.keys() == TORCH.keys() == {activation for activation, _ in SPELLINGS}
