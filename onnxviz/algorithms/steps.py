"""One step of gradient ascent as a graph: from the numbers that stand for the images to those after the step.

Numbers → images → transformations → network → score and gradient → adjoints of the transformations → less the slopes of
the penalties → gradient of the numbers → rule → bounds. What goes from step to step are outputs that are fed again, so
that they stay on the device; what leaves it are scores and energies, a few numbers for each image.

All is float32 as the images are, except the rule, whose squares are float64, and the places of a resampling. The
longest sums beside the network's are the spectrum's, of n terms for an axis of n places: from the same numbers, a step
differs from one in exact arithmetic by at most about n·2⁻²³ of the largest value. What a network makes of that later is
its own: at the kinks of rectifiers and pools a difference may grow, as it does between any two correct programs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxviz.algorithms.canvas import Add, Canvas
from onnxviz.algorithms.objectives import Objective
from onnxviz.algorithms.parameterization import Parameterization, Units
from onnxviz.algorithms.regularizers import Penalty, PenaltyHead, ProjectionHead
from onnxviz.algorithms.rules import CORRECTIONS, RATE, Rule
from onnxviz.algorithms.tiles import CHOSEN, RETURNS, Tiles
from onnxviz.algorithms.transforms import MATRIX, ROLL, ROLL_END, UNROLL, UNROLL_END, Adjoint, Transforms
from onnxviz.engine.cut import Graph, Sketch
from onnxviz.engine.targets import SCORE
from onnxviz.manifest import Input, grad_name
from onnxviz.source import Array

NUMBERS, IMAGES, SCORES, ENERGIES = "ascent/numbers", "ascent/images", "ascent/scores", "ascent/energies"
"""State and results: numbers and images (N, …); scores (N,); energies (1 + penalties + 1, N), float64, the sums of
squares of the network's gradient, of each penalty's and of the numbers: 0 where all are 0, finite where all are."""

GRADIENT, SQUARES = "ascent/gradient", "ascent/squares"
"""What the runs before found of a picture whose tiles take several: its gradient (1, …), the score's square (1,)."""

SMALL = {MATRIX: TensorProto.DOUBLE, RATE: TensorProto.DOUBLE, CORRECTIONS: TensorProto.DOUBLE} | dict.fromkeys(
    (ROLL, ROLL_END, UNROLL, UNROLL_END, CHOSEN, RETURNS), TensorProto.INT64
)
"""The small tensors that are fed at a step, where its nodes read them."""


def pull_name(index: int) -> str:
    """The input that holds the slope of a penalty that is no graph."""
    return f"ascent/pull/{index}"


def after(name: str) -> str:
    """The output that is fed as this input at the next step."""
    return f"{name}/after"


