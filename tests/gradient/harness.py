"""Small graphs, their gradient graphs, and two ways to know what the gradients should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from onnxviz.gradient.backward import FLOATS, backward
from onnxviz.gradient.tape import Ops
from onnxviz.gradient.training_ops import TrainingOps

N = "N"
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
MISFIT = (InvalidArgument, Fail, RuntimeException)
"""What onnxruntime raises where sizes do not fit."""
UNCHECKED = {"GroupNormalization", "MeanVarianceNormalization"}
"""What onnx.checker refuses at opset 18: the one since opset 21 redefined it, the other without its default axes."""
Shape = Sequence[int | str]
Draw = Callable[[np.random.Generator, Sequence[int]], np.ndarray]


def normal(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def positive(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.uniform(0.5, 2.0, shape).astype(np.float32)


def spaced(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """No two elements are nearer than 1 to each other, or nearer than ¼ to an integer."""
    size = int(np.prod(shape))
    return (rng.permutation(size).reshape(shape) - size // 2 + 0.375).astype(np.float32)


def values(*numbers: float) -> Draw:
    """These numbers, over and over."""
    return lambda _, shape: np.resize(np.array(numbers, np.float32), shape)


@dataclass(frozen=True)
class Case:
    """One operator, in ONNX text that computes y from the inputs and constants.

    ``torch`` is the same in PyTorch, called with the inputs and constants by position; without it gradients are
    compared with the full Jacobian by differences of ±``eps``, exact for what is linear that far around the inputs.
    """

    code: str
    inputs: dict[str, Shape]
    torch: Callable[..., torch.Tensor] | None = None
    constants: dict[str, np.ndarray | Sequence] = field(default_factory=dict)
    draw: Draw = normal
    eps: float = 1.0
    note: str = ""

    def __str__(self) -> str:
        shapes = ["x".join(map(str, shape)) or "scalar" for shape in self.inputs.values()]
        integers = [f"{k}={v}" for k, v in self.constants.items() if not isinstance(v, np.ndarray) or not v.ndim]
        return " ".join([self.code, *shapes, *integers, self.note]).strip()

    def arrays(self, dtype: str = "float") -> dict[str, np.ndarray]:
        """The constants, floats in the type of the inputs; what Resize is told is float32 always."""
        arrays = {k: v if isinstance(v, np.ndarray) else np.array(v, np.int64) for k, v in self.constants.items()}
        floats = {k for k, v in arrays.items() if v.dtype == np.float32 and "Resize" not in self.code}
        return {k: v.astype(TYPES[dtype]) if k in floats else v for k, v in arrays.items()}

    def feeds(self, batch: int, seed: int = 0, dtype: type = np.float32) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {
            k: self.draw(rng, [batch if d == N else d for d in shape]).astype(dtype) for k, shape in self.inputs.items()
        }

    def model(self, dtype: str = "float") -> ir.Model:
        return parse(self.code, self.inputs, self.arrays(dtype), dtype=dtype)


def weights(*shape: int, seed: int = 7) -> np.ndarray:
    return normal(np.random.default_rng(seed), shape)


def parse(
    code: str,
    inputs: Mapping[str, Shape],
    constants: Mapping[str, np.ndarray] = {},
    *,
    outputs: Sequence[str] = ("y",),
    dtype: str = "float",
) -> ir.Model:
    """The model of these statements."""
    shapes = {name: f"[{','.join(map(str, shape))}]" if shape else "" for name, shape in inputs.items()}
    given = ", ".join(f"{dtype}{shape} {name}" for name, shape in shapes.items())
    results = ", ".join(f"{dtype}[] {name}" for name in outputs)  # of any rank
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18, "onnxviz" : 1]> g ({given}) => ({results}) {{ {code} }}'
    )
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(proto)


def measure(model: ir.Model, feeds: Callable[[int], Mapping[str, np.ndarray]]) -> None:
    """Set type and shape of every value to what onnxruntime computes; what differs between two batches is symbolic."""
    proto = ir.to_proto(model)
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = load(proto)
    runs = [dict(zip(names, session.run(names, dict(feeds(batch))), strict=True)) for batch in (2, 3)]
    for value in (y for node in model.graph for y in node.outputs if y.name):
        two, three = (run[value.name] for run in runs)
        value.dtype = ir.DataType.from_numpy(two.dtype)
        value.shape = ir.Shape([size(a, b) for a, b in zip(two.shape, three.shape, strict=True)])


def size(at_two: int, at_three: int) -> int | str | None:
    """A size as a function of the batch, known at two of them."""
    if at_two == at_three:
        return at_two
    slope = at_three - at_two
    if at_two != 2 * slope:
        return None
    return N if slope == 1 else f"{slope}*{N}"


def load(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Differentiated:
    """A model with seeds and gradients of all its float inputs, checked by onnx and loaded in onnxruntime."""

    def __init__(self, model: ir.Model, feeds: Callable[[int], Mapping[str, np.ndarray]], *, checked: bool = True):
        graph = model.graph
        measure(model, feeds)
        self.inputs = [x.name for x in graph.inputs]
        self.outputs = [y.name for y in graph.outputs]
        nodes, wrt = list(graph), [x for x in graph.inputs if x.dtype in FLOATS]
        seeds = {}
        for y in graph.outputs:
            seeds[y] = ir.Value(name=f"seed/{y.name}", shape=y.shape, type=y.type)
            graph.inputs.append(seeds[y])
        gradients = backward(
            Ops(graph, TrainingOps(model), prefix="backward/"), nodes, seeds, wrt, {x: f"grad/{x.name}" for x in wrt}
        )
        self.wrt = [x.name for x in wrt if x in gradients]
        graph.outputs.extend(gradients[x] for x in wrt if x in gradients)
        RemoveUnusedNodesPass()(model)
        self.model = model
        self.proto = ir.to_proto(model)
        if checked and UNCHECKED.isdisjoint(node.op_type for node in self.proto.graph.node):
            onnx.checker.check_model(self.proto, full_check=True)
        self.session = load(self.proto)
        self.plain = load(onnx.utils.Extractor(self.proto).extract_model(self.inputs, self.outputs))

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> tuple[dict, dict, dict]:
        """Outputs, random seeds for them, and the gradients of Σ seed · output."""
        outputs = self.forward(feeds)
        seeds = seeds_for(outputs)
        names = [f"grad/{x}" for x in self.wrt]
        found = self.session.run(names, {**feeds, **{f"seed/{y}": v for y, v in seeds.items()}})
        return outputs, seeds, dict(zip(self.wrt, found, strict=True))

    def forward(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.plain.run(self.outputs, dict(feeds)), strict=True))


def seeds_for(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1000)
    return {y: normal(rng, v.shape).astype(v.dtype) for y, v in outputs.items()}


def by_torch(function: Callable[..., torch.Tensor], feeds: Mapping, constants: Mapping, seed: np.ndarray) -> tuple:
    """Output and gradients of Σ seed · output, as PyTorch computes them."""
    leaves = [torch.tensor(x, requires_grad=True) for x in feeds.values()]
    y = function(*leaves, *(torch.tensor(c) for c in constants.values()))
    y.backward(torch.tensor(seed))
    return y.detach().numpy(), {k: leaf.grad.numpy() for k, leaf in zip(feeds, leaves, strict=True)}


def by_differences(case: Case, run: Callable[[Mapping], Mapping], feeds: Mapping, seed: np.ndarray) -> dict:
    """The gradient of Σ seed · y at one sample, from the full Jacobian; each element moves in a sample of its own."""
    found = {}
    for name, x in feeds.items():
        steps = case.eps * np.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape[1:])
        moved = np.concatenate([x + steps, x - steps])
        others = {k: np.repeat(v, len(moved), axis=0) for k, v in feeds.items() if k != name}
        high, low = np.split(run({name: moved, **others})["y"].astype(np.float64), 2)
        jacobian = (high - low) / (2 * case.eps)
        found[name] = np.tensordot(jacobian, seed[0], seed.ndim - 1).reshape(x.shape)
    return found


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a part of the largest absolute value."""
    assert found.shape == expected.shape, f"{found.shape} instead of {expected.shape}"
    assert np.isfinite(found).all()
    scale = np.abs(expected).max() if expected.size else 0.0
    worst = np.abs(found.astype(np.float64) - expected).max() if expected.size else 0.0
    return float(worst / scale) if scale else float(worst)
