"""The public face of an explainable file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from onnxviz import algorithms
from onnxviz.algorithms.gradients import Reduce
from onnxviz.algorithms.perturbation import Sizes
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.sampling import Kind
from onnxviz.bundle import read
from onnxviz.engine.core import Engine, check_batch_size
from onnxviz.engine.inputs import as_feeds
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, LayerError, OptionError
from onnxviz.manifest import Output, Tensor
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
        method: str = "gradient",
        seed: int = 0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Explanation:
        """The mean gradient of noisy copies of x (Smilkov 2017, arXiv:1706.03825), shaped like x.

        The noise is N(0, σ²), σ = noise·(max x − min x) of each sample. ``kind`` is ``"mean"``, ``"square"`` or
        ``"variance"``; ``method`` whose gradient: ``"gradient"``, ``"guided_backprop"``, ``"deconvnet"``. An open
        target is the class of x itself.
        """
        return algorithms.smooth_grad(
            self._question(x, target, of, output),
            n_samples=n_samples, noise=noise, kind=kind, method=method, seed=seed,
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

        The result is (N, *spatial). Windows are an eighth of each axis by default and move by half of themselves; a place has the mean of those that
        cover it. ``baseline`` is what covers, a number or an array.
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
