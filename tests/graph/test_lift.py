"""Operators of all opsets mean the same at opset 18, or are refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from onnxviz.errors import UnsupportedModelError, UnsupportedOperatorError
from onnxviz.graph.lift import lift
from onnxviz.graph.plain import source

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((6, 6, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
    "g": RNG.standard_normal((5, 96)).astype(np.float32),
    "b": RNG.standard_normal(5).astype(np.float32),
    "c": np.linspace(0.5, 2, 6, dtype=np.float32),
    "c3": np.linspace(0.5, 2, 6, dtype=np.float32).reshape(6, 1, 1),
    "e": np.linspace(0.5, 2, 4, dtype=np.float32),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "half_more": np.array([1, 1, 1.5, 1.5], np.float32),
    "grid": RNG.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32),
    "rows": np.array([0, -1]),
    "zero": np.array(0, np.float32),
}


def model(body: str, opset: int) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: {min(10, max(3, opset - 5))}, opset_import: ["": {opset}]> '
        f"g (float[N, 6, 4, 4] x) => (float[?, ?, ?, ?] y) {{ {body} }}"
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name in sorted({name for node in proto.graph.node for name in node.input} & set(WEIGHTS)):
        tensor = onnx.numpy_helper.from_array(WEIGHTS[name], name)
        proto.graph.initializer.append(tensor)
        if proto.ir_version < 4:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    return proto


SINCE = {
    "convolution": (7, "y = Conv(x, w)"),
    "transposed convolution": (7, "y = ConvTranspose<strides=[2, 2]>(x, w)"),
    "batch normalisation": (7, "y = BatchNormalization(x, c, c, c, c)"),
    "broadcast": (7, "a = Add(x, c3) y = Mul(a, c3)"),
    "sum": (8, "y = Sum(x, c3)"),
    "product": (7, "y = MatMul(x, m)"),
    "gemm": (7, "f = Flatten(x) y = Gemm<transB=1>(f, g, b)"),
    "pools": (7, "a = MaxPool<kernel_shape=[2, 2]>(x) y = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(a)"),
    "dropout": (7, "y = Dropout(x)"),
    "softmax of all": (7, "y = Softmax<axis=1>(x)"),
    "softmax of one axis": (7, "y = Softmax<axis=3>(x)"),
    "log softmax": (7, "y = LogSoftmax<axis=1>(x)"),
    "reshape": (7, "y = Reshape(x, rows)"),
    "shape": (7, "s = Shape(x) y = Reshape(x, s)"),
    "normalisation": (7, "y = InstanceNormalization(x, c, c)"),
    "local response": (7, "y = LRN<size=3>(x)"),
    "parametric": (7, "y = PRelu(x, c3)"),
    "activations": (7, "a = Elu(x) s = Selu(a) l = LeakyRelu(s) h = HardSigmoid(l) t = Tanh(h) y = Sigmoid(t)"),
    "to integer": (7, "i = Cast<to=7>(x) y = Cast<to=1>(i)"),
    "hard swish": (14, "y = HardSwish(x)"),
    "layer normalisation": (17, "y = LayerNormalization(x, e)"),
    "mish": (18, "y = Mish(x)"),
    "gelu": (20, "y = Gelu(x)"),
    "gelu by tanh": (20, 'y = Gelu<approximate="tanh">(x)'),
    "group normalisation": (21, "y = GroupNormalization<num_groups=2>(x, c, c)"),
    "root mean square": (23, "y = RMSNormalization(x, e)"),
    "attention": (23, "y = Attention(x, x, x)"),
}
BETWEEN = {
    "clip": (7, 10, "y = Clip<min=-0.5, max=0.5>(x)"),
    "clip by inputs": (11, 26, "y = Clip(x, zero)"),
    "padding": (7, 10, "y = Pad<pads=[0, 0, 1, 1, 0, 0, 2, 1], value=2.0>(x)"),
    "slice": (7, 9, "y = Slice<starts=[1], ends=[3], axes=[1]>(x)"),
    "split": (7, 12, "y, z = Split<axis=1, split=[2, 4]>(x)"),
    "mean": (7, 17, "y = ReduceMean<axes=[2, 3]>(x)"),
    "squeeze": (7, 12, "u = Unsqueeze<axes=[0]>(x) y = Squeeze<axes=[0]>(u)"),
    "nearest upsampling": (7, 8, "y = Upsample<scales=[1.0, 1.0, 2.0, 2.0]>(x)"),
    "linear upsampling": (7, 8, 'y = Upsample<mode="linear", scales=[1.0, 1.0, 2.0, 2.0]>(x)'),
    "nearest upsampling, scales as input": (9, 9, "y = Upsample(x, half_more)"),
    "linear upsampling, scales as input": (9, 9, 'y = Upsample<mode="linear">(x, twice)'),
    "linear resize": (10, 10, 'y = Resize<mode="linear">(x, half_more)'),
    "linear resize, half pixel": (13, 26, 'y = Resize<mode="linear">(x, , half_more)'),
    "bilinear grid": (16, 19, 'y = GridSample<mode="bilinear">(x, grid)'),
    "linear grid": (20, 26, 'y = GridSample<mode="linear">(x, grid)'),
    "default grid": (20, 26, "y = GridSample(x, grid)"),
    "saturating cast": (19, 26, "i = Cast<to=7, saturate=1>(x) y = Cast<to=1>(i)"),
}
CASES = [
    pytest.param(body, opset, id=f"{name}-{opset}")
    for name, (first, last, body) in {**{n: (since, 26, b) for n, (since, b) in SINCE.items()}, **BETWEEN}.items()
    for opset in range(first, last + 1)
    if not (first < 13 and opset > 13 and "axes=" in body)
]


@pytest.mark.parametrize(("body", "opset"), CASES)
def test_same_at_opset_18(body, opset):
    proto = model(body, opset)
    given = proto.SerializeToString()
    x = RNG.standard_normal((2, 6, 4, 4)).astype(np.float32)
    [before] = onnxruntime.InferenceSession(given).run(["y"], {"x": x})
    plain = source(proto)
    assert proto.SerializeToString() == given
    lifted = ir.to_proto(plain.model)
    assert {each.domain: each.version for each in lifted.opset_import}[""] == 18
    assert lifted.ir_version == 10
    onnx.checker.check_model(lifted, full_check=True)
    [after] = onnxruntime.InferenceSession(lifted.SerializeToString()).run(["y"], {"x": x})
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


REFUSED = {
    "changed silently": ("a = Relu(x) h = Hardmax<axis=1>(a) y = Exp(h)", 11, "Hardmax 'h'.*'h' is the first"),
    "unknown attribute": ("y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2]>(x)", 19, "AveragePool.*dilations"),
    "new type rule": ("i = Cast<to=17, saturate=0>(x) y = Cast<to=1>(i)", 19, "Cast.*saturate"),
}


@pytest.mark.parametrize(("body", "opset", "named"), REFUSED.values(), ids=REFUSED)
def test_refused_by_operator(body, opset, named):
    with pytest.raises(UnsupportedOperatorError, match=named):
        source(model(body, opset))


def test_operators_without_counterpart_are_refused():
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (string[N] x) => (string[N] y) { y = StringConcat(x, x) }'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"StringConcat 'y' \(opset 20\)"):
        lift(ir.from_proto(proto))


def test_opset_6_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"opset 6.*opset 7 and later"):
        source(model("y = Relu(x)", 6))


def test_names_of_all_values_survive():
    body = "a = Conv(x, w) n = BatchNormalization(a, c, c, c, c) r = Relu(n) d = Dropout<ratio=0.5>(r) y = Softmax(d)"
    plain = source(model(body, 7), layers="*")
    assert [tap.name for tap in plain.taps] == ["a", "n", "r", "d", "y"]


def test_weights_are_not_copied():
    weight = RNG.standard_normal((300, 300)).astype(np.float32)
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N, 300] x) => (float[N, 300] y) { y = MatMul(x, w) }'
    )
    graph = ir.from_proto(proto)
    [node] = graph.graph
    value = node.inputs[1]
    assert value is not None
    value.const_value = ir.tensor(weight, name="w")
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(weight.shape)
    graph.graph.register_initializer(value)
    lifted = lift(graph)
    stored = lifted.graph.initializers["w"].const_value
    assert stored is not None
    assert np.shares_memory(stored.numpy(), weight)
    assert [each.name for each in lifted.graph.inputs] == ["x"]
