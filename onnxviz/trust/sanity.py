"""Sanity checks of explanations: does a map change when the network forgets what it learned?

Adebayo 2018 (arXiv:1810.03292), section 3: a map that stays as it is when weights are random cannot tell of what the
network learned. It is an edge detector of the picture. Guided backprop is the paper's example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from onnxviz.algorithms import METHODS, explain_by_name
from onnxviz.algorithms.question import Question
from onnxviz.arguments import checked
from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import opened
from onnxviz.engine.targets import Of
from onnxviz.errors import LayerError, OptionError, nearest
from onnxviz.explanation import Explanation
from onnxviz.trust.names import Names, with_options
from onnxviz.trust.similarity import MEASURES
from onnxviz.trust.weights import Weighted, randomised, weighted_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxviz.engine.explainer import Explainer

Order = Literal["cascading", "independent"]
ORDERS: tuple[Order, ...] = ("cascading", "independent")
DEFAULT_METHODS = ("gradient", "input_x_gradient", "guided_backprop", "grad_cam")
INSENSITIVE = 0.8
"""A mean similarity from which on a method counts as insensitive. Gradients of ReLU networks come to 0.4, guided
backprop to more than 0.9; the paper names no limit."""
ROWS = 12
"""Layers that are printed at most."""


@dataclass(frozen=True, eq=False, repr=False)
class SanityCheck:
    """How alike maps stay to the original ones while a network's weights become random, layer by layer.

    Attributes:
        layers: those at which maps were made, from the output to the input.
        depths: the share of the layers with weights that lie above each of them, itself included, 0 … 1.
        similarity: order → method → measure → (layers, samples): of the map with that layer's weights random
            (``"independent"``), or that layer's and all of those before it in the list (``"cascading"``), to the
            original. Measures: see :mod:`onnxviz.trust.similarity`; 1 is the same, 0 unlike.
        target: what was explained, of the original network.
        seed: of the random orders.
        notes: methods that were left out, and why.
    """

    layers: tuple[str, ...]
    depths: tuple[float, ...]
    similarity: Mapping[str, Mapping[str, Mapping[str, npt.NDArray[np.float64]]]]
    target: npt.NDArray[Any] | None
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that were checked."""
        return tuple(next(iter(self.similarity.values())))

    @checked
    def insensitivity(self, method: str) -> float:
        """The mean rank correlation (of absolute values) with the original map while the upper half becomes random.

        Over the cascade's steps down to half of the layers with weights, at least one, and over all samples.

        Raises:
            OptionError: there is no such method, or the cascade was not computed.
        """
        if method not in self.methods:
            raise OptionError(f"{method!r} was not checked; methods: {', '.join(self.methods)}")
        if "cascading" not in self.similarity:
            raise OptionError("the verdict is on cascading randomisation: ask for it, orders=('cascading', …)")
        curve = self.similarity["cascading"][method]["spearman"]
        return float(curve[: max(1, sum(depth <= 0.5 for depth in self.depths))].mean())

    @property
    def passed(self) -> dict[str, bool]:
        """Method → whether its :meth:`insensitivity` lies below 0.8: whether its maps depend on the upper layers."""
        return {method: self.insensitivity(method) < INSENSITIVE for method in self.methods}

    @checked
    def plot(self, measure: str = "spearman") -> Figure:
        """Similarity over the layers, a panel for each order and a curve for each method: mean and range of samples.

        Raises:
            OptionError: there is no such measure.
        """
        if measure not in MEASURES:
            raise OptionError(f"measure={measure!r}: expected one of {', '.join(MEASURES)}")
        from onnxviz.plot.curves import draw_curves

        panels = {
            order: {method: found[measure] for method, found in methods.items()}
            for order, methods in self.similarity.items()
        }
        return draw_curves(panels, self.layers, label=f"similarity to the original map ({measure})", low=min(
            0.0, *(float(curve.min()) for curves in panels.values() for curve in curves.values())
        ))  # fmt: skip

    def __repr__(self) -> str:
        order = next(iter(self.similarity))
        shown = np.unique(np.linspace(0, len(self.layers) - 1, min(ROWS, len(self.layers))).round().astype(int))
        upto = "random down to" if order == "cascading" else "random"
        rows = [[upto, *self.methods]]
        for i in shown:
            means = (self.similarity[order][method]["spearman"][i].mean() for method in self.methods)
            rows.append([self.layers[i], *(f"{mean:.2f}" for mean in means)])
        if "cascading" in self.similarity:
            passed = self.passed
            rows.append(["depends on the weights", *("yes" if passed[method] else "NO" for method in self.methods)])
        widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
        head = f"SanityCheck: rank correlation with the original maps, {order} randomisation, seed {self.seed}"
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([head, *lines, *self.notes])


