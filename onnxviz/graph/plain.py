"""The converter for ``.onnx`` files that somebody handed over, of opset 7 and later.

What counts as a layer: an ONNX file has no modules, so the values after which one looks at a network stand for them
(:data:`LAYER_OPERATORS`), under the names that the file gives them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import prod
from os import PathLike

import onnx
import onnx_ir as ir
import onnxruntime
from onnx import inliner
from onnx_ir.passes import common

from onnxviz.errors import ConversionError, FileFormatError, LayerError, nearest
from onnxviz.graph import composites, decompositions
from onnxviz.graph.agreement import agree, require_agreement
from onnxviz.graph.inputs import Example, declared_inputs, example_feeds, settle_batch
from onnxviz.graph.lift import OPSET, lift, newer_nodes, opset_of
from onnxviz.graph.normalise import own_outputs
from onnxviz.graph.onnx_file import OnnxFile, read
from onnxviz.graph.original import FLOATS, Original, value_nodes
from onnxviz.limits import require_bounded
from onnxviz.source import BATCH, WIDENED, Axes, Feeds, OpenSizes, Source, Tap, open_axes

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("Gemm", "MatMul")
_NORMALISATIONS = (
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
)
_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Softmax", "LogSoftmax"),
)
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
_JUNCTIONS = ("Add", "Sum", "Concat")

_QUANTISED = "the model is quantised: gradients pass straight through the rounding (arXiv:1308.3432)"

_MADE_UP = re.compile(r"^gemm_(in|out)put_shape|_token_\d+$")
"""Names of constants that ONNX Runtime's optimiser makes up; it fails where it meets its own names again."""

_FUSIONS = {
    **dict.fromkeys(("FusedConv", "FusedGemm", "Attention", "FastGelu"), (1, 2)),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul", "BiasGelu"), (0, 1)),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), (2, 3, 4)),
    "EmbedLayerNormalization": (2, 3, 4, 5, 6),
    "MatMulNBits": (),
    "MultiHeadAttention": (3,),
    "QuickGelu": (),
    "SimplifiedLayerNormalization": (1,),
}
"""What ONNX Runtime makes of them (:mod:`onnxviz.graph.decompositions`), and the inputs that are trained."""

LAYER_OPERATORS = frozenset(
    (*_CONVOLUTIONS, *_PRODUCTS, *_NORMALISATIONS, *_ACTIVATIONS, *_POOLS, *_JUNCTIONS, *_FUSIONS)
)
"""Operators whose outputs are layers by default."""

_PARAMETER_INPUTS = {
    **dict.fromkeys((*_CONVOLUTIONS, *_NORMALISATIONS, "Gemm"), (1, 2)),
    **dict.fromkeys(("MatMul", "Add"), (0, 1)),
    "PRelu": (1,),
    **_FUSIONS,
}
"""Which inputs of an operator are trained, where they are stored numbers (BatchNormalization's statistics are not)."""


