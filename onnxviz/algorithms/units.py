"""Statistics of a layer's units over many inputs: which are dead, saturated or redundant, and what each looks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.nodes import MOVES, computed_by, constant
from onnxviz.algorithms.streams import Part, by_unit, optional, parts, tensor_of
from onnxviz.algorithms.unit_streams import Moments, Tops
from onnxviz.arguments import checked
from onnxviz.engine.core import Engine
from onnxviz.errors import LayerError, OptionError
from onnxviz.image import ImageInput
from onnxviz.manifest import Input, Layer, Manifest, Tensor
from onnxviz.source import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Limits = tuple[float | None, float | None]

CROPPED = 32
"""Of how many units crops are kept unless ``units`` names others."""
LARGEST = 8192
"""Units whose correlation matrix is kept at most: it takes 8 · units² bytes, 512 MiB."""
_LIMITS: dict[str, Limits] = {"Sigmoid": (0, 1), "HardSigmoid": (0, 1), "Tanh": (-1, 1), "Softsign": (-1, 1)}


@dataclass(frozen=True, eq=False, repr=False)
class UnitStats:
    """What the units of one layer did over many samples. A unit of a spatial layer is a channel, over all its places.

    Attributes:
        layer: the layer's name.
        samples: how many there were.
        mean, deviation, minimum, maximum: of each unit over samples and places, (U,); the deviation divides by the
            count.
        zeros, nonpositive: the shares of values that are 0, and that are not above 0, (U,).
        limits: the ends of the units' range, as far as they have any and being there means saturation.
        limited: the share of values within 1 % of the range from a limit, (U,).
        correlation: Pearson's r of each pair of units over samples and places, (U, U); NaN for units that never
            change. None if it was not asked for.
        top_values: the largest value of each unit in each of the samples where it is largest, (U, k), falling.
        top_samples: the positions of these samples in the stream, (U, k).
        top_places: where in the layer the value stands, (U, k, spatial axes).
        crops: unit → the parts of the k inputs around these places, without the batch axis.
        crop_axis: the axis of the channels in a crop; None where there is none or it is not known.
        image_input: what turns crops into pixels, where the file has it.
        saturation: the share of values at a limit from which a unit counts as saturated.
        redundancy: the |r| above which units count as redundant.
    """

    layer: str
    samples: int
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]
    minimum: npt.NDArray[np.float32]
    maximum: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.float32]
    nonpositive: npt.NDArray[np.float32]
    limits: Limits
    limited: npt.NDArray[np.float32]
    correlation: npt.NDArray[np.float32] | None
    top_values: npt.NDArray[np.float32]
    top_samples: npt.NDArray[np.int64]
    top_places: npt.NDArray[np.int64]
    crops: Mapping[int, Sequence[Array]]
    crop_axis: int | None
    image_input: ImageInput | None
    saturation: float
    redundancy: float

    @property
    def dead(self) -> npt.NDArray[np.int64]:
        """Units that never rise above 0 (but after tanh, where that is half of the range), or never change.

        A unit that never leaves a limit is saturated instead.
        """
        silent = self.maximum == self.minimum
        if self.limits[0] is None or self.limits[0] >= 0:
            silent = silent | (self.maximum <= 0)
        return np.flatnonzero(silent & (self.limited < self.saturation))

    @property
    def saturated(self) -> npt.NDArray[np.int64]:
        """Units that stand at a limit in at least ``saturation`` of all values."""
        return np.flatnonzero(self.limited >= self.saturation)

    @cached_property
    def redundant(self) -> tuple[tuple[int, ...], ...]:
        """Groups of units of which every pair has |r| ≥ ``redundancy``, largest first: one of each would do.

        By complete linkage of the distance 1 − |r|. Units that never change belong to none.

        Raises:
            OptionError: there is no correlation matrix.
            MissingDependencyError: SciPy is not installed.
        """
        tree = self._tree
        if tree is None:
            return ()
        clusters = optional("scipy.cluster.hierarchy", purpose="clustering units")
        found = clusters.fcluster(tree, 1 - self.redundancy, "distance")
        groups = [tuple(map(int, np.flatnonzero(found == number))) for number in np.unique(found)]
        return tuple(sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), g)))

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """All units so that correlated ones stand together: the leaves of the tree of ``redundant``."""
        tree = self._tree
        if tree is None:
            return np.arange(len(self.mean))
        return np.asarray(optional("scipy.cluster.hierarchy", purpose="clustering units").leaves_list(tree), np.int64)

    @cached_property
    def _tree(self) -> Array | None:
        if self.correlation is None:
            raise OptionError("no correlation was kept: unit_stats(…, correlation=True)")
        if len(self.mean) < 2:
            return None
        rows, columns = np.triu_indices(len(self.mean), 1)
        distance = 1 - np.abs(self.correlation[rows, columns].astype(np.float64))
        clusters = optional("scipy.cluster.hierarchy", purpose="clustering units")
        tree: Array = clusters.linkage(np.where(np.isnan(distance), 1.0, distance), "complete")
        return tree

    def plot(self) -> Figure:
        """Means, shares of zeros, dead and saturated units, and the correlation matrix, clustered."""
        from onnxviz.plot import unit_stats

        return unit_stats(self)

    @checked
    def plot_top(self, units: Sequence[int] | None = None) -> Figure:
        """The crops of the inputs that make units fire most: a row for each unit; None draws the first 12 that live.

        Raises:
            OptionError: a unit of which no crops were kept.
        """
        from onnxviz.plot import top_inputs

        return top_inputs(self, units)

    def __repr__(self) -> str:
        groups = f", {len(self.redundant)} redundant groups" if self.correlation is not None else ""
        return (
            f"<UnitStats: {self.layer!r}, {len(self.mean)} units over {self.samples} samples; {len(self.dead)} dead, "
            f"{len(self.saturated)} saturated{groups}>"
        )


def unit_stats(
    engine: Engine,
    batches: Any,
    layer: str | int,
    *,
    k: int = 9,
    units: Sequence[int] | None = None,
    crop: float = 0.25,
    correlation: bool = True,
    redundancy: float = 0.95,
    saturation: float = 0.95,
    limits: Limits | None = None,
    output: str | None = None,
) -> UnitStats:
    """See :meth:`onnxviz.Explainer.unit_stats`."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise OptionError(f"k is a positive whole number; got {k!r}")
    for name, share in (("crop", crop), ("redundancy", redundancy), ("saturation", saturation)):
        if not 0 < share <= 1:
            raise OptionError(f"{name} lies within 0 … 1; got {share!r}")
    manifest = engine.bundle.manifest
    tensor = tensor_of(manifest, layer, output)
    ends = _limits(engine, tensor) if limits is None else limits
    cropper = _Cropper(manifest, tensor, crop)
    moments: Moments | None = None
    tops = Tops(0, k, ())
    samples = 0
    for part in parts(engine, batches, tensor):
        values = by_unit(part.values, tensor.axes)
        if values is None:
            raise LayerError(
                f"layer {tensor.name!r} (shape {list(tensor.shape)}): it is not known which axis counts its units; "
                "ex.layers tells the layers whose axes are known"
            )
        if moments is None:
            count = values.shape[1]
            moments = Moments(count, ends, correlate=_affordable(count, tensor, asked=correlation))
            tops = Tops(count, k, _kept(units, count))
        moments.add(values.reshape(*values.shape[:2], math.prod(values.shape[2:])))
        tops.add(values, part.first, cropper.of(part, values.shape[2:]))
        samples += len(values)
    assert moments is not None  # parts refuses an empty stream
    return _result(tensor, samples, moments, tops, ends, cropper, saturation, redundancy)


