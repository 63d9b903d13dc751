import io
import warnings
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onnxviz.gradient.registry import VJPS
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import PROJECT
from onnxviz.graph.composites import recognise
from onnxviz.graph.spellings import SPELLINGS, piecewise
from tests.gradient.harness import Differentiated, N, by_torch, load, parse, relative_error


def sloped(x, slope=0.0, threshold=0.0, limit=None):
    """keras.activations.relu, written out."""
    above = torch.where(x > threshold, x, 0)
    above = above if limit is None else torch.where(above > limit, limit, torch.where(above < 0, 0, above))
    return above - slope * torch.relu(threshold - x)


TORCH = {
    "Silu": nn.SiLU(),
    "QuickGelu": lambda x, alpha: x * torch.sigmoid(alpha * x),
    "Gelu": nn.GELU(),
    "FastGelu": nn.GELU("tanh"),
    "Mish": nn.Mish(),
    "HardSwish": nn.Hardswish(),
    "HardSigmoid": nn.Hardsigmoid(),
    "Softplus": F.softplus,
    "LogSigmoid": F.logsigmoid,
    "Softsign": F.softsign,
    "Squareplus": lambda x, b: (x + torch.sqrt(x * x + b)) / 2,
    "Clip": lambda x, low=None, high=None: x.clamp(low, high),
    "ThresholdedRelu": lambda x, alpha, value: F.threshold(x, threshold=alpha, value=value),
    "LeakyRelu": lambda x, alpha: F.leaky_relu(x, negative_slope=alpha),
    "SlopedRelu": sloped,
    "Elu": F.elu,
    "Celu": F.celu,
    "Shrink": lambda x, lambd, bias=0.0: torch.where(x.abs() > lambd, x - torch.sign(x) * bias, 0),
}
GRADIENTS = {
    "Silu": "QuickGeluGrad", "QuickGelu": "QuickGeluGrad", "Gelu": "GeluGrad", "FastGelu": "FastGeluGrad",
    "Mish": "MishGrad", "HardSwish": "HardSwishGrad", "HardSigmoid": "HardSigmoidGrad", "Softplus": "SoftplusGrad",
    "LogSigmoid": "LogSigmoidGrad", "Softsign": "SoftsignGrad", "Squareplus": "SquareplusGrad", "Clip": "ClampGrad",
    "ThresholdedRelu": "ThresholdedReluGrad", "LeakyRelu": "LeakyReluGrad", "SlopedRelu": "SlopedReluGrad",
    "Elu": "EluGrad", "Celu": "CeluGrad", "Shrink": "ShrinkGrad",
}  # fmt: skip
NUMBERS = {
    "alpha": 0.75, "value": 0.125, "beta": 1.5, "threshold": 1.25, "b": 0.5, "low": -0.5, "high": 2.5, "slope": 0.25,
    "limit": 3.5, "lambd": 0.625, "bias": 0.375,
}  # fmt: skip
"""What stands where a spelling leaves a number open; exact in half precision."""
THRESHOLDS = [s for s in SPELLINGS if s.activation == "SlopedRelu" and "threshold" in s.numbers]
UNEVEN = (
    "a = Constant<value_float=0.5>()  b = Constant<value_float=0.25>()  n = Constant<value_float=-0.375>()  "
    "o = Constant<value_float=0.0>()  l = Less(x, n)  u = Add(x, b)  v = Where(l, u, o)  g = Greater(x, a)  "
    "d = Sub(x, b)  y = Where(g, d, v)"
)
"""A soft shrink whose bounds are not as far from 0."""
TWICE_BENT = (
    "e = Elu<alpha=0.5>(x)  o = Constant<value_float=0.0>()  a = Constant<value_float=0.5>()  "
    "g = Greater(x, o)  t = Mul(e, a)  y = Where(g, e, t)"
)
"""Keras's elu, but for the alpha inside."""
X = np.linspace(-9.1, 9.3, 60, dtype=np.float32).reshape(4, 15)


def feeds(batch: int) -> dict[str, np.ndarray]:
    return {"x": X[:batch]}


def numbers_of(spelling) -> dict[str, float]:
    return {name: NUMBERS[name] for name in spelling.numbers}


def written(spelling, dtype: ir.DataType = ir.DataType.FLOAT, **numbers: float) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([N, 15]), type=ir.TensorType(dtype))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="g")
    y = spelling.write(Ops(graph), x, **(numbers or numbers_of(spelling)))
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


