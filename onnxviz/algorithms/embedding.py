"""Samples as points: what a layer makes of them, in a few dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.streams import by_unit, optional, parts, tensor_of
from onnxviz.arguments import checked
from onnxviz.engine.core import Engine
from onnxviz.errors import LayerError, OptionError
from onnxviz.manifest import Tensor
from onnxviz.source import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Projection = Literal["pca", "tsne"]

BEFORE_TSNE = 50
"""Dimensions that PCA leaves before t-SNE: it takes out noise and time (van der Maaten 2008, section 4.2: 30)."""
TSNE_NOTE = (
    "t-SNE keeps neighbours together. Distances between groups, sizes of groups and the axes mean nothing, and another "
    "perplexity gives another picture."
)


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Samples as points.

    Attributes:
        points: float32 (N, components), in the order of the samples.
        labels: (N,) as they were given, or None.
        explained_variance: the share of the features' variance that each component of the PCA keeps, largest first;
            with t-SNE of the PCA before it, or None where the layer has no more features than that leaves.
        layer: the layer's name, or ``"logits"``.
        method: ``"pca"`` or ``"tsne"``.
        options: with the defaults that were used, and ``features``, how many there were.
        class_names: names of the model's classes, by index.
        notes: what must be known to read the points, in sentences.
    """

    points: npt.NDArray[np.float32]
    labels: Array | None
    explained_variance: npt.NDArray[np.float32] | None
    layer: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    notes: Sequence[str] = ()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:  # noqa: FBT001 - numpy's protocol
        return np.array(self.points, dtype=dtype, copy=copy)

    @checked
    def plot(self, labels: npt.ArrayLike | None = None) -> Figure:
        """A scatter of the first two components, coloured by label, with a legend; the notes stand below.

        Args:
            labels: other ones than the samples came with: whole numbers or names are classes, floats a scale.

        Raises:
            OptionError: there is one component only.
        """
        from onnxviz.plot import scatter

        if self.points.shape[1] < 2:
            raise OptionError("a scatter needs two components: embed(…, components=2)")
        name = "t-SNE" if self.method == "tsne" else "principal component"
        axis_labels = [f"{name} {i + 1}" for i in range(2)]
        if self.method == "pca" and self.explained_variance is not None:
            shares = self.explained_variance[:2]
            axis_labels = [f"{a} ({share:.1%} of the variance)" for a, share in zip(axis_labels, shares, strict=True)]
        return scatter(
            self.points[:, :2], self.labels if labels is None else labels, names=self.class_names,
            axis_labels=axis_labels, title=f"{self.layer}: {len(self.points)} samples", note=" ".join(self.notes),
        )  # fmt: skip

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.points.shape))
        labelled = "" if self.labels is None else f", {len(np.unique(self.labels))} different labels"
        return f"<Embedding: {self.method} of {self.layer!r}, {shape}{labelled}; {'; '.join(self.notes) or 'no notes'}>"


def embed(
    engine: Engine,
    batches: Any,
    layer: str | int = "logits",
    *,
    method: Projection = "pca",
    components: int = 2,
    pool: bool = True,
    perplexity: float = 30.0,
    seed: int = 0,
    output: str | None = None,
) -> Embedding:
    """See :meth:`onnxviz.Explainer.embed`."""
    if method not in get_args(Projection):
        raise OptionError(f"method is one of {', '.join(get_args(Projection))}; got {method!r}")
    most = 3 if method == "tsne" else None
    if isinstance(components, bool) or not isinstance(components, int | np.integer) or components < 1:
        raise OptionError(f"components is a positive whole number; got {components!r}")
    if most and components > most:
        raise OptionError(f"components is at most {most} for t-SNE, which is meant for pictures; got {components}")
    decomposition = optional("sklearn.decomposition", purpose="embed")
    tensor = tensor_of(engine.bundle.manifest, layer, output)
    features, labels = _features(engine, batches, tensor, pool=pool)
    if components > min(features.shape):
        raise OptionError(
            f"components={components}: {len(features)} samples with {features.shape[1]} features have at most "
            f"{min(features.shape)}: give more samples, or fewer components"
        )
    options: dict[str, Any] = {"components": components, "pool": pool, "features": features.shape[1], "seed": seed}
    shares = None
    if method == "pca" or features.shape[1] > BEFORE_TSNE:
        kept = components if method == "pca" else min(BEFORE_TSNE, len(features))
        pca = decomposition.PCA(kept, random_state=seed)
        with np.errstate(invalid="ignore", divide="ignore"):  # shares of no variance
            features = pca.fit_transform(features)
        shares = np.nan_to_num(pca.explained_variance_ratio_).astype(np.float32)
    if method == "tsne":
        features = _tsne(features, components, perplexity, seed)
        options["perplexity"] = perplexity
    return Embedding(
        points=features.astype(np.float32), labels=labels, explained_variance=shares, layer=tensor.name, method=method,
        options=options, class_names=engine.bundle.manifest.classes,
        notes=(TSNE_NOTE,) if method == "tsne" else (),
    )  # fmt: skip


def _tsne(features: Array, components: int, perplexity: float, seed: int) -> Array:
    if not 0 < perplexity < len(features):
        raise OptionError(
            f"perplexity, the number of neighbours that count, lies between 0 and the {len(features)} samples; got "
            f"{perplexity!r}"
        )
    manifold = optional("sklearn.manifold", purpose="embed")
    made: Array = manifold.TSNE(components, perplexity=perplexity, random_state=seed, init="pca").fit_transform(
        features
    )
    return made


def _features(engine: Engine, batches: Any, tensor: Tensor, *, pool: bool) -> tuple[Array, Array | None]:
    """(N, features) of all samples, float64, and the labels."""
    rows: list[Array] = []
    labels: list[Array] = []
    for part in parts(engine, batches, tensor):
        units = by_unit(part.values, tensor.axes) if pool else None
        if units is not None:
            row = units.mean(tuple(range(2, units.ndim)), dtype=np.float64)
        else:
            row = np.moveaxis(part.values, tensor.axes.batch or 0, 0).reshape(-1, _per_sample(part.values, tensor))
        rows.append(row.astype(np.float32))
        labels += [] if part.labels is None else [part.labels]
        if row.shape[1] != rows[0].shape[1]:
            raise LayerError(
                f"layer {tensor.name!r} has {rows[0].shape[1]} values per sample at one size of the input and "
                f"{row.shape[1]} at another: a layer with known channels can be pooled, see ex.layers"
            )
    return np.concatenate(rows).astype(np.float64), np.concatenate(labels) if labels else None


def _per_sample(values: Array, tensor: Tensor) -> int:
    return int(values.size // values.shape[tensor.axes.batch or 0])