def source(
    path_or_proto: str | PathLike[str] | onnx.ModelProto,
    *,
    example: Example | None = None,
    layers: str | Sequence[str] | None = None,
    open_sizes: OpenSizes = None,
) -> Source:
    """Read an ``.onnx`` file, lift it to opset 18, and choose its layers.

    The batch stays open (axis 0, ``"N"``) where the file leaves it open and the graph runs at more than one batch
    size. A lifted graph is run against the original on the example
    and must agree within 1e-4 of each value's largest absolute value.

    Args:
        path_or_proto: the file, or its contents (then without external data).
        example: inputs that the model accepts: an array, a tuple in the order of the inputs, or name → array. Without
            it N(0, 1) of the declared shape is used, batch 2 where it is open; integer inputs and open dimensions
            other than the batch require one.
        layers: value names or patterns (``*``, ``?``, ``[…]``) of float values that depend on the inputs; by default
            the outputs of :data:`LAYER_OPERATORS`.
        open_sizes: which sizes stay open that the file leaves open, see :func:`onnxviz.source.open_axes`.

    Raises:
        FileFormatError: not an ONNX file, or damaged.
        UnsupportedModelError: a directory, an explainable file, an opset below 7, inputs or outputs that are not
            tensors.
        UnsupportedOperatorError: an operator without a kernel, or one that cannot be lifted to opset 18.
        InputError: the example does not fit, or is needed and was not given.
        LayerError: a name or pattern fits no float value.
        ConversionError: the model does not run on the example.
    """
    file = read(path_or_proto)
    decompositions.refuse_layouts(file.proto)
    inputs = declared_inputs(file.proto.graph)
    feeds = example_feeds(inputs, example)
    require_bounded(file.proto, {name: array.shape for name, array in feeds.items()})
    if file.proto.functions:
        file = _inlined(file, feeds)
    nodes = value_nodes(file.proto.graph)
    activations = composites.written_out(_in_memory(file))
    asked = _asked(nodes, [layers] if isinstance(layers, str) else layers, activations)
    original = Original(file, asked)
    chosen = _float_values(asked, original, explicit=layers is not None)
    original.keep(chosen)
    opened = open_axes(open_sizes, {each.name: axes for each in inputs if (axes := each.open_axes)}, {})
    notes: list[str] = []
    caveats = [WIDENED] if file.widened else []
    caveats += [_QUANTISED] if any(node.op_type == "QuantizeLinear" for node in file.proto.graph.node) else []
    feeds, open_batch = settle_batch(original.run, inputs, feeds, given=example is not None, notes=notes)
    model = _lifted(file, original, feeds, notes)
    _settle_shapes(model, feeds, open_batch, opened)
    taps = _taps(model, {name: nodes[name] for name in chosen}, _stored_sizes(file.proto.graph), notes)
    _declare_outputs(model, original, feeds)
    renamed = own_outputs(model)
    outputs = {name: renamed.get(name, name) for name in original.outputs}
    return Source(model, outputs, taps, "onnx", _versions(file.proto), feeds, original, notes, caveats)


