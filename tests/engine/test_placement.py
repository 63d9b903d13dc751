"""Forward pass, gradient and heads stay on a GPU: by what CUDA has kernels for, and, where there is one, by asking."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional

import onnxviz as ov
from onnxviz.engine import cache as sessions
from onnxviz.engine import session
from onnxviz.engine.optimizations import OPTIMIZATIONS
from tests.networks import normal
from tests.support import assert_close

ON_CUDA = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip",
    "Compress", "Concat", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace",
    "DequantizeLinear", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten",
    "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GridSample", "HardSigmoid", "HardSwish", "Identity", "If", "InstanceNormalization", "IsInf",
    "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Loop",
    "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow",
    "QuantizeLinear", "RNN", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape",
    "Resize", "ReverseSequence", "RoiAlign", "Round", "Scan", "ScatterElements", "ScatterND", "Selu", "Shape",
    "Shrink", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split",
    "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze",
    "Where", "Xor",
})  # fmt: skip
"""Operators of opset 18 with a kernel for float in onnxruntime's CUDA provider (its docs/OperatorKernels.md)."""

BY_PARTS = frozenset({"CastLike", "CenterCropPad", "GroupNormalization", "Mish"})
"""Functions of ONNX that onnxruntime has no kernel for anywhere, so that it takes what they are made of."""

ON_HOST = {
    "Reshape": {1}, "Expand": {1}, "Slice": {1, 2, 3, 4}, "Unsqueeze": {1}, "Squeeze": {1}, "Tile": {1}, "Pad": {1, 3},
    "Resize": {1, 2, 3}, "OneHot": {1}, "TopK": {1}, "Split": {1}, "CumSum": {1}, "Trilu": {1}, "Range": {0, 1, 2},
    "ConstantOfShape": {0},
}  # fmt: skip
"""Inputs that CUDA's kernels read on the host."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
NUMBERS = FLOATS | {TensorProto.INT32, TensorProto.INT64}
TYPES = {
    ("ArgMax", 0): FLOATS, ("ArgMin", 0): FLOATS, ("CumSum", 0): NUMBERS, ("MaxPool", 0): FLOATS, ("Mod", 0): NUMBERS,
    ("OneHot", 2): {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64}, ("Pad", 0): FLOATS | {TensorProto.BOOL},
    ("Pow", 0): NUMBERS, ("ReduceMean", 0): FLOATS | {TensorProto.INT32}, ("ReduceSum", 0): NUMBERS,
    ("Round", 0): FLOATS, ("Tile", 0): NUMBERS, ("TopK", 0): NUMBERS, ("Where", 1): NUMBERS | {TensorProto.UINT8},
}  # fmt: skip
"""Types of an operator's inputs that CUDA has it for, where these are not all that ONNX allows."""


