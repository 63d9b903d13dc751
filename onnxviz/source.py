"""What a converter hands over: the one form in which every framework's model enters the pipeline.

A converter (``converters/onnxviz_torch``, ``converters/onnxviz_keras``, ``onnxviz.graph.plain``) turns a model into a
:class:`Source`; everything after it (:mod:`onnxviz.conversion`) is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxviz.errors import LayerError, OptionError, nearest

if TYPE_CHECKING:
    import onnx_ir as ir

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
BATCH = "N"
"""The name of the symbolic batch dimension, always axis 0 of an input."""

Axes = Mapping[str, tuple[int, ...]]
OpenSizes = bool | Mapping[str, Sequence[int]] | None
Request = tuple[Mapping[str, Array], Sequence[str]]

WIDENED = "the model is bfloat16: the file computes in float32, with the weights' bfloat16 values"
"""The note on a bfloat16 model: numpy has no such type, and ONNX Runtime's CPU next to no kernels."""


@dataclass(frozen=True)
class Tap:
    """A layer whose output becomes an output of the file.

    ``value`` names the graph's value that holds it; several taps may name the same value, or values that are
    ``Identity`` of each other (a ``Sequential`` and its last child). ``type`` is the framework's name for the layer,
    ``parameters`` the number of its own trainable numbers.
    """

    name: str
    value: str
    type: str
    parameters: int = 0


class Reference(Protocol):
    """The original model, asked for the numbers that the file must reproduce.

    Values are known by the names of inputs, outputs and taps. All arrays keep the framework's own layout.
    """

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Values of all outputs and all taps for these inputs; where both share a name, the output."""
        ...

    def gradients(self, feeds: Feeds, requests: Sequence[Request]) -> Iterable[dict[str, Array]]:
        """For each request d Σ (cotangent · value) / d wrt, by the framework's own differentiation of one forward pass.

        A request is (``of``, ``wrt``): ``of`` maps names of outputs or taps to their cotangents, ``wrt`` lists names of
        float inputs or taps; a name of ``wrt`` that the sum does not depend on gets zeros. Empty if the framework
        cannot differentiate.
        """
        ...


@dataclass
class Source:
    """A model in ONNX form, with what is known of where it came from.

    Attributes:
        model: the forward pass at opset 18 without model-local functions. Graph inputs are the model's inputs under
            their public names; where the batch may vary, axis 0 of each input is the symbol ``"N"``; other axes
            without a number are to stay open if the gradient allows it. Graph outputs include each value named in
            ``outputs`` and ``taps`` (their order does not matter).
        outputs: the model's own outputs: public name → value name in the graph, in the model's order.
        taps: the layers, in the order in which they were computed (inner before outer).
        framework: ``"pytorch"``, ``"keras"`` or ``"onnx"``.
        versions: package → version of what took part in the export.
        example: one set of inputs, from the user or seeded; its batch size is legal for the model.
        reference: the original model.
        notes: sentences for the user about what was decided on the way (a batch kept static, a layer left out).
        caveats: sentences that belong to every result (quantised, computed in another precision).
        resized: the example at another size, where sizes are open; found out by running the graph.
        classes: the names of the classes that the model itself knows.
    """

    model: ir.Model
    outputs: dict[str, str]
    taps: list[Tap]
    framework: str
    versions: dict[str, str]
    example: dict[str, Array]
    reference: Reference
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    resized: dict[str, Array] = field(default_factory=dict)
    classes: Sequence[str] | None = None


def seeded(shape: Sequence[int], dtype: npt.DTypeLike = np.float32, *, seed: int = 0) -> Array:
    """Numbers from N(0, 1) of the given shape: what a model is fed when the user gave no example."""
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(dtype)


def open_axes(wanted: OpenSizes, declared: Axes, free: Axes) -> Axes:
    """Which axes of the inputs are to stay open, beside the batch.

    Args:
        wanted: of the user: None asks for what the model declares, True for all that can be, False for none, input →
            axes for these.
        declared: input → axes that the model itself leaves open.
        free: input → axes that it could take in other sizes.

    Raises:
        OptionError: an input or an axis that cannot be open.
    """
    if wanted is None or wanted is False:
        return {} if wanted is False else declared
    if wanted is True:
        return {name: tuple(sorted({*declared.get(name, ()), *free.get(name, ())})) for name in {**declared, **free}}
    for name, axes in wanted.items():
        possible = {*declared.get(name, ()), *free.get(name, ())}
        if not possible.issuperset(axes):
            which = (
                f"of input {name!r} only the axes {sorted(possible)} can" if possible else f"no axis of {name!r} can"
            )
            others = ", ".join(map(repr, {**declared, **free})) or "none"
            raise OptionError(f"open_sizes={dict(wanted)!r}: {which} be open; inputs that have such axes: {others}")
    return {name: tuple(axes) for name, axes in wanted.items()}


def selected(layers: str | Sequence[str] | None, computed: Mapping[str, str], known: Collection[str]) -> list[str]:
    """The taps that the user's ``layers`` ask for.

    Args:
        layers: names or patterns of layers; None asks for all. All calls and parts of an output belong to its layer.
        computed: tap → name of its layer.
        known: names of all layers, computed or not.

    Raises:
        LayerError: a name or pattern that nothing computed has.
    """
    if layers is None:
        return list(computed)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(_fits(pattern, pair) for pair in computed.items()):
            what = "is in the model, but a call computes no tensor with it" if pattern in known else "is unknown"
            there = list(dict.fromkeys(computed.values()))
            some = f"; layers: {', '.join(there[:5])}{', …' * (len(there) > 5)}"
            raise LayerError(f"layer {pattern!r} {what}{nearest(pattern, {*computed, *there}) or some}")
    return [tap for tap, layer in computed.items() if any(_fits(pattern, (tap, layer)) for pattern in patterns)]


def _fits(pattern: str, names: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