def check(model: ir.Model, activation: str, expected_found: int, **numbers: float) -> None:
    before = load(ir.to_proto(model)).run(["y"], {"x": X})[0]
    assert recognise(model) == expected_found
    gradients = Differentiated(model, feeds)
    outputs, seeds, found = gradients({"x": X})
    np.testing.assert_array_equal(outputs["y"], before)
    y, expected = by_torch(partial(TORCH[activation], **numbers), {"x": X}, {}, seeds["y"])
    assert relative_error(outputs["y"], y) < 1e-4
    assert relative_error(found["x"], expected["x"]) < 1e-5
    nodes = list(gradients.model.graph)
    assert nodes[-1].op_type == GRADIENTS[activation]
    assert len(nodes) == 2


spelled = pytest.mark.parametrize("spelling", SPELLINGS, ids=[f"{s.activation} {i}" for i, s in enumerate(SPELLINGS)])


@spelled
def test_every_spelling_becomes_one_call(spelling):
    check(written(spelling), spelling.activation, 1, **numbers_of(spelling))


@spelled
def test_the_call_has_the_open_numbers_as_attributes(spelling):
    model = written(spelling)
    recognise(model)
    (call,) = model.graph
    assert (call.domain, call.op_type) == (PROJECT, spelling.activation)
    assert {name: attr.as_float() for name, attr in call.attributes.items()} == numbers_of(spelling)


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
    for spelling in SPELLINGS:
        activation, model = spelling.activation, written(spelling, ir.DataType.FLOAT16)
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
        ("c = Constant<value_float=-1.7>()  z = Mul(x, c)  s = Sigmoid(z)  y = Mul(x, s)", ["y"]),
        ("c = Constant<value_float=1.5>()  z = Mul(x, c)  y = Max(x, z)", ["y"]),
        ("z = Neg(x)  y = Max(x, z)", ["y"]),
        ("c = Constant<value_floats=[0.0, 1.0, 0.0, 1.0, 0.0]>()  z = Reshape(x, s)  y = Max(z, c)", ["y"]),
        ("i = Cast<to=7>(x)  c = Constant<value_int=0>()  m = Max(i, c)  y = Cast<to=1>(m)", ["y"]),
        ("c = Constant<value_float=0.5>()  g = Greater(z, c)  z = Neg(x)  y = Where(g, x, z)", ["y"]),
        (UNEVEN, ["y"]),
        (TWICE_BENT, ["y"]),
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


def test_zeros_in_the_shape_of_x_are_the_number_0():
    code = "a = Abs(x)  l = Constant<value_float=0.625>()  g = Greater(a, l)  s = Shape(x)  z = ConstantOfShape(s)  "
    check(parse(code + "y = Where(g, x, z)", {"x": (N, 15)}), "Shrink", 1, lambd=0.625)


@pytest.mark.parametrize("threshold", [-1.25, 0.0, 1.25, 4.75])
@pytest.mark.parametrize("spelling", THRESHOLDS)
def test_thresholds_below_0_and_above_the_limit(spelling, threshold):
    numbers = numbers_of(spelling) | {"threshold": threshold}
    check(written(spelling, **numbers), "SlopedRelu", 1, **numbers)


@pytest.mark.parametrize("at", [-0.5, 2.5])
def test_what_is_at_a_bound_of_a_clamp_passes(at):
    (clamp,) = [s for s in SPELLINGS if s.write is piecewise.clamp]
    model = written(clamp)
    recognise(model)
    _, seeds, found = Differentiated(model, feeds)({"x": np.full((2, 15), at, np.float32)})
    np.testing.assert_array_equal(found["x"], seeds["y"])


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("threshold", [1.0, 20.0])
def test_softplus_beyond_its_threshold_is_that_of_pytorch(beta, threshold):
    """In value and slope, also where the threshold is low enough to be seen."""
    (spelling,) = [s for s in SPELLINGS if s.activation == "Softplus"]
    model = written(spelling, beta=beta, threshold=threshold)
    recognise(model)
    x = {"x": np.linspace(-60, 60, 60, dtype=np.float32).reshape(4, 15)}
    outputs, seeds, found = Differentiated(model, feeds)(x)
    y, expected = by_torch(lambda x: F.softplus(x, beta, threshold), x, {}, seeds["y"])
    assert relative_error(outputs["y"], y) < 1e-6
    assert relative_error(found["x"], expected["x"]) < 1e-6


def test_every_composite_has_a_rule_and_a_spelling():
    activations = {spelling.activation for spelling in SPELLINGS}
    assert {(PROJECT, activation) for activation in activations} == {key for key in VJPS if key[0] == PROJECT}
    assert GRADIENTS.keys() == TORCH.keys() == activations
    for spelling in SPELLINGS:
        assert set(spelling.numbers) <= VJPS[PROJECT, spelling.activation].attributes