@checked
def sanity_check(
    ex: Explainer,
    x: Any,
    target: Any = None,
    *,
    methods: Names | None = None,
    layers: Sequence[str] | int | None = None,
    orders: Sequence[Order] = ORDERS,
    of: Of = "logits",
    output: str | None = None,
    seed: int = 0,
) -> SanityCheck:
    """Whether maps depend on what the network learned: its weights become random, layer by layer (Adebayo 2018).

    All comes from the file; nothing is written. A layer's weights become random by shuffling each of its arrays. In the
    ``"cascading"`` order the output's layer comes first and stays random, then the next towards the input (section 3.1
    of arXiv:1810.03292); in the ``"independent"`` order one layer at a time is random (section 3.2). The class is that
    of the original network throughout. Beside the sessions of two engines it holds what is random once.

    Args:
        ex: the network.
        x: a batch, a few samples: see :class:`onnxviz.Explainer`.
        target: what is explained; None is the original network's class on top of each sample.
        methods: names, or a mapping from names to their options. None is gradient, input_x_gradient, guided_backprop
            and grad_cam, as far as the network has them; the result's notes name what it has not.
        layers: at which maps are made: names, or a number of layers, evenly spread. In the cascade all weights down to
            each of them are random. None is all that learned something; fewer take less time.
        orders: ``"cascading"``, ``"independent"`` or both. The verdict is on the first.
        of: see :class:`onnxviz.Explainer`.
        output: see :class:`onnxviz.Explainer`.
        seed: of the shuffling.

    Raises:
        LayerError: a layer that is not there or learned nothing, or a network that learned nothing.
        OptionError: a method, option or order that is not there.
    """
    question = Question(ex.engine, opened(x, ex.engine.bundle.manifest)[0], target, output, of)
    groups = _chosen(ex.engine, layers)
    chosen = with_options("method", DEFAULT_METHODS if methods is None else methods, METHODS)
    if unknown := [order for order in orders if order not in ORDERS] or not orders:
        raise OptionError(f"orders={orders!r}: expected some of {', '.join(ORDERS)}; {unknown!r} is none")
    settled, answer = question.settled()
    fixed = question.about(settled)
    originals, notes = _originals(fixed, chosen, strict=methods is not None)
    similarity: dict[str, dict[str, dict[str, list[Any]]]] = {
        order: {method: {measure: [] for measure in MEASURES} for method in originals} for order in orders
    }
    for order, random in _stages(groups, orders):
        engine = randomised(ex.engine, random, seed)
        for method, original in originals.items():
            changed = explain_by_name(_asked_of(engine, fixed), method, chosen[method])
            for measure, values in _compared(original, changed).items():
                similarity[order][method][measure].append(values)
        engine.close()
        del engine  # before the next one is made, with weights of its own
    found = {
        order: {method: {name: np.array(rows) for name, rows in measured.items()} for method, measured in each.items()}
        for order, each in similarity.items()
    }
    depths = tuple(len(above) / len(weighted_layers(ex.engine)) for _, above, _ in groups)
    return SanityCheck(tuple(layer for layer, _, _ in groups), depths, found, answer.target, seed, notes)


Stage = tuple[str, tuple[Weighted, ...], tuple[Weighted, ...]]
"""A layer, what is random there in the cascade, and its own weights."""


def _chosen(engine: Engine, layers: Sequence[str] | int | None) -> list[Stage]:
    """From the output to the input."""
    groups = weighted_layers(engine)[::-1]
    names = [group.layer for group in groups]
    if not groups:
        raise LayerError("this network has no learned weights that could be randomised")
    if isinstance(layers, int) and not isinstance(layers, bool) and layers > 0:
        layers = [names[i] for i in np.linspace(0, len(names) - 1, min(layers, len(names))).round().astype(int)]
    elif layers is not None and (isinstance(layers, int) or not layers):
        raise OptionError(f"layers={layers!r}: expected a list of names, a positive number, or None for all")
    for layer in layers or ():
        if layer not in names:
            raise LayerError(
                f"layer {layer!r} is not there, or has no weights of its own that could be randomised"
                f"{nearest(str(layer), names) or '; those that have: ' + ', '.join(names)}"
            )
    wanted = names if layers is None else layers
    return [(group.layer, groups[: i + 1], (group,)) for i, group in enumerate(groups) if group.layer in wanted]


def _originals(
    question: Question, chosen: Mapping[str, dict[str, Any]], *, strict: bool
) -> tuple[dict[str, Explanation], tuple[str, ...]]:
    """The maps of the network as it is; methods that it has not are an error, or unless ``strict`` a note."""
    found: dict[str, Explanation] = {}
    notes: list[str] = []
    for method, options in chosen.items():
        try:
            found[method] = explain_by_name(question, method, options)
        except LayerError as error:
            if strict or len(notes) + 1 == len(chosen):
                raise
            notes.append(f"{method} was left out: {error}")
    return found, tuple(notes)


def _stages(groups: Sequence[Stage], orders: Sequence[Order]) -> Iterator[tuple[Order, tuple[Weighted, ...]]]:
    stages = [(order, above if order == "cascading" else own) for order in orders for _, above, own in groups]
    return iter(tqdm(stages, delay=2, disable=None, leave=False, unit="layer"))


def _asked_of(engine: Engine, question: Question) -> Question:
    return Question(engine, question.x, question.target, question.output, question.of)


def _compared(original: Explanation, changed: Explanation) -> dict[str, list[float]]:
    """Measure → of each sample."""
    batch = original.axes.index("batch")
    space = [axis - (axis > batch) for axis in original.spatial_axes]
    pairs = list(zip(*(np.moveaxis(each.values, batch, 0) for each in (original, changed)), strict=True))
    return {name: [measure(a, b, space) for a, b in pairs] for name, measure in MEASURES.items()}