def _result(
    tensor: Tensor, samples: int, moments: Moments, tops: Tops, limits: Limits, cropper: _Cropper, saturation: float,
    redundancy: float,
) -> UnitStats:  # fmt: skip
    r = moments.correlation
    assert tops.places is not None
    return UnitStats(
        layer=tensor.name,
        samples=samples,
        mean=moments.mean.astype(np.float32),
        deviation=moments.deviation.astype(np.float32),
        minimum=moments.minimum.astype(np.float32),
        maximum=moments.maximum.astype(np.float32),
        zeros=(moments.zeros / moments.count).astype(np.float32),
        nonpositive=(moments.nonpositive / moments.count).astype(np.float32),
        limits=limits,
        limited=(moments.limited / moments.count).astype(np.float32),
        correlation=None if r is None else r.astype(np.float32),
        top_values=tops.values.astype(np.float32),
        top_samples=tops.samples,
        top_places=tops.places,
        crops=tops.crops,
        crop_axis=cropper.channel,
        image_input=cropper.image_input,
        saturation=saturation,
        redundancy=redundancy,
    )


class _Cropper:
    """Cuts out of an input what lies where a unit's place is: no receptive field is computed, positions are scaled."""

    def __init__(self, manifest: Manifest, tensor: Tensor, share: float) -> None:
        rank = len(tensor.axes.spatial)
        fitting = [t for t in manifest.inputs if rank and len(t.axes.spatial) == rank]
        self.input: Input = (fitting or list(manifest.inputs))[0]
        self.spatial = tuple(sorted(self.input.axes.spatial)) if fitting else ()
        self.share = share
        self.image_input = None if self.input.image is None else ImageInput.from_dict(self.input.image)
        axis = self.input.axes.channel
        self.channel = None if axis is None or self.input.axes.batch != 0 else axis - 1

    def of(self, part: Part, places: Sequence[int]) -> Any:
        """The function that cuts out of one part of the stream, whose layer has these sizes."""
        fed = part.feeds[self.input.name]

        def cut(sample: int, place: Array) -> Array:
            some: list[Any] = [slice(None)] * fed.ndim
            if self.input.axes.batch == 0:
                some[0] = sample
            for axis, size, at in zip(self.spatial, places, place, strict=False):
                some[axis] = window(fed.shape[axis], size, int(at), self.share)
            return np.array(fed[tuple(some)])

        return cut


