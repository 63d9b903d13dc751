"""Plain ONNX files made by hand to do harm: each is refused, or is right after all (``RIGHT``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from onnxviz.source import Array

Edit = Callable[[onnx.ModelProto], object]


def graph(
    nodes: str, inputs: str = "float[N, 6] x", outputs: str = "float[N, 6] y", functions: str = "", **stored: Array
) -> onnx.ModelProto:
    """A model in ONNX's text form, which is parsed but not checked."""
    text = f'<ir_version: 10, opset_import: ["": 18, "l": 1]> g ({inputs}) => ({outputs}) {{ {nodes} }} {functions}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    return model


def edited(model: onnx.ModelProto, *edits: Edit) -> onnx.ModelProto:
    """The model after the edits."""
    for edit in edits:
        edit(model)
    return model


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def function(name: str, body: str) -> str:
    """A function of one input and output."""
    return f'<domain: "l", opset_import: ["": 18, "l": 1]> {name} (a) => (b) {{ {body} }}'


def mean_of(node: str, before: str = "", **stored: Array) -> onnx.ModelProto:
    """A model that looks harmless from outside: y = x + mean of what the node makes."""
    return graph(f"h = Relu(x) {before} q = {node} r = ReduceMean<keepdims: int = 0>(q) y = Add(h, r)", **stored)


def doubled(times: int) -> onnx.ModelProto:
    steps = " ".join(f"h{i + 1} = Concat<axis: int = 1>(h{i}, h{i})" for i in range(times))
    return graph(f"h0 = Relu(x) {steps} r = ReduceMean<keepdims: int = 1>(h{times}, axes) y = Add(x, r)", axes=ints(1))


def loop(inputs: str, **stored: Array) -> onnx.ModelProto:
    body = "(int64 i, bool c, float[N, 6] a) => (bool d, float[N, 6] e) { d = Identity(c) e = Relu(a) }"
    return graph(f"y = Loop<body = b {body}>({inputs})", more=np.array(True), **stored)


def conv(attribute: str) -> onnx.ModelProto:
    return graph(f"y = Conv<{attribute}>(x, w)", "float[N, 3, 8, 8] x", "float[N, 4, h, v] y", w=ones(4, 3, 3, 3))


def transposed_conv(attribute: str) -> onnx.ModelProto:
    return graph(
        f"y = ConvTranspose<{attribute}>(x, w)", "float[N, 4, 8, 8] x", "float[N, 3, h, v] y", w=ones(4, 3, 3, 3)
    )


def pool(operator: str, attribute: str) -> onnx.ModelProto:
    return graph(f"y = {operator}<{attribute}>(x)", "float[N, 3, 8, 8] x", "float[N, 3, h, v] y")


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def stored(edit: Callable[[onnx.TensorProto], object]) -> onnx.ModelProto:
    """y = x + w, where w was changed."""
    return edited(graph("y = Add(x, w)", w=ones(6)), lambda m: edit(m.graph.initializer[0]))


def constant(edit: Callable[[onnx.AttributeProto], object]) -> onnx.ModelProto:
    """y = x + a Constant, whose value was changed."""
    model = graph("c = Constant() y = Add(x, c)")
    attribute = model.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(numpy_helper.from_array(ones(6)))
    return edited(model, lambda m: edit(attribute))


def relu(edit: Edit) -> onnx.ModelProto:
    """y = Relu(x), changed."""
    return edited(graph("y = Relu(x)"), edit)


def nested_ifs(depth: int) -> onnx.ModelProto:
    body = "y = Relu(x)"
    for _ in range(depth):
        body = (
            f"y = If<then_branch = t () => (float[N, 6] y) {{ {body} }}, "
            "else_branch = e () => (float[N, 6] y) { y = Identity(x) }>(yes)"
        )
    return graph(body, yes=np.array(True))


EXPONENTIAL = function("f0", "b = Relu(a)") + "".join(
    function(f"f{i + 1}", f"c = l.f{i}(a) b = l.f{i}(c)") for i in range(40)
)

