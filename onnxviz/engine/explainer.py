"""The public face of an explainable file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from onnxviz import algorithms
from onnxviz.algorithms.ascent import Optimizer
from onnxviz.algorithms.dream import deep_dream
from onnxviz.algorithms.embedding import Embedding, Projection, embed
from onnxviz.algorithms.filters import filters
from onnxviz.algorithms.gradients import Reduce
from onnxviz.algorithms.maximize import Clip, Regularizer, maximize
from onnxviz.algorithms.parameterization import Name
from onnxviz.algorithms.perturbation import Sizes
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.sampling import Kind
from onnxviz.algorithms.units import UnitStats, unit_stats
from onnxviz.bundle import read
from onnxviz.engine.core import Engine, check_batch_size
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, LayerError, OptionError
from onnxviz.manifest import Output, Tensor
from onnxviz.maximization import Maximization
from onnxviz.source import Array

if TYPE_CHECKING:
    from onnxviz.explanation import Explanation
    from onnxviz.image import ImageInput


class Explainer:
    """Explains the network in an explainable ONNX file, without the framework that it came from.

    Shared arguments of the methods:

    * ``x``: a batch as the model takes it, (N, …): a numpy array, or anything that numpy or DLPack reads; a dict by
      input name or a tuple for models with several inputs.
    * ``target``: whose score is explained. None is the top-1 of each sample (with a single output unit, the sign of
      the decision); an int one class for all samples; an integer array (N,) one class per sample; an integer array
      (N, T) or (1, T), such as ``[[281, 285]]``, T classes per sample from one forward pass, which gives results an
      axis of targets, (N, T, …); a float array (C,) or like the logits a weighting or mask. Where the output has
      more than two axes a class means that channel summed over the others.
    * ``of``: ``"logits"`` (default: what stands before the last softmax or sigmoid) or ``"probability"``.
    * ``output``: the name of the output, where the model has several; by default the first with a gradient.

    Results are :class:`onnxviz.Explanation`. Wrong arguments raise :class:`onnxviz.errors.InputError`,
    ``TargetError``, ``LayerError`` or ``OptionError``.

    Args:
        path: an explainable file, written by :func:`onnxviz.convert`.
        providers: execution providers, ``"cpu"``, ``"cuda"`` or onnxruntime's names; None is CUDA where this
            onnxruntime has it, else the CPU.
        precision: ``"float32"``, or ``"tf32"`` for faster, less precise products on CUDA.
        batch_size: samples per run; ``"auto"`` fits them into a fixed amount of memory.
        max_sessions: how many prepared sub-graphs are kept. They share the weights.
        threads: of onnxruntime; None is its default, one per physical core.

    Raises:
        FileFormatError: the file is not an explainable one.
        ProviderError: a provider is not available.
        MissingDependencyError: no onnxruntime is installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        providers: Sequence[str] | str | None = None,
        precision: str = "float32",
        batch_size: int | Literal["auto"] = "auto",
        max_sessions: int = 8,
        threads: int | None = None,
    ) -> None:
        self._bundle = read(path)
        self._engine = Engine(
            self._bundle, providers=providers, precision=precision, max_sessions=max_sessions, threads=threads,
            batch_size=batch_size,
        )  # fmt: skip
        self.layers = LayerTable(self._bundle.manifest.layers)

    # ----- what is in the file -----

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._bundle.path

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The model's inputs: name, dtype, shape, axes."""
        return self._bundle.manifest.inputs

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The model's outputs: name, shape, and where the gradient starts (``logits``)."""
        return self._bundle.manifest.outputs

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if they were given at conversion."""
        return self._bundle.manifest.classes

    @property
    def residuals(self) -> dict[str, Any]:
        """How far the file was from the original model at conversion.

        ``"outputs"`` and ``"layers"``: name → largest difference, relative to the largest absolute value.
        ``"gradient"``: the same of the gradient, with its median and cosine. ``"recipe"``: how the inputs were drawn.
        """
        return self._bundle.manifest.residuals

    @property
    def metadata(self) -> dict[str, Any]:
        """Where the file came from: framework, versions, static batch, format version."""
        m = self._bundle.manifest
        return {
            "framework": m.framework, "versions": m.versions, "static_batch": m.static_batch,
            "format_version": m.format_version,
        }  # fmt: skip

    @property
    def image_input(self) -> ImageInput:
        """The preprocessing that the file carries; raises InputError if it carries none."""
        from onnxviz.image import ImageInput

        for tensor in self._bundle.manifest.inputs:
            if tensor.image is not None:
                return ImageInput.from_dict(tensor.image)
        raise InputError("this file does not say how images are prepared: give convert(…, input=onnxviz.ImageInput(…))")

    def read_image(self, picture: Any) -> Array:
        """A picture (path, or uint8 pixels) as the model takes it, a batch of one."""
        return self.image_input.read(picture)

    # ----- values -----

    def predict(self, x: Any) -> Array | dict[str, Array]:
        """The model's own outputs: an array (N, …), or a dict by name where there are several."""
        values = self._values(x, self._bundle.manifest.outputs)
        return next(iter(values.values())) if len(values) == 1 else values

    def top(self, x: Any, k: int = 5, *, output: str | None = None) -> list[list[tuple[int, str, float]]]:
        """The k most probable classes of each sample, best first: (index, name, probability).

        The probability is the model's own last activation of the logits; without one, their softmax (a sigmoid for a
        single unit). The name is the index as text where the file has no class names.
        """
        from onnxviz.engine.targets import choose_output

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

    def features(self, x: Any, layers: Sequence[str | int] | str | int | None = None) -> dict[str, Array]:
        """Outputs of layers by name, float32, laid out as the framework lays them out; None is every layer."""
        if layers is None:
            chosen = list(self.layers)
        elif isinstance(layers, str | int):
            chosen = [self.layers[layers]]
        else:
            chosen = [self.layers[layer] for layer in layers]
        if not chosen:
            raise LayerError("no layer was asked for")
        return self._values(x, chosen)

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

    # ----- methods -----

    def gradient(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """∂S/∂x, raw, shaped like x; with ``layer`` ∂S/∂layer, shaped like the layer's output."""
        return algorithms.gradient(self._question(x, target, of, output), layer=layer)

    def saliency(
        self, x: Any, target: Any = None, *, reduce: Reduce = "max", of: Of = "logits", output: str | None = None
    ) -> Explanation:
        """Maximum over the channels of the absolute gradient (Simonyan 2013, arXiv:1312.6034): (N, *spatial), ≥ 0.

        ``reduce`` is ``"max"``, ``"mean"``, ``"sum"``, or None to keep the channels.
        """
        return algorithms.saliency(self._question(x, target, of, output), reduce=reduce)

    def guided_backprop(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """The gradient, with every rectifier passing back only what is positive (Springenberg 2015, arXiv:1412.6806).

        Which activations that concerns is stated in :mod:`onnxviz.engine.overlays`; how many were rewritten stands in
        the result's options, which others keep their derivative in its notes. Where no rectifier lies on the way back
        LayerError is raised: the result would be the plain gradient.
        """
        return algorithms.guided_backprop(self._question(x, target, of, output), layer=layer)

    def deconvnet(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """The gradient, with every rectifier replaced by its deconvnet counterpart (Zeiler 2014, arXiv:1311.2901).

        Options, notes and errors are those of :meth:`guided_backprop`.
        """
        return algorithms.deconvnet(self._question(x, target, of, output), layer=layer)

    def grad_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """ReLU of the channels weighted by their mean gradient (Selvaraju 2017, arXiv:1610.02391), not normalised.

        (N, *spatial) ≥ 0, bilinearly resized to the input's spatial size, or with ``upsample=False`` the layer's own.
        ``layer="auto"`` is the last layer with gradient and more than one place in space that is not pooling, dropout,
        padding or reshaping; of a transformer, whose tokens become the grid of its patches (or ``grid``), the last
        normalisation before tokens are mixed for the last time. A list of layers gives a list, in order.
        """
        return self.explain(x, "grad_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def grad_cam_pp(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """Grad-CAM++ (Chattopadhay 2018, arXiv:1710.11063): weights from the positive gradients, squared and cubed.

        Arguments and shape are those of :meth:`grad_cam`.
        """
        return self.explain(x, "grad_cam_pp", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def layer_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """LayerCAM (Jiang 2021): each place weighted by its own positive gradient, so that early layers tell too.

        Arguments and shape are those of :meth:`grad_cam`.
        """
        return self.explain(x, "layer_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def hires_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891): channels times gradient, place by place.

        Arguments and shape are those of :meth:`grad_cam`.
        """
        return self.explain(x, "hires_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def xgrad_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """XGrad-CAM (Fu 2020, arXiv:2008.02312): gradients averaged with the channel's own values as weights.

        Arguments and shape are those of :meth:`grad_cam`.
        """
        return self.explain(x, "xgrad_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def score_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """Score-CAM (Wang 2020, arXiv:1910.01279): channels weighted by the score of the input seen through them.

        It reads no gradient and costs a forward pass per channel. Arguments and shape are those of :meth:`grad_cam`.
        """
        return self.explain(x, "score_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    def eigen_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        centre: bool = False,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """Eigen-CAM (Muhammad 2020, arXiv:2008.00299): the channels along their first singular vector, for no class.

        ``centre=True`` takes each channel's mean over space off first, as pytorch-grad-cam does. Other arguments and
        the shape are those of :meth:`grad_cam`.
        """
        return self.explain(
            x, "eigen_cam", target, of=of, output=output, layer=layer, upsample=upsample, grid=grid, centre=centre
        )

    def guided_grad_cam(
        self,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        """Guided backprop times the Grad-CAM map (Selvaraju 2017, arXiv:1610.02391, section 3.2), shaped like x."""
        return self.explain(x, "guided_grad_cam", target, of=of, output=output, layer=layer, grid=grid)

    def input_x_gradient(
        self, x: Any, target: Any = None, *, of: Of = "logits", output: str | None = None
    ) -> Explanation:
        """x·∂S/∂x (Shrikumar 2016, arXiv:1605.01713), shaped like x."""
        return algorithms.input_x_gradient(self._question(x, target, of, output))

    def integrated_gradients(
        self,
        x: Any,
        target: Any = None,
        *,
        baseline: Any = 0.0,
        n_steps: int = 50,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """(x − x₀)·mean gradient on the way from the baseline x₀ (Sundararajan 2017, arXiv:1703.01365), shaped like x.

        The attributions add up to S(x) − S(x₀); by how much they miss it stands in ``options["completeness_gap"]``.
        The mean is by Gauss and Legendre's rule over ``n_steps`` points. ``baseline`` is a number or an array.
        """
        return algorithms.integrated_gradients(
            self._question(x, target, of, output), baseline=baseline, n_steps=n_steps
        )

    def smooth_grad(
        self,
        x: Any,
        target: Any = None,
        *,
        n_samples: int = 50,
        noise: float = 0.15,
        kind: Kind = "mean",
        around: str = "gradient",
        seed: int = 0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """The mean gradient of noisy copies of x (Smilkov 2017, arXiv:1706.03825), shaped like x.

        The noise is N(0, σ²), σ = noise·(max x − min x) of each sample. ``kind`` is ``"mean"``, ``"square"`` or
        ``"variance"``; ``around`` whose gradient: ``"gradient"``, ``"guided_backprop"``, ``"deconvnet"``. An open
        target is the class of x itself.
        """
        return algorithms.smooth_grad(
            self._question(x, target, of, output),
            n_samples=n_samples, noise=noise, kind=kind, around=around, seed=seed,
        )  # fmt: skip

    def occlusion(
        self,
        x: Any,
        target: Any = None,
        *,
        window: Sizes = None,
        stride: Sizes = None,
        baseline: Any = 0.0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """How much the score falls where a window of x is covered (Zeiler & Fergus 2014, arXiv:1311.2901).

        The result is (N, *spatial). Windows are an eighth of each axis by default and move by half of themselves; a
        place has the mean of those that cover it. ``baseline`` is what covers, a number or an array.
        """
        return algorithms.occlusion(
            self._question(x, target, of, output), window=window, stride=stride, baseline=baseline
        )

    def rise(
        self,
        x: Any,
        target: Any = None,
        *,
        n_masks: int = 1000,
        cells: Sizes = 7,
        kept: float = 0.5,
        seed: int = 0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """The mean of random masks, weighted by the score of x behind them (Petsiuk 2018, arXiv:1806.07421).

        The result is (N, *spatial). The paper's scores are probabilities: ``of="probability"``.
        """
        return algorithms.rise(
            self._question(x, target, of, output), n_masks=n_masks, cells=cells, kept=kept, seed=seed
        )

    def explain(
        self,
        x: Any,
        method: str = "grad_cam",
        target: Any = None,
        *,
        of: Of = "logits",
        output: str | None = None,
        **options: Any,
    ) -> Any:
        """Any method by its name (:func:`onnxviz.methods` lists them with their options).

        A list of layers as ``layer`` gives a list of explanations, in order.
        """
        layer = options.get("layer")
        question = self._question(x, target, of, output)
        if isinstance(layer, list | tuple):
            return [algorithms.explain_by_name(question, method, {**options, "layer": one}) for one in layer]
        return algorithms.explain_by_name(question, method, options)

    def _question(self, x: Any, target: Any, of: Of, output: str | None) -> Question:
        return Question(self._engine, x, target, output, of)

    def maximize(
        self,
        target: Any,
        *,
        steps: int = 200,
        regularizers: Sequence[Regularizer] = (),
        jitter: int = 8,
        scale: tuple[float, float] = (1.0, 1.0),
        rotation: float = 0.0,
        parameterization: Name = "auto",
        optimizer: Optimizer = "normalized",
        learning_rate: float | None = None,
        start: Any = None,
        size: Sequence[int] | None = None,
        inputs: Mapping[str, Any] | None = None,
        clip: Clip = True,
        snapshots: int = 0,
        seed: int = 0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Maximization:
        """The input that a unit of the network wants to see, by gradient ascent (activation maximisation).

        Erhan 2009; Simonyan 2013 (arXiv:1312.6034); Yosinski 2015 (arXiv:1506.06579); Olah 2017
        (doi:10.23915/distill.00007). Where the file describes its pictures (:class:`onnxviz.ImageInput`) the ascent
        runs on grey levels, so that step sizes and weights mean the same for every network; else in the model's units.

        Args:
            target: a class (index or name, before the softmax); ``"layer:channel"``, a filter, the mean over its
                places; ``"layer:channel@y,x"``, a neuron (``@t`` of a series, ``@z,y,x`` of a volume; negative
                coordinates count from the end); a pair ``("layer", direction)`` or ``("layer@y,x", direction)`` with
                one number per channel; a float array that weighs the logits. A list of these gives an image for each,
                computed together, and each the same as if it were asked alone.
            steps: how many.
            regularizers: :class:`onnxviz.TotalVariation`, :class:`onnxviz.LpNorm`, :class:`onnxviz.L2`,
                :class:`onnxviz.Blur`, or objects with the same functions.
            jitter: at each step the image is shifted by up to so many pixels along each spatial axis, around the edges:
                without it, high frequencies win.
            scale: (smallest, largest) factor that it is resized by at each step.
            rotation: up to so many degrees that it is turned by at each step.
            parameterization: ``"pixels"``, or ``"fourier"``: the spectrum, in colours that vary independently, which
                favours no frequency and no colour; clip is then a soft bound. ``"auto"`` is ``"fourier"`` where the
                file describes its pictures.
            optimizer: ``"normalized"`` divides the gradient by its root mean square over the image, so that a step
                changes it by ``learning_rate`` on average however flat the score is; ``"plain"``, ``"rmsprop"``,
                ``"adam"``.
            learning_rate: None is one grey level of pixels, half a level of their spectrum; a level is 0.01 where the
                file does not describe its pictures.
            start: an image (1, …) or one for each target (N, …), as the model takes it; several with one target give an
                image for each. None is noise of ten levels (standard deviation) around mid-grey, 128 of 255, or N(0,
                0.1²) where the file does not describe its pictures; the same for each target.
            size: the spatial size, where the file leaves it open; None is the example's.
            inputs: name → value (1, …) of the model's other inputs, which are held fixed.
            clip: True holds the image within 0 … 255 where the file describes its pictures; (low, high), in grey levels
                or the model's units, holds it there; False nowhere.
            snapshots: how many images on the way are kept, evenly from the start to the end, for
                :meth:`onnxviz.Maximization.gif`.
            seed: of noise and transformations.
            of: ``"probability"`` ascends the probability of a class: often by pushing the others down, which shows
                less of the class itself.
            output: of classes, where the model has several outputs.

        Raises:
            NotFiniteError: a gradient became infinite; the message names the step and the regulariser.
            TargetError, LayerError, InputError, OptionError: a wrong argument.
        """
        return maximize(
            self._engine, target, steps=steps, regularizers=regularizers, jitter=jitter, scale=scale, rotation=rotation,
            parameterization=parameterization, optimizer=optimizer, learning_rate=learning_rate, start=start, size=size,
            inputs=inputs, clip=clip, snapshots=snapshots, seed=seed, of=of, output=output,
        )  # fmt: skip

    def deep_dream(
        self,
        image: Any,
        layer: str | int,
        *,
        octaves: int = 4,
        octave_scale: float = 1.4,
        steps: int = 20,
        learning_rate: float | None = None,
        jitter: int = 32,
        regularizers: Sequence[Regularizer] = (),
        snapshots: int = 0,
        seed: int = 0,
    ) -> Maximization:
        """A picture in which what a layer sees is strengthened (Mordvintsev 2015, "Inceptionism").

        The L2 norm of the layer's activations is ascended, first on a small copy of the picture, then on larger ones;
        what was dreamt is carried over, and each copy brings back its own detail. A file with open sizes
        (``convert(…, open_sizes=True)``) sees each copy as a whole; any other sees it in tiles of its size, whose seams
        the jitter moves about.

        Args:
            image: a picture of any size: a path, uint8 pixels (H, W, 3), or an array (1, …) as the model takes it.
            layer: whose activations; early ones give strokes and textures, late ones parts of animals and things.
            octaves: how many sizes.
            octave_scale: between one size and the next.
            steps: at each size.
            learning_rate: root mean square of a step; None is 2 grey levels.
            jitter: as in :meth:`maximize`.
            regularizers: likewise.
            snapshots: likewise, at the picture's size.
            seed: of the jitter.

        Raises:
            LayerError, InputError, OptionError: a wrong argument.
        """
        return deep_dream(
            self._engine, image, layer, octaves=octaves, octave_scale=octave_scale, steps=steps,
            learning_rate=learning_rate, jitter=jitter, regularizers=regularizers, snapshots=snapshots, seed=seed,
        )  # fmt: skip

    # ----- life -----

    @property
    def batch_size(self) -> int | Literal["auto"]:
        """Samples per run; may be set."""
        return self._engine.batch_size

    @batch_size.setter
    def batch_size(self, value: int | Literal["auto"]) -> None:
        check_batch_size(value)
        self._engine.batch_size = value

    def memory(self) -> dict[str, int]:
        """Bytes of weights, held once for all sessions, and how many sessions are kept of how many at most."""
        return self._engine.memory()

    def close(self) -> None:
        """Release sessions and weights; later calls raise ProviderError."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        m = self._bundle.manifest
        with_gradient = sum(t.has_gradient for t in self.layers)
        return (
            f"Explainer({str(self._bundle.path)!r}: {m.framework}, {len(self.layers)} layers, {with_gradient} with "
            f"gradient, inputs {', '.join(f'{t.name}{list(t.shape)}' for t in m.inputs)})"
        )


def _float32(values: Array) -> Array:
    return values.astype(np.float32, copy=False) if np.issubdtype(values.dtype, np.floating) else values


def load(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[str] | str | None = None,
    precision: str = "float32",
    batch_size: int | Literal["auto"] = "auto",
    max_sessions: int = 8,
    threads: int | None = None,
) -> Explainer:
    """Open an explainable file; arguments and errors are those of :class:`Explainer`."""
    return Explainer(
        path,
        providers=providers,
        precision=precision,
        batch_size=batch_size,
        max_sessions=max_sessions,
        threads=threads,
    )