def _versions(proto: onnx.ModelProto) -> dict[str, str]:
    producer = {proto.producer_name: proto.producer_version} if proto.producer_name and proto.producer_version else {}
    return {**producer, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


# ----------------------------------------------------------------------------------------------------------- layers


def _asked(
    nodes: Mapping[str, onnx.NodeProto], layers: Sequence[str] | None, activations: Mapping[str, tuple[str, set[str]]]
) -> list[str]:
    """The values that are meant, in the order of the graph; an activation written as several nodes is one layer."""
    if layers is None:
        inside = {name for _, names in activations.values() for name in names}
        single = {n for n, node in nodes.items() if node.op_type in LAYER_OPERATORS and n == node.output[0]}
        return [name for name in nodes if name in activations or name in single - inside]
    asked: set[str] = set()
    for layer in layers:
        fitting = [layer] if layer in nodes else [name for name in nodes if fnmatchcase(name, layer)]
        if not fitting:
            raise LayerError(
                f"layers={layer!r} is no value of the graph that depends on its inputs, nor a pattern that fits one"
                f"{nearest(layer, nodes)}"
            )
        asked.update(fitting)
    return [name for name in nodes if name in asked]


def _float_values(asked: Sequence[str], original: Original, *, explicit: bool) -> list[str]:
    chosen = [name for name in asked if original.types[name] in FLOATS]
    if explicit and not chosen:
        kinds = ", ".join(f"{name!r} is {original.types[name]}" for name in asked[:3])
        raise LayerError(f"layers= names no float value: {kinds}; a layer must be float to be explained")
    return chosen


def _taps(
    model: ir.Model, layers: Mapping[str, onnx.NodeProto], sizes: Mapping[str, int], notes: list[str]
) -> list[Tap]:
    """Make the layers outputs of the graph, under their own names; ``sizes`` has the sizes of the stored values."""
    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    listed = set(model.graph.outputs)
    taps = []
    for name, node in layers.items():
        value = values.get(name)
        if value is None:
            notes.append(f"the layer {name!r} was left out: its value vanished when the graph was brought to opset 18")
            continue
        if value not in listed:
            model.graph.outputs.append(value)
        trained = [node.input[i] for i in _PARAMETER_INPUTS.get(node.op_type, ()) if i < len(node.input)]
        taps.append(Tap(name, name, node.op_type, sum(sizes.get(each, 0) for each in trained)))
    return taps


def _stored_sizes(graph: onnx.GraphProto) -> dict[str, int]:
    """The number of elements of each value that the file stores."""
    constants = {
        node.output[0]: prod(attribute.t.dims)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return constants | {tensor.name: prod(tensor.dims) for tensor in graph.initializer}


# ------------------------------------------------------------------------------------------------------------ graph


def _inlined(file: OnnxFile, feeds: Feeds) -> OnnxFile:
    """The model without its own functions, shown equal; the original could not be asked for a value inside of one."""
    try:
        flat = replace(file, proto=inliner.inline_local_functions(file.proto, convert_version=True))
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise FileFormatError(f"the model's own functions cannot be expanded: {str(error).strip()}") from error
    before, after = Original(file).run(feeds), Original(flat).run(feeds)
    for name, value in before.items():
        if not agree(value, after[name]):
            raise ConversionError(
                f"the output {name!r} changes when the model's own functions are inlined; export it without functions"
            )
    return flat


def _lifted(file: OnnxFile, original: Original, feeds: Feeds, notes: list[str]) -> ir.Model:
    """The graph at opset 18, its fusions taken apart, shown equal where anything had to be done for it."""
    model = _in_memory(file)
    opset = opset_of(model)
    decompositions.set_aside(model)
    aside = decompositions.foreign(model.graph)
    read_there = {
        x.name for node in (*aside, *newer_nodes(model)) for x in node.inputs if x and x.name and not x.const_value
    }
    measured = Original(file, read_there).run(feeds) if aside else {}
    decompositions.annotate(model.graph, measured)
    model = lift(model)
    decompositions.decompose(model, measured)
    if opset != OPSET or aside:
        require_agreement(file, original, model, feeds)
    if opset != OPSET:
        notes.append(f"the graph was brought from opset {opset} to {OPSET}")
    return model


def _in_memory(file: OnnxFile) -> ir.Model:
    try:
        model = ir.from_proto(file.proto)
    except ir.serde.SerdeError as error:
        raise FileFormatError(f"the model's graph is damaged: {error.__cause__ or error}") from error
    for name, array in file.weights.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    if "ai.onnx" in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
    common.RemoveInitializersFromInputsPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is not None and _MADE_UP.search(name):
            value.const_value = ir.tensor(value.const_value.numpy())
            value.name = f"{name}#stored"
    return model


def _settle_shapes(model: ir.Model, feeds: Feeds, open_batch: Collection[str], opened: Axes) -> None:
    """Give the inputs their final shapes, and forget what the file says of all others, which may no longer be so."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            value.shape = None
    for value in model.graph.inputs:
        assert value.name is not None
        declared: list[int | str | None] = [d if isinstance(d, int) else d.value for d in value.shape or ()]
        sizes: list[int | str | None] = list(feeds[value.name].shape)
        for axis in opened.get(value.name, ()):
            sizes[axis] = declared[axis]
        if value.name in open_batch:
            sizes[0] = BATCH
        value.shape = ir.Shape(sizes)


def _declare_outputs(model: ir.Model, original: Original, feeds: Feeds) -> None:
    """Give the outputs their types and ranks, which ONNX demands; their sizes are found out later."""
    arrays = original.run(feeds)
    for value in model.graph.outputs:
        name = value.name or ""
        kind = original.types[name].removeprefix("tensor(").removesuffix(")")
        value.type = ir.TensorType(ir.DataType[kind.upper()])
        value.shape = value.shape or ir.Shape([None] * arrays[name].ndim)