IN_A_BRANCH = (
    "c = Constant<value = bool {0}>() "
    "b = If<then_branch = t () => (q) { q = l.f(a) }, else_branch = e () => (r) { r = Relu(a) }>(c)"
)


def renamed(given: onnx.FunctionProto, name: str) -> onnx.FunctionProto:
    copy = onnx.FunctionProto.FromString(given.SerializeToString())
    copy.name = name
    return copy


SPARSE = onnx.SparseTensorProto(
    values=numpy_helper.from_array(ones(2), "w"), indices=numpy_helper.from_array(ints(1, 4), "i"), dims=[6]
)

CYCLES = {
    "a function that calls itself": lambda: graph("y = l.f(x)", functions=function("f", "b = l.f(a)")),
    "functions that call each other": lambda: graph(
        "y = l.f(x)", functions=function("f", "b = l.g(a)") + function("g", "b = l.f(a)")
    ),
    "functions of 2⁴⁰ nodes": lambda: graph("y = l.f40(x)", functions=EXPONENTIAL),
    "functions of 2¹⁹ nodes": lambda: graph("y = l.f19(x)", functions=EXPONENTIAL),
    "a function that calls itself in a branch": lambda: graph("y = l.f(x)", functions=function("f", IN_A_BRANCH)),
    "more functions than ONNX takes": lambda: edited(
        graph("y = l.f(x)", functions=function("f", "b = Relu(a)")),
        lambda m: m.functions.extend(renamed(m.functions[0], f"f{i}") for i in range(10_000)),
    ),
    "a cycle": lambda: graph("h = Add(x, y) y = Relu(h)"),
    "a node that reads itself": lambda: graph("y = Add(x, y)"),
    "nodes out of order": lambda: graph("y = Relu(h) h = Relu(x)"),
    "a loop of 2⁶² steps": lambda: loop("n, more, x", n=np.int64(2**62)),
    "a loop without an end": lambda: loop(", more, x"),
}
NAMES = {
    "a missing value": lambda: graph("h = Relu(x) y = Add(h, nowhere)"),
    "a value computed twice": lambda: graph("h = Relu(x) h = Tanh(x) y = Relu(h)"),
    "a stored value computed": lambda: graph("y = Add(x, w) w = Relu(x)", w=ones(6)),
    "two stored values of one name": lambda: edited(
        graph("y = Add(x, w)", w=ones(6)), lambda m: m.graph.initializer.append(m.graph.initializer[0])
    ),
    "two inputs of one name": lambda: graph("y = Relu(x)", "float[N, 6] x, float[N, 6] x"),
    "an output that nothing computes": lambda: graph("h = Relu(x)"),
    "an output without a name": lambda: relu(lambda m: setattr(m.graph.output[0], "name", "")),
    "an input without a name": lambda: relu(lambda m: setattr(m.graph.input[0], "name", "")),
    "a node without outputs": lambda: relu(lambda m: m.graph.node.add(op_type="Relu", input=["x"])),
    "a node without inputs": lambda: relu(lambda m: m.graph.node.add(op_type="Relu", output=["q"])),
    "a node without an operator": lambda: relu(lambda m: setattr(m.graph.node[0], "op_type", "")),
    "too many inputs": lambda: graph("y = Relu(x, x, x)"),
    "too many outputs": lambda: graph("y, z, w = Relu(x)"),
    "more arguments than the function has": lambda: graph("y = l.f(x, x)", functions=function("f", "b = Relu(a)")),
    "more results than the function has": lambda: graph("y, z = l.f(x)", functions=function("f", "b = Relu(a)")),
    "a function whose result is missing": lambda: graph("y = l.f(x)", functions=function("f", "c = Relu(a)")),
    "a function twice": lambda: graph("y = l.f(x)", functions=function("f", "b = Relu(a)") * 2),
    "a function of an unknown opset": lambda: edited(
        graph("y = l.f(x)", functions=function("f", "b = Relu(a)")),
        lambda m: setattr(m.functions[0].opset_import[0], "version", 99_999),
    ),
    "an operator replaced": lambda: edited(
        graph("y = Relu(x)", functions=function("Relu", "b = Tanh(a)")), lambda m: setattr(m.functions[0], "domain", "")
    ),
    "a name that is no text": lambda: onnx.ModelProto.FromString(
        relu(lambda m: setattr(m.graph.node[0], "name", "Ω" * 9)).SerializeToString().replace("Ω".encode(), b"\xff\xfe")
    ),
}
SIZES = {
    "an input of 223 GiB": lambda: graph("y = Relu(x)", "float[N, 100000, 100000, 3] x", "float[N, a, b, c] y"),
    "an input beyond 2⁶³": lambda: graph("y = Relu(x)", "float[N, 4611686018427387904, 64] x", "float[N, a, b] y"),
    "a constant of 37 GiB": lambda: mean_of("ConstantOfShape(s)", s=ints(10**10)),
    "a constant of 4 TiB": lambda: mean_of("ConstantOfShape(s)", s=ints(10**12)),
    "34 doublings": lambda: doubled(34),
    "Expand": lambda: mean_of("Expand(h, s)", s=ints(10**10, 1, 1)),
    "a value of 2³² axes": lambda: mean_of("Expand(h, s)", "n = Size(x) s = Reshape(n, t)", t=ints(2**32)),
    "a value of ten million axes": lambda: mean_of("Reshape(h, s)", "s = Expand(n, t)", n=ints(1), t=ints(10**7)),
    "Tile": lambda: mean_of("Tile(h, s)", s=ints(1, 2 * 10**9)),
    "Resize": lambda: mean_of("Resize(h, , s)", s=np.array([1, 2e9], np.float32)),
    "Pad": lambda: mean_of("Pad(h, s)", s=ints(0, 10**10, 0, 0)),
    "Range": lambda: mean_of("Range(a, b, c)", a=np.float32(0), b=np.float32(1e12), c=np.float32(1)),
    "RandomNormal": lambda: mean_of("RandomNormal<shape: ints = [100000, 100000]>()"),
    "OneHot": lambda: mean_of("OneHot(i, s, v)", i=ints(1), s=ints(10**11), v=np.array([0, 1], np.float32)),
    "a negative size": lambda: stored(lambda t: t.dims.__setitem__(0, -6)),
    "a size that lies": lambda: stored(lambda t: t.dims.__setitem__(0, 60_000)),
    "a size that lies, terribly": lambda: stored(lambda t: t.dims.__setitem__(0, 10**12)),
    "sizes whose product overflows": lambda: stored(lambda t: t.dims.append(2**62)),
    "a zero among sizes whose product overflows": lambda: stored(
        lambda t: (t.dims.__setitem__(slice(None), [2**62, 4, 0]), t.ClearField("raw_data"))
    ),
    "text that lies": lambda: stored(
        lambda t: (t.ClearField("raw_data"), setattr(t, "data_type", 8), t.string_data.append(b"a"))
    ),
    "text in another file": lambda: stored(
        lambda t: (t.CopyFrom(placed({"location": "w"})), setattr(t, "data_type", 8))
    ),
    "a sparse weight": lambda: edited(graph("y = Add(x, w)"), lambda m: m.graph.sparse_initializer.append(SPARSE)),
    "a size that the input tells": lambda: mean_of(
        "Expand(one, size)",
        "d = Abs(x) s = ReduceMean<keepdims: int = 0>(d) t = Mul(s, many) "
        "n = Cast<to: int = 7>(t) size = Reshape(n, flat)",
        many=np.float32(1e12),
        flat=ints(1),
        one=ones(1),
    ),
    "no numbers": lambda: stored(lambda t: t.ClearField("raw_data")),
    "an unknown type": lambda: stored(lambda t: setattr(t, "data_type", 99)),
    "no type": lambda: stored(lambda t: setattr(t, "data_type", 0)),
    "bfloat16 without numbers": lambda: stored(lambda t: (setattr(t, "data_type", 16), t.ClearField("raw_data"))),
    "a Constant whose size lies": lambda: constant(lambda a: a.t.dims.__setitem__(0, 10**12)),
    "a Constant of negative size": lambda: constant(lambda a: a.t.dims.__setitem__(0, -1)),
    "a Constant of unknown type": lambda: constant(lambda a: setattr(a.t, "data_type", 99)),
    "a Constant without value": lambda: graph("c = Constant() y = Add(x, c)"),
    "a Constant of several": lambda: constant(lambda a: setattr(a, "type", onnx.AttributeProto.TENSORS)),
    "an input of unknown type": lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
    "an input of no type": lambda: relu(lambda m: m.graph.input[0].ClearField("type")),
    "an input of text": lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8)),
    "a negative input": lambda: relu(
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", -4)
    ),
    "a sparse weight of nothing": lambda: relu(lambda m: m.graph.sparse_initializer.add()),
}
ATTRIBUTES = {
    f"{operator} {attribute}": lambda make=make, attribute=attribute: make(attribute)
    for operator, make, attributes in (
        ("Conv", conv, (
            "group: int = 0", "group: int = -1", "group: int = 3", "strides: ints = [0, 0]", "strides: ints = [-1, 1]",
            "dilations: ints = [0, 0]", "dilations: ints = [1000000000, 1000000000]", "pads: ints = [-5, -5, -5, -5]",
            "pads: ints = [1000000, 1000000, 1000000, 1000000]", "pads: ints = [1]", "kernel_shape: ints = [0, 0]",
            "kernel_shape: ints = [5, 5]", "strides: ints = [1, 1, 1]", 'auto_pad: string = "WHAT"',
            "strides: float = 1.0", "pads: ints = [9223372036854775807, 0, 9223372036854775807, 0]",
        )),
        ("ConvTranspose", transposed_conv, (
            "strides: ints = [0, 0]", "strides: ints = [100000, 100000]", "output_padding: ints = [1000000000, 0]",
            "output_shape: ints = [-1, -1]", "output_shape: ints = [1000000, 1000000]", "group: int = 0",
        )),
        *((name, lambda attribute, name=name: pool(name, attribute), (
            "kernel_shape: ints = [0, 0]", "kernel_shape: ints = [-1, 2]", "kernel_shape: ints = [2]",
            "kernel_shape: ints = [2, 2], strides: ints = [0, 0]", "kernel_shape: ints = [1000000000, 1000000000]",
            "kernel_shape: ints = [2, 2], pads: ints = [9, 9, 9, 9]",
            "kernel_shape: ints = [2, 2], dilations: ints = [0, 0]",
        )) for name in ("MaxPool", "AveragePool")),
    )
    for attribute in attributes
}  # fmt: skip
OTHERS = {
    "Reshape to two open sizes": lambda: graph("h = Relu(x) y = Reshape(h, s)", s=ints(-1, -1)),
    "Transpose along a missing axis": lambda: graph("y = Transpose<perm: ints = [0, 7]>(x)"),
    "Transpose along one axis twice": lambda: graph("y = Transpose<perm: ints = [0, 0]>(x)"),
    "Transpose with an unknown attribute": lambda: graph("y = Transpose<what: int = 3>(x)"),
    "Slice in steps of 0": lambda: graph("y = Slice(x, a, b, c, d)", a=ints(0), b=ints(3), c=ints(1), d=ints(0)),
    "Gather beyond the end": lambda: graph("y = Gather<axis: int = 1>(x, i)", i=ints(0, 1, 99)),
    "Softmax along a missing axis": lambda: graph("y = Softmax<axis: int = 99>(x)"),
    "Concat along no axis": lambda: graph("y = Concat(x, x)"),
    "Cast to an unknown type": lambda: graph("h = Cast<to: int = 99>(x) y = Relu(x)"),
    "If without branches": lambda: graph("y = If(yes)", yes=np.array(True)),
    "a graph as an attribute of Relu": lambda: relu(
        lambda m: m.graph.node[0].attribute.add(name="g", type=5).g.SetInParent()
    ),
    "a sequence read beyond its end": lambda: graph(
        "s = SequenceConstruct(x, x) z = SequenceAt(s, i) y = Relu(z)", i=np.int64(99)
    ),
    "opset −1": lambda: relu(lambda m: setattr(m.opset_import[0], "version", -1)),
    "opset 2⁶²": lambda: relu(lambda m: setattr(m.opset_import[0], "version", 2**62)),
    "IR version 99": lambda: relu(lambda m: setattr(m, "ir_version", 99)),
}
REFUSED = {**CYCLES, **NAMES, **SIZES, **ATTRIBUTES, **OTHERS}
RIGHT = {
    "30 conditions one in the other": lambda: nested_ifs(30),
    "names with odd characters": lambda: relu(
        lambda m: (
            setattr(m.graph.output[0], "name", "a\nb\0/../c"),
            m.graph.node[0].output.__setitem__(0, "a\nb\0/../c"),
        )
    ),
    "a name of a million characters": lambda: relu(
        lambda m: (setattr(m.graph.output[0], "name", "a" * 10**6), m.graph.node[0].output.__setitem__(0, "a" * 10**6))
    ),
    "a chain of 300 nodes": lambda: graph(
        "h0 = Relu(x) " + " ".join(f"h{i + 1} = Relu(h{i})" for i in range(300)) + " y = Relu(h300)"
    ),
    "unused sparse and quantised things": lambda: relu(lambda m: m.graph.quantization_annotation.add()),
    "20 000 classes": lambda: graph("y = MatMul(x, w)", outputs="float[N, 20000] y", w=ones(6, 20_000)),
}
PLACES: dict[str, dict[str, str]] = {
    "an absolute path": {"location": "/etc/hostname"},
    "a path that leads up": {"location": "../secret"},
    "a path that leads up and down": {"location": "inside/../../secret"},
    "Windows' absolute path": {"location": "C:\\secret"},
    "a link out of the folder": {"location": "link"},
    "a folder that is a link": {"location": "linked/secret"},
    "a link to itself": {"location": "loop"},
    "a device": {"location": "zero"},
    "a pipe": {"location": "pipe"},
    "a folder": {"location": "inside"},
    "the folder itself": {"location": "."},
    "nowhere": {"location": ""},
    "a missing file": {"location": "missing"},
    "a name with a zero byte": {"location": "a\0b"},
    "a name of 5000 characters": {"location": "a" * 5000},
    "a negative offset": {"location": "good", "offset": "-8"},
    "an offset in words": {"location": "good", "offset": "x"},
    "an offset beyond the end": {"location": "good", "offset": "80"},
    "an offset of 30 digits": {"location": "good", "offset": "9" * 30},
    "an offset of 5000 digits": {"location": "good", "offset": "9" * 5000},
    "a negative length": {"location": "good", "length": "-1"},
    "a length in words": {"location": "good", "length": "x"},
    "a length that lies": {"location": "good", "length": "4"},
}
"""External data that are not followed; ``good`` holds 100 bytes, of which the weight takes 24."""


def placed(entries: dict[str, str]) -> onnx.TensorProto:
    """A weight of 6 numbers that is said to lie there."""
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[6])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


HOLDERS: dict[str, Callable[[onnx.TensorProto], onnx.ModelProto]] = {
    "an initializer": lambda w: stored(lambda t: t.CopyFrom(w)),
    "a Constant": lambda w: constant(lambda a: a.t.CopyFrom(w)),
    "a function": lambda w: edited(
        graph("y = l.f(x)", functions=function("f", "c = Constant() b = Add(a, c)")),
        lambda m: m.functions[0].node[0].attribute.add(name="value", type=4).t.CopyFrom(w),
    ),
}
