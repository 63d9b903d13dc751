"""What the network answers: outputs, layers, and statistics over many inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxviz.algorithms.embedding import Embedding, Projection, embed
from onnxviz.algorithms.filters import filters
from onnxviz.algorithms.units import UnitStats, unit_stats
from onnxviz.display import Features
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.opened import Opened
from onnxviz.engine.targets import choose_output
from onnxviz.errors import InputError, LayerError, OptionError
from onnxviz.manifest import Tensor
from onnxviz.source import Array


class Answers(Opened):
    """The methods of :class:`~onnxviz.Explainer` that tell what the network computes."""

    def predict(self, x: Any) -> Array | dict[str, Array]:
        """The model's own outputs: an array (N, …), or a dict by name where there are several."""
        values = self._values(x, self._bundle.manifest.outputs)
        return next(iter(values.values())) if len(values) == 1 else values

    def top(self, x: Any, k: int = 5, *, output: str | None = None) -> list[list[tuple[int, str, float]]]:
        """The k most probable classes of each sample, best first: (index, name, probability).

        The probability is the model's own last activation of the logits; without one, their softmax (a sigmoid for a
        single unit). The name is the index as text where the file has no class names.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise OptionError(f"k={k!r}: expected a positive integer")
        manifest = self._bundle.manifest
        chosen = (
            choose_output(manifest, output)
            if output or any(o.has_gradient for o in manifest.outputs)
            else manifest.outputs[0]
        )
        values = self._values(
            x, [Tensor("logits", chosen.logits, chosen.dtype, chosen.logits_shape, chosen.logits_axes)]
        )
        logits = np.asarray(next(iter(values.values())), np.float64)
        if logits.ndim != 2:
            raise InputError(
                f"top needs logits of shape (N, classes); output {chosen.name!r} has {list(chosen.logits_shape)}"
            )
        if chosen.activation == "Sigmoid" or logits.shape[1] == 1:
            scores = 1 / (1 + np.exp(-logits))
        else:
            powers = np.exp(logits - logits.max(1, keepdims=True))
            scores = powers / powers.sum(1, keepdims=True)
        names = manifest.classes or ()
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return [
            [(int(i), names[i] if i < len(names) else str(i), float(row[i])) for i in best]
            for row, best in zip(scores, order, strict=True)
        ]

    def features(self, x: Any, layers: Sequence[str | int] | str | int | None = None) -> Features:
        """Outputs of layers by name, float32, laid out as the framework lays them out; None is every layer.

        A dict, of which a notebook shows the first sample's feature maps.
        """
        if layers is None:
            chosen = list(self.layers)
        elif isinstance(layers, str | int):
            chosen = [self.layers[layers]]
        else:
            chosen = [self.layers[layer] for layer in layers]
        if not chosen:
            raise LayerError("no layer was asked for")
        return Features(self._values(x, chosen), {layer.name: layer.axes for layer in chosen})

    def embed(
        self,
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
        """Samples as points: what a layer makes of them, in a few dimensions, by scikit-learn.

        Args:
            batches: an array (N, …) as the model takes it, a pair (array, labels), or an iterable of either, such as a
                data loader. Labels (N,) may be numbers or text. Values are computed a part at a time; of each sample
                only its features are kept.
            layer: name, index, or ``"logits"``.
            method: ``"pca"`` (principal components, not whitened), or ``"tsne"`` (van der Maaten 2008), before which
                PCA leaves 50 dimensions.
            components: dimensions of the result; at most 3 for t-SNE.
            pool: each channel's mean over space, or over tokens; False takes every value as a feature.
            perplexity: of t-SNE: how many neighbours count. Less than the number of samples.
            seed: of what scikit-learn draws at random: little, since t-SNE starts from the principal components.
            output: whose logits, where the model has several.

        Raises:
            InputError: no samples, or not what the model takes; labels that do not fit.
            OptionError: an impossible option.
            LayerError: there is no such layer, no axis of it counts samples, or its values are not finite.
            MissingDependencyError: scikit-learn is not installed.
        """
        return embed(
            self._engine, batches, layer, method=method, components=components, pool=pool, perplexity=perplexity,
            seed=seed, output=output,
        )  # fmt: skip

    def unit_stats(
        self,
        batches: Any,
        layer: str | int,
        *,
        k: int = 9,
        units: Sequence[int] | None = None,
        crop: float = 0.25,
        correlation: bool = True,
        redundancy: float = 0.95,
        saturation: float = 0.95,
        limits: tuple[float | None, float | None] | None = None,
        output: str | None = None,
    ) -> UnitStats:
        """What the units of a layer do over many inputs: which are dead, saturated or redundant, what excites each.

        The samples are read once, a part at a time; memory grows with the units, not with the samples.

        Args:
            batches: as for :meth:`embed`.
            layer: name, index, or ``"logits"``. A unit is a channel, over all samples and places.
            k: how many inputs are found for each unit, by its largest value in them.
            units: of which crops of these inputs are kept; None is the first 32.
            crop: of an input with as many spatial axes as the layer, the share of each side that is cut out, around
                where the unit's place lies when the layer is laid over the input, and at least what one place covers.
                No receptive field is computed. Other inputs are kept whole.
            correlation: whether to keep Pearson's r of all pairs, units² numbers.
            redundancy: the |r| from which units count as redundant.
            saturation: the share of values at a limit from which a unit counts as saturated.
            limits: the ends of the units' range, each may be None. None takes what the layer's activation says: 0 and 1
                of a sigmoid, ±1 of tanh, the upper end of a clip from 0 (ReLU6), none of others.
            output: whose logits, where the model has several.

        Raises:
            InputError: no samples, or not what the model takes.
            OptionError: an impossible option, or more units than a correlation matrix is kept for.
            LayerError: there is no such layer, its units cannot be told, or its values are not finite.
        """
        return unit_stats(
            self._engine, batches, layer, k=k, units=units, crop=crop, correlation=correlation, redundancy=redundancy,
            saturation=saturation, limits=limits, output=output,
        )  # fmt: skip

    def filters(self, layer: str | int) -> Array:
        """The kernels of a convolution, or the weights of a dense layer, as the file stores them, float32.

        Convolutions: (units, inputs per group, *kernel), whatever the framework's layout; transposed ones (inputs,
        units per group, *kernel). Dense layers: (units, inputs). Of a layer with several, such as a separable
        convolution, the last. Scales of a batch norm are not multiplied in.

        Raises:
            LayerError: there is no such layer, or it has no kernels; names the layers that do.
        """
        return filters(self._engine, layer)

    def _values(self, x: Any, tensors: Sequence[Tensor]) -> dict[str, Array]:
        feeds, batch = as_feeds(x, self._bundle.manifest)
        axes = {t.value: t.axes.batch for t in tensors}
        values = self._engine.values(feeds, [t.value for t in tensors], batch, axes)
        return {t.name: _float32(values[t.value]) for t in tensors}


def _float32(values: Array) -> Array:
    return values.astype(np.float32, copy=False) if np.issubdtype(values.dtype, np.floating) else values
