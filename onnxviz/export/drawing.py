"""The graph of an exported file: cut out of the explainable one, with inputs and outputs of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxviz.engine.asked import RESULT
from onnxviz.engine.cut import Sketch, cut
from onnxviz.errors import OptionError
from onnxviz.export.plan import Architect, Plan
from onnxviz.export.samples import Samples, samples_of
from onnxviz.image import ImageInput
from onnxviz.manifest import Dim, Input, Layer, Output, seed_name

IMAGE, PIXELS, CLASS, PREDICTION, MAP = "image", "pixels", "class", "prediction", "map"
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, of red, green and blue."""

Shape = tuple[Dim, ...]
_INNER = "export/"


@dataclass
class Drawing:
    """A graph under construction.

    Attributes:
        architect: who drew the question's graph.
        plan: what the file computes.
        sketch: the graph.
        names: value of the graph → its name as an input or output of the file.
        shapes: sizes of the outputs, where they are known beforehand.
        entrance: the nodes between the file's inputs and the model's.
        samples: the variants of the input, where the method has some.
    """

    architect: Architect
    plan: Plan
    sketch: Sketch
    names: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    entrance: list[onnx.NodeProto] = field(default_factory=list)
    samples: Samples | None = None
    varied: str = ""

    def enter(self, op_type: str, *inputs: Any, **attributes: Any) -> str:
        """Append a node to the entrance."""
        return self.sketch.add(op_type, *inputs, into=self.entrance, **attributes)

    def input(self, name: str, public: str, dtype: int, shape: Sequence[Dim]) -> str:
        """Declare an input of the file."""
        self.names[name] = public
        return self.sketch.input(name, dtype, shape)

    def output(self, value: str, public: str, shape: Shape | None) -> None:
        """Make a value an output of the file."""
        self.names[f"{_INNER}{public}"] = public
        if shape is not None:
            self.shapes[public] = shape
        self.sketch.output(value, f"{_INNER}{public}")

    def own(self, value: str, axis: int | None) -> str:
        """Of a value its part that is of the inputs themselves, and not of their variants."""
        if self.samples is None:
            return value
        if axis is None:
            raise OptionError(
                f"{self.plan.method} runs its variants of the input as further samples, and {value!r} has no axis that "
                f"counts the samples one by one"
            )
        return self.samples.first(self.sketch.add, value, axis, self.varied)


def drawn(architect: Architect, plan: Plan) -> Drawing:
    """The graph of a plan."""
    values = [plan.output.value, *(layer.value for layer in plan.layers)]
    sketch = cut(architect.graph, values) if plan.asked is None else architect.drawn(plan.asked, values)
    drawing = Drawing(architect, plan, sketch)
    if plan.sampled:
        at = next(t for t in architect.bundle.manifest.inputs if t.has_gradient)
        drawing.samples = samples_of(plan, at)
    for tensor in architect.bundle.manifest.inputs:
        if tensor.name in sketch.inputs:
            _enter(drawing, tensor)
    if plan.asked is not None:
        _seed(drawing)
    sketch.forward[:0] = drawing.entrance
    sketch.outputs.clear()
    drawing.output(drawing.own(plan.output.value, _batch_axis(plan.output)), PREDICTION, plan.output.shape)
    if plan.asked is not None:
        drawing.output(_map(drawing), MAP, plan.map_shape)
    for layer in plan.layers:
        if layer.name in drawing.names.values():
            raise OptionError(f"layer {layer.name!r} has the name of an input or output of the file")
        drawing.output(drawing.own(layer.value, _batch_axis(layer)), layer.name, layer.shape)
    return drawing


def _batch_axis(tensor: Output | Layer) -> int | None:
    return tensor.axes.batch if tensor.per_sample == 1 else None


# ----- inputs -----


def _enter(drawing: Drawing, tensor: Input) -> None:
    """From an input of the file to one of the model: prepared from pixels, and with its variants behind it."""
    plan, samples, sketch = drawing.plan, drawing.samples, drawing.sketch
    info = sketch.inputs.pop(tensor.name)
    public = tensor.name if plan.image is None or tensor.name != plan.image.name else IMAGE
    varies = samples is not None and tensor.axes.batch == 0
    if public == IMAGE and plan.pixels is not None:
        given = _prepared(drawing, plan.pixels, tensor)
    elif varies:
        dtype = info.type.tensor_type.elem_type
        given = drawing.input(f"{_INNER}{public}", public, dtype, tensor.shape)
    else:
        drawing.input(tensor.name, public, info.type.tensor_type.elem_type, tensor.shape)
        return
    if samples is not None and varies:
        if tensor.name == samples.at.name:
            drawing.varied, given = given, samples.spread(drawing.enter, given)
        else:
            given = samples.repeated(drawing.enter, given, len(tensor.shape))
    drawing.entrance.append(helper.make_node("Identity", [given], [tensor.name], name=f"{_INNER}{tensor.name}/ready"))