@dataclass(frozen=True)
class Steps:
    """What a step is made of; see :class:`onnxviz.algorithms.ascent.Ascent`.

    Attributes:
        tensor: the model's input that is changed.
        units: of the images.
        canvas: of the images.
        parameterization: of the images.
        rule: of the steps.
        penalties: in order.
        transforms: that the network sees the images through.
        tiles: in which the network sees a picture (1, …), whose score is the root of the sum of the tiles' scores;
            None where it sees the images as they are.
    """

    tensor: Input
    units: Units
    canvas: Canvas
    parameterization: Parameterization
    rule: Rule
    penalties: tuple[Penalty | PenaltyHead, ...]
    transforms: Transforms
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        self.transforms.maps(self.canvas)  # refuses what cannot be done

    def draws(self, steps: int, random: np.random.Generator) -> list[Mapping[str, Array]]:
        """What the transformations are fed at each of so many steps."""
        return [self.transforms.draw(random, self.canvas) for _ in range(steps)]

    def key(self, objective: Objective) -> Hashable:
        """Equal for equal graphs."""
        penalties = tuple(one if isinstance(one, PenaltyHead) else None for one in self.penalties)
        seen = self.transforms.jitter, self.transforms.resamples, self.tiles
        return "ascent", objective.key, self.parameterization.key, self.canvas, self.rule.name, penalties, seen

    def step(self, objective: Objective, *, carried: bool) -> Sketch:
        """The graph of a step; with ``carried`` its gradient and score are those of the last tiles, to be added."""
        sketch, images, adjoints = self._shown(objective)
        add: Add = sketch.add
        gradient, score = self._found(sketch, carried=carried)
        score = score if self.tiles is None else add("Sqrt", score)
        for adjoint in reversed(adjoints):
            gradient = adjoint(add, gradient)
        energies = [self._energy(add, gradient)]
        for index, penalty in enumerate(self.penalties):
            if isinstance(penalty, PenaltyHead):
                pull = penalty.slope(add, images, self.canvas)
            else:
                pull = _images(sketch, pull_name(index), self.canvas)
            energies.append(self._energy(add, pull))
            gradient = add("Sub", gradient, pull)
        for name in self.rule.moments:
            _images(sketch, name, self.canvas, TensorProto.DOUBLE)
        move, moments = self.rule.move(add, self.parameterization.pull(add, images, gradient), self.canvas)
        numbers = add("Add", NUMBERS, move)
        energies.append(self._energy(add, numbers))
        if self.parameterization.bounded:
            numbers = self.parameterization.encode(add, self.parameterization.decode(add, numbers))
        results = {IMAGES: images, SCORES: score, ENERGIES: add("Concat", *energies, axis=0), after(NUMBERS): numbers}
        return _finished(sketch, results | {after(name): value for name, value in moments.items()})

    def look(self, objective: Objective) -> Sketch:
        """The graph of a run before a step's last, of a picture whose tiles take several."""
        sketch, _, _ = self._shown(objective)
        gradient, squares = self._found(sketch, carried=True)
        return _finished(sketch, {after(GRADIENT): gradient, after(SQUARES): squares})

    def _shown(self, objective: Objective) -> tuple[Sketch, str, Sequence[Adjoint]]:
        """The network's graph with its input computed: also the images, and the adjoints of the transformations."""
        sketch = objective.build()
        sketch.outputs.clear()
        nodes: list[onnx.NodeProto] = []
        add: Add = partial(sketch.add, into=nodes)
        images = self.parameterization.decode(add, _images(sketch, NUMBERS, self.canvas))
        seen, adjoints = images, []
        for map in self.transforms.maps(self.canvas):
            seen, adjoint = map.apply(add, seen)
            adjoints.append(adjoint)
        seen = seen if self.tiles is None else self.tiles.cut(add, seen)
        there = add("Transpose", seen, perm=[int(axis) for axis in np.argsort(self.canvas.order)])
        x = add("Add", add("Mul", there, self.units.gain), self.units.offset)
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(self.tensor.dtype))
        x = x if dtype == TensorProto.FLOAT else add("Cast", x, to=dtype)
        sketch.inputs.pop(self.tensor.name, None)
        sketch.forward[:0] = [*nodes, helper.make_node("Identity", [x], [self.tensor.name], name=self.tensor.name)]
        return sketch, images, adjoints

    def _found(self, sketch: Sketch, *, carried: bool) -> tuple[str, str]:
        """The gradient with respect to the transformed images, and the scores, or what tiles have of them so far."""
        add: Add = sketch.add
        x = add("Cast", grad_name(self.tensor.value), to=TensorProto.FLOAT)
        gradient = add("Transpose", add("Mul", x, self.units.gain), perm=list(self.canvas.order))
        score = add("Cast", SCORE, to=TensorProto.FLOAT)
        if self.tiles is not None:
            gradient = self.tiles.join(add, gradient)
            score = add("ReduceSum", self.tiles.returned(add, score), np.array([0]), keepdims=1)
        if carried:
            gradient = add("Add", gradient, _images(sketch, GRADIENT, self.canvas))
            score = add("Add", score, sketch.input(SQUARES, TensorProto.FLOAT, [1]))
        return gradient, score

    def _energy(self, add: Add, values: str) -> str:
        """(1, N)."""
        wide = add("Cast", values, to=TensorProto.DOUBLE)
        squares = add("ReduceSumSquare", wide, np.arange(1, len(self.canvas.order)), keepdims=0)
        return add("Unsqueeze", squares, np.array([0]))

    # ----- what is done to the numbers beside steps -----

    def decoding(self, graph: Graph) -> Sketch:
        """The graph from numbers to images."""
        sketch = Sketch(graph)
        images = self.parameterization.decode(sketch.add, _images(sketch, NUMBERS, self.canvas))
        return _finished(sketch, {IMAGES: images})

    def encoding(self, graph: Graph) -> Sketch:
        """The graph from images to numbers."""
        sketch = Sketch(graph)
        numbers = self.parameterization.encode(sketch.add, _images(sketch, IMAGES, self.canvas))
        return _finished(sketch, {NUMBERS: numbers})

    def projecting(self, graph: Graph, projection: ProjectionHead) -> Sketch:
        """The graph from numbers to those of the images that a projection makes of theirs."""
        sketch = Sketch(graph)
        images = self.parameterization.decode(sketch.add, _images(sketch, NUMBERS, self.canvas))
        images = projection.replacement(sketch.add, images, self.canvas)
        return _finished(sketch, {after(NUMBERS): self.parameterization.encode(sketch.add, images)})


def _images(sketch: Sketch, name: str, canvas: Canvas, dtype: int = TensorProto.FLOAT) -> str:
    return sketch.input(name, dtype, ["images", *canvas.shape])


def _finished(sketch: Sketch, results: dict[str, str]) -> Sketch:
    for called, name in results.items():
        sketch.output(name, called)
    read = {name for node in (*sketch.forward, *sketch.closing) for name in node.input}
    for name in sorted(SMALL.keys() & read):
        sketch.input(name, SMALL[name], None)
    return sketch