class Fire(nn.Module):
    """Two convolutions of what a third has squeezed, joined."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze, self.one = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, expanded, 1)
        self.three = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)


class Bottleneck(nn.Module):
    """A residual block with batch norms, which halves the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = nn.Conv2d(channels, channels, 1, 2)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Transformer(nn.Module):
    """Patches, a class token, attention and a perceptron, both normalised before."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.zeros(1, 1, 16))
        self.place, self.qkv, self.out = nn.Parameter(torch.randn(1, 17, 16)), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 5)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        q, k, v = (one.unflatten(-1, (2, 8)).transpose(1, 2) for one in self.qkv(self.norms[0](x)).chunk(3, -1))
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x)[:, 0])


NETS = {
    "squeezenet": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 6), Fire(12, 4, 6),
        nn.Dropout(), nn.Conv2d(12, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "resnet": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Bottleneck(8),
        Bottleneck(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ),
    "mobilenet": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Hardswish(), nn.Conv2d(8, 16, 1),
        nn.SiLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ),
    "vit": Transformer,
}  # fmt: skip

ASKED = {
    "predict": lambda ex, x: ex.predict(x),
    "features": lambda ex, x: ex.features(x),
    "saliency": lambda ex, x: ex.saliency(x),
    "saliency of a class": lambda ex, x: ex.saliency(x, 1),
    "of the probability": lambda ex, x: ex.gradient(x, of="probability"),
    "several classes": lambda ex, x: ex.gradient(x, [[1, 2]]),
    **{name: lambda ex, x, name=name: ex.explain(x, name, 1) for name in (
        "input_x_gradient", "guided_backprop", "deconvnet", "grad_cam", "grad_cam_pp", "layer_cam", "xgrad_cam",
    )},
    "smooth_grad": lambda ex, x: ex.smooth_grad(x, 1, n_samples=2, kind="variance"),
    "integrated_gradients": lambda ex, x: ex.integrated_gradients(x, 1, n_steps=2),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placement")

    @cache
    def file(name: str) -> Path:
        torch.manual_seed(2)  # with which no map is 0 everywhere
        return ov.convert(NETS[name]().eval(), folder / f"{name}.onnx", example=normal(2, 3, 32, 32), quiet=True)

    return file


Prepared = tuple[onnx.ModelProto, onnxruntime.InferenceSession]


def prepared(path: Path, method: str, monkeypatch, folder: Path, entries: dict[str, str], **options) -> list[Prepared]:
    """The sessions that a question is answered with, and the graphs that onnxruntime made of ours."""
    seen, create, general = [], sessions.create_session, session.session_options

    def kept(model, *args, **more):
        copy = folder / f"{len(seen)}.onnx"
        made = create(model, *args, **more, copy=copy)
        seen.append((onnx.load(copy, load_external_data=False), made))
        return made

    def with_entries(*args, **more):
        made = general(*args, **more)
        if options["providers"] == "cpu":  # the rest of its work is for the CPU alone
            made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        for key, value in entries.items():
            made.add_session_config_entry(key, value)
        return made

    with monkeypatch.context() as patch, ov.load(path, **options) as ex:
        patch.setattr(sessions, "create_session", kept)
        patch.setattr(session, "session_options", with_entries)
        ASKED[method](ex, normal(2, 3, 32, 32))
    return seen


def without_kernel(model: onnx.ModelProto) -> list[str]:
    """What CUDA leaves to the CPU."""
    types, found = types_of(model), []
    for node in model.graph.node:
        if node.op_type not in ON_CUDA | BY_PARTS:
            found.append(node.op_type)
        for (op_type, index), allowed in TYPES.items():
            kind = types.get(node.input[index]) if node.op_type == op_type else None
            if kind and kind not in allowed:
                found.append(f"{op_type} of {TensorProto.DataType.Name(kind)}")
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        pads = given.get("pads", [])
        if node.op_type == "ConvTranspose" and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            found.append(f"ConvTranspose with pads {pads}")
        if node.op_type == "GRU" and not given.get("linear_before_reset"):
            found.append("GRU without linear_before_reset")
    return found


def copied(model: onnx.ModelProto) -> list[str]:
    """What onnxruntime computes from sizes on the CPU, and the device reads.

    Shapes are there, and what is computed of nothing else, unless CUDA's kernel wants to read them there itself.
    """
    constants, host, found = {t.name for t in model.graph.initializer} | {""}, set(), []
    for node in model.graph.node:
        there = ON_HOST.get(node.op_type, set())
        computed = {i for i, name in enumerate(node.input) if name not in constants}
        if node.op_type in {"Shape", "Size"} or (
            computed and not computed & there and host.issuperset(node.input[i] for i in computed)
        ):
            host.update(node.output)
        else:
            found += [f"input {i} of {node.op_type}" for i in computed - there if node.input[i] in host]
    return found


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Value → its type, where that is known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {v.name: v.type.tensor_type.elem_type for v in values if v.type.tensor_type.elem_type}
    return found | {t.name: t.data_type for t in graph.initializer}


@pytest.mark.parametrize("method", ASKED)
@pytest.mark.parametrize("name", NETS)
def test_all_operators_have_a_kernel_on_cuda_and_nothing_is_copied(files, monkeypatch, tmp_path, name, method):
    everywhere = [one.name for one in OPTIMIZATIONS if one.everywhere]
    seen = prepared(files(name), method, monkeypatch, tmp_path, {}, providers="cpu", optimize=everywhere)
    assert seen
    for model, _ in seen:
        assert not without_kernel(model)
        assert not copied(model)


@pytest.mark.parametrize(("look", "node", "found"), [
    (without_kernel, "y = Tan (x)", ["Tan"]),
    (without_kernel, "m = Cast <to = 9> (x) y = Where (m, m, m)", ["Where of BOOL"]),
    (without_kernel, "i = Cast <to = 7> (x) j = ArgMax (i) y = Cast <to = 1> (j)", ["ArgMax of INT64"]),
    (without_kernel, "y = ConvTranspose <pads = [0, 0, 1, 1]> (x, x)", ["ConvTranspose with pads [0, 0, 1, 1]"]),
    (without_kernel, "y = Relu (x)", []),
    (copied, "n = Size (x) f = Cast <to = 1> (n) y = Div (x, f)", ["input 1 of Div"]),
    (copied, "s = Shape (x) n = Mul (s, s) y = Reshape (x, n)", []),
    (copied, "s = Shape (x) o = ConstantOfShape (s) y = Add (x, o)", []),
    (copied, "s = Shape (x) y = Gather (x, s)", ["input 1 of Gather"]),
])  # fmt: skip
def test_what_would_leave_the_device_is_seen(look, node, found):
    text = f'<ir_version: 10, opset_import: ["": 18]> g (float[1,1,2,2] x) => (y) {{ {node} }}'
    assert look(onnx.parser.parse_model(text)) == found


# ----- on a GPU -----


RECORD = {"session.record_ep_graph_assignment_info": "1"}


def placed(model: onnx.ModelProto, made: onnxruntime.InferenceSession) -> dict[str, set[str]]:
    """Provider → the operators that it computes, but for those that give whole numbers from sizes on the CPU."""
    types, whole = types_of(model), {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
    of_sizes = {node.name for node in model.graph.node if all(types.get(name) in whole for name in node.output)}
    found: dict[str, set[str]] = {}
    for part in made.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            if part.ep_name != session.CPU or node.name not in of_sizes:
                found.setdefault(part.ep_name, set()).add(node.op_type)
    return found


def test_sessions_tell_who_computes_what(files, monkeypatch, tmp_path):
    seen = prepared(files("resnet"), "grad_cam", monkeypatch, tmp_path, RECORD, providers="cpu", optimize=False)
    for model, made in seen:
        found = placed(model, made)
        assert list(found) == [session.CPU]
        assert {"Conv", "MaxPool"} <= found[session.CPU]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("method", ASKED)
@pytest.mark.parametrize("name", NETS)
def test_nothing_is_left_to_the_cpu(files, monkeypatch, tmp_path, name, method, precision):
    """No operator but those that compute sizes, and no copy between the devices."""
    options = {"providers": "cuda", "precision": precision}
    seen = prepared(files(name), method, monkeypatch, tmp_path, RECORD, **options)
    assert seen
    for model, made in seen:
        assert list(placed(model, made)) == [session.CUDA]
        assert not [node.op_type for node in model.graph.node if node.op_type.startswith("Memcpy")]


@pytest.mark.gpu
@pytest.mark.parametrize("method", ASKED)
@pytest.mark.parametrize("name", NETS)
def test_on_cuda_the_numbers_are_the_cpus(files, name, method):
    x = normal(2, 3, 32, 32)
    with ov.load(files(name), providers="cuda") as ex, ov.load(files(name), providers="cpu") as cpu:
        found, expected = ASKED[method](ex, x), ASKED[method](cpu, x)
    for one, other in zip(*(r.values() if isinstance(r, dict) else [r] for r in (found, expected)), strict=True):
        assert_close(one, other, bar=1e-3)
