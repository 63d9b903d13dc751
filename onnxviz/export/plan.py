"""What an exported file computes, and what the methods ask the engine for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from onnxviz.algorithms.gradients import BACKWARD
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.registry import METHODS, explain_by_name
from onnxviz.engine.asked import Asked, Head
from onnxviz.engine.core import Engine
from onnxviz.engine.cut import Sketch, cut
from onnxviz.engine.graphs import closed, element_type
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.optimizations import chosen
from onnxviz.engine.targets import Of, choose_output
from onnxviz.errors import OptionError, TargetError, nearest
from onnxviz.image import ImageInput
from onnxviz.manifest import Dim, Input, Layer, Manifest, Output, Tensor, seed_name
from onnxviz.source import Array

CLASS_INPUT = "input"
"""The target that is an input of the file."""

CAMS = ("grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "xgrad_cam")
SINGLE = ("gradient", "saliency", "input_x_gradient", "guided_backprop", "deconvnet", *CAMS)
"""The methods that are one run of one graph."""

SAMPLED = ("smooth_grad", "integrated_gradients")
"""Those that average over variants of the input, which an exported file has as further samples of the batch."""


@dataclass(frozen=True)
class Plan:
    """What an exported file computes.

    Attributes:
        method: whose map; None for the forward pass alone.
        options: of the method, all of them.
        asked: the gradient, or what is made of it, that the method reads; None for the forward pass alone.
        at: the input or layer whose gradient that is.
        output: the model's output that is the prediction.
        image: the input that the file calls an image; None where the model takes no image.
        pixels: how the image is prepared from pixels in the file; None where it is fed prepared.
        target: the score's target as it was given; ``"input"`` where the file takes the class.
        layers: whose values the file gives, too.
        normalize: whether maps are divided by their largest absolute value.
    """

    method: str | None
    options: Mapping[str, Any]
    asked: Asked | None
    at: Tensor | None
    output: Output
    image: Input | None
    pixels: ImageInput | None
    target: Any
    layers: tuple[Layer, ...]
    normalize: bool

    @property
    def sampled(self) -> bool:
        """Whether the map is an average over variants of the input."""
        return self.method in SAMPLED

    @property
    def map_shape(self) -> tuple[Dim, ...] | None:
        """The sizes of the map where it is like what the gradient is taken of; None where it is not."""
        if self.at is None or self.method in CAMS:
            return None
        if self.method == "saliency" and self.options["reduce"] is not None and self.at.axes.spatial:
            return tuple(size for i, size in enumerate(self.at.shape) if i != self.at.axes.channel)
        return self.at.shape


class Architect(Engine):
    """Another's engine that computes nothing: it hears what a method asks, and draws the graph of the answer."""

    def __init__(self, engine: Engine) -> None:
        vars(self).update(vars(engine))

    def attribute(
        self,
        feeds: Mapping[str, Array],  # noqa: ARG002 - as the base has it
        batch: int,
        target: Any,
        head: Head,
        *,
        output: Output,
        of: Of = "logits",
        overlay: str | None = None,
        batch_axis: int = 0,
        weights: Array | None = None,  # noqa: ARG002 - as the base has it
    ) -> NoReturn:
        """Give what is asked to :meth:`heard` instead of an answer."""
        raise _HeardError(Asked.of_user(target, batch, head, output, of, overlay), batch_axis)

    def heard(self, question: Question, method: str, options: Mapping[str, Any]) -> tuple[Asked, int]:
        """What a method asks first, and the axis of the result that is the batch; raises as the method does."""
        try:
            explain_by_name(question, method, dict(options))
        except _HeardError as heard:
            return heard.asked, heard.batch_axis
        raise AssertionError(f"{method} asks nothing of the engine")

    def drawn(self, asked: Asked, values: Sequence[str]) -> Sketch:
        """The graph of one question, whose seed is an input, and of some values of the forward pass."""
        wanted = [*asked.head.reads, asked.output.logits, *values]
        sketch = cut(self.graph, wanted, live=[seed_name(asked.output.name)])
        sketch, _ = closed(sketch, asked, top=False)
        for optimization in chosen(optimize=True, plain=False):
            optimization.rewrite(sketch)
        return sketch

    def element_type(self, value: str) -> int:
        """ONNX's number of a value's element type."""
        return element_type(self.graph, value)


class _HeardError(Exception):
    def __init__(self, asked: Asked, batch_axis: int) -> None:
        super().__init__(asked, batch_axis)
        self.asked, self.batch_axis = asked, batch_axis