def window(length: int, places: int, place: int, share: float) -> slice:
    """The part of an axis that a place of a layer stands for: around its centre, ``share`` of the axis, or its cell."""
    side = min(length, max(math.ceil(share * length), math.ceil(length / places)))
    start = round((place + 0.5) * length / places - side / 2)
    start = min(max(start, 0), length - side)
    return slice(start, start + side)


def _limits(engine: Engine, tensor: Tensor) -> Limits:
    """The ends of an activation's range. The zero of a clip is rest and no saturation, as it is with ReLU."""
    if not isinstance(tensor, Layer):
        return (None, None)
    node = computed_by(engine.graph, tensor.value, {*_LIMITS, "Clip"}, MOVES, ())
    if node is None or node.op_type != "Clip":
        return (None, None) if node is None else _LIMITS[node.op_type]
    ends = [constant(engine, name) if name else None for name in (*node.input[1:], "", "")[:2]]
    low, high = (None if end is None or not np.isfinite(end).all() else float(end) for end in ends)
    return (low or None, high or None)


def _affordable(units: int, tensor: Tensor, *, asked: bool) -> bool:
    if asked and units > LARGEST:
        raise OptionError(
            f"correlation: a matrix of the {units} units of {tensor.name!r} takes {8 * units**2 / 2**30:.1f} GiB; pass "
            "correlation=False, or choose a layer with fewer"
        )
    return asked


def _kept(units: Sequence[int] | None, count: int) -> Sequence[int]:
    if units is None:
        return range(min(CROPPED, count))
    if wrong := [u for u in units if not 0 <= u < count]:
        raise OptionError(f"units: the layer has the units 0 … {count - 1}; got {wrong[0]!r}")
    return [int(u) for u in units]