def _prepared(drawing: Drawing, image: ImageInput, tensor: Input) -> str:
    """Pixels (N, H, W, 3 or 4) of the network's size as it takes them; what :meth:`ImageInput.encode` does."""
    enter, dtype = drawing.enter, drawing.architect.element_type(tensor.name)
    height, width = (tensor.shape[axis] for axis in sorted(tensor.axes.spatial))
    sizes = [tensor.shape[tensor.axes.batch] if tensor.axes.batch is not None else 1, height, width, "channels"]
    pixels = drawing.input(f"{_INNER}{PIXELS}", PIXELS, onnx.TensorProto.UINT8, sizes)
    order = np.array([2, 1, 0] if image.channels == "BGR" else [0, 1, 2])
    x = enter("Cast", enter("Gather", pixels, order, axis=3), to=onnx.TensorProto.FLOAT)
    if image.channels == "L":
        weighted = enter("Mul", x, LUMA)
        x = enter("Round", enter("ReduceSum", weighted, np.array([3]), keepdims=1))
    x = enter("Mul", x, np.array(image.scale, np.float32))
    x = enter("Div", enter("Sub", x, np.array(image.mean, np.float32)), np.array(image.std, np.float32))
    if image.layout == "NCHW":
        x = enter("Transpose", x, perm=[0, 3, 1, 2])
    return x if dtype == onnx.TensorProto.FLOAT else enter("Cast", x, to=dtype)


# ----- the target -----


def _seed(drawing: Drawing) -> None:
    """Compute the seed: a constant, or one at the class that is given or on top."""
    asked, sketch, nodes = drawing.plan.asked, drawing.sketch, list[onnx.NodeProto]()
    assert asked is not None
    name = f"{seed_name(asked.output.name)}#given"
    sketch.inputs.pop(name)

    def add(op_type: str, *inputs: Any, **attributes: Any) -> str:
        return sketch.add(op_type, *inputs, into=nodes, **attributes)

    if asked.target.seeds is not None:
        seed = sketch.constant(asked.target.seeds[0])
    else:
        seed = _of_class(drawing, asked.output, add)
        if drawing.samples is not None:
            seed = drawing.samples.repeated(add, seed, len(asked.output.logits_shape))
    nodes.append(helper.make_node("Identity", [seed], [name], name=name))
    sketch.seeding[:0] = nodes


def _of_class(drawing: Drawing, output: Output, add: Callable[..., str]) -> str:
    """One at a class of each sample, (N, 1 …, classes, 1 …); of a single unit the sign of its decision."""
    shape, axis = output.logits_shape, output.logits_axes.channel
    rank, dtype, logits = len(shape), drawing.architect.element_type(output.logits), output.logits
    if drawing.samples is not None:
        logits = drawing.samples.first(add, logits, 0, drawing.varied)
    if others := [i for i in range(1, rank) if i != axis]:
        logits = add("ReduceSum", logits, np.array(others), keepdims=1)
    single = axis is None or shape[axis] == 1
    best = add("Sign", logits) if axis is None or single else add("ArgMax", logits, axis=axis, keepdims=1)
    if drawing.plan.target is not None:
        index = drawing.input(f"{_INNER}{CLASS}", CLASS, onnx.TensorProto.INT64, [shape[0]])
        given = add("Reshape", index, np.array([-1, *[1] * (rank - 1)]))
        fixed = add("Cast", np.array(1, np.float32), to=dtype) if single else given
        best = add("Where", add("Less", given, np.array(0, np.int64)), best, fixed)
    if single or axis is None:
        return best
    count = shape[axis]
    assert isinstance(count, int)  # the target was resolved
    classes = np.arange(count).reshape([-1 if i == axis else 1 for i in range(rank)])
    return add("Cast", add("Equal", best, classes), to=dtype)


# ----- the map -----


def _map(drawing: Drawing) -> str:
    add, samples = drawing.sketch.add, drawing.samples
    result = RESULT if samples is None else samples.gathered(add, RESULT, drawing.varied)
    if not drawing.plan.normalize:
        return result
    flat = add("Flatten", result, axis=1)
    largest = add("ReduceMax", add("Abs", flat), np.array([1]), keepdims=1)
    nothing = add("CastLike", np.array(0, np.float32), largest)
    whole = add("Where", add("Equal", largest, nothing), add("CastLike", np.array(1, np.float32), largest), largest)
    return add("Reshape", add("Div", flat, whole), add("Shape", result))