def planned(
    architect: Architect,
    method: str | None,
    target: Any,
    *,
    of: Of,
    output: str | None,
    layers: Sequence[str | int],
    pixels: bool,
    normalize: bool,
    options: Mapping[str, Any],
) -> Plan:
    """The plan of a file; arguments and errors are those of :meth:`onnxviz.Explainer.export`."""
    manifest = architect.bundle.manifest
    table = LayerTable(manifest.layers)
    kept = tuple(table[layer] for layer in ([layers] if isinstance(layers, str | int) else layers))
    image = _image(manifest)
    asked, every = None, dict(options)
    if method is not None:
        every = _options(method, options)
        asked = _asked(architect, method, None if _is_input(target) else target, of, output, every, normalize)
    elif options or target is not None or normalize:
        given = next(iter(options), "target" if target is not None else "normalize")
        raise OptionError(f"{given} belongs to a method, and method=None is the prediction without a map")
    chosen_output = choose_output(manifest, output) if asked else _any_output(manifest, output)
    prepared = _preparation(image) if pixels else None
    tensors = {t.value: t for t in (*reversed(manifest.layers), *manifest.inputs)}
    at = None if asked is None else tensors[asked.head.at]
    return Plan(method, every, asked, at, chosen_output, image, prepared, target, kept, normalize)


def _is_input(target: Any) -> bool:
    if isinstance(target, str) and target != CLASS_INPUT:
        raise TargetError(
            f"target={target!r}: expected a class, a weighting, None for the class on top, or {CLASS_INPUT!r} for a "
            f"file that takes the class"
        )
    return isinstance(target, str)


def _options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method, those that were not given with their defaults."""
    if method not in METHODS:
        raise OptionError(
            f"there is no method {method!r}; for a file: {', '.join((*SINGLE, *SAMPLED))}{nearest(method, METHODS)}"
        )
    if method not in SINGLE + SAMPLED:
        raise OptionError(
            f"{method} is more than one graph can say: it runs the network again for what a run before has found. A "
            f"file can have {', '.join((*SINGLE, *SAMPLED))}"
        )
    if isinstance(options.get("layer"), list | tuple):
        raise OptionError(f"layer={options['layer']!r}: a file has one map; export one for each layer")
    return {**METHODS[method].options, **options}


def _asked(
    architect: Architect,
    method: str,
    target: Any,
    of: Of,
    output: str | None,
    options: Mapping[str, Any],
    normalize: bool,  # noqa: FBT001 - passed on as it came
) -> Asked:
    """What a method asks of the engine; of one that averages, the gradient that it averages."""
    manifest = architect.bundle.manifest
    question = Question(architect, _example(manifest), target, output, of)
    asked, batch_axis = architect.heard(question, method, options)
    if asked.target.several:
        raise TargetError(
            f"target={target!r}: a file has one map per sample. Export it with target={CLASS_INPUT!r}, and run it for "
            f"each class"
        )
    if normalize and batch_axis != 0:
        raise OptionError(f"normalize=True: axis {batch_axis} of this map counts the samples, and axis 0 is needed")
    if method not in SAMPLED:
        return asked
    if manifest.static_batch or any(t.axes.batch != 0 and t.name == question.input().name for t in manifest.inputs):
        raise OptionError(
            f"{method} runs its variants of the input as further samples, and this file takes "
            f"{manifest.static_batch or 'no batch'} of them: convert the model with a free batch"
        )
    around = options.get("around", "gradient")
    assert around in BACKWARD  # the method has looked
    return architect.heard(question, around, {})[0]


def _example(manifest: Manifest) -> dict[str, Array]:
    """Inputs of the example's sizes; what they hold does not matter."""

    def size(dim: int | str | None) -> int:
        return dim if isinstance(dim, int) else manifest.sizes.get(dim or "", manifest.static_batch or 1)

    return {t.name: np.zeros([size(dim) for dim in t.shape], t.dtype) for t in manifest.inputs}


def _image(manifest: Manifest) -> Input | None:
    """The input that is an image: described as one, or the only one with two spatial axes."""
    flat = [t for t in manifest.inputs if t.image is not None] or [
        t for t in manifest.inputs if len(t.axes.spatial) == 2 and t.axes.channel is not None
    ]
    return flat[0] if len(flat) == 1 else None


def _any_output(manifest: Manifest, name: str | None) -> Output:
    outputs = {o.name: o for o in manifest.outputs}
    if name is not None and name not in outputs:
        raise TargetError(f"there is no output {name!r}; outputs: {', '.join(outputs)}{nearest(name, outputs)}")
    return manifest.outputs[0] if name is None else outputs[name]


def _preparation(image: Input | None) -> ImageInput:
    if image is None or image.image is None:
        raise OptionError(
            "pixels=True puts the preparation of pictures into the file, and this one does not say how pictures are "
            "prepared: give convert(…, input=onnxviz.ImageInput(…))"
        )
    return ImageInput.from_dict(image.image)
