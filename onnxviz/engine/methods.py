"""The methods of explanation, as :class:`~onnxviz.Explainer` has them: each a question put to its algorithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onnxviz import algorithms
from onnxviz.algorithms.gradients import Reduce
from onnxviz.algorithms.perturbation import Sizes
from onnxviz.algorithms.question import Question
from onnxviz.algorithms.sampling import Kind
from onnxviz.engine.inputs import opened
from onnxviz.engine.opened import Opened
from onnxviz.engine.targets import Of

if TYPE_CHECKING:
    from onnxviz.explanation import Explanation


def _cam(name: str, documentation: str) -> Callable[..., Any]:
    """The method of that name: all class activation maps take the same arguments."""

    def method(
        self: Methods,
        x: Any,
        target: Any = None,
        *,
        layer: str | int | Sequence[str | int] = "auto",
        upsample: bool = True,
        grid: Sequence[int] | None = None,
        of: Of = "logits",
        output: str | None = None,
    ) -> Any:
        return self.explain(x, name, target, of=of, output=output, layer=layer, upsample=upsample, grid=grid)

    method.__name__, method.__qualname__, method.__doc__ = name, f"Explainer.{name}", documentation
    return method


class Methods(Opened):
    """The methods of :class:`~onnxviz.Explainer` that explain a score; it says what their shared arguments are."""

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
        return self._asked(algorithms.gradient, x, target, of, output, layer=layer)

    def saliency(
        self, x: Any, target: Any = None, *, reduce: Reduce = "max", of: Of = "logits", output: str | None = None
    ) -> Explanation:
        """Maximum over the channels of the absolute gradient (Simonyan 2013, arXiv:1312.6034): (N, *spatial), ≥ 0.

        ``reduce`` is ``"max"``, ``"mean"``, ``"sum"``, or None to keep the channels.
        """
        return self._asked(algorithms.saliency, x, target, of, output, reduce=reduce)

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
        return self._asked(algorithms.guided_backprop, x, target, of, output, layer=layer)

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
        return self._asked(algorithms.deconvnet, x, target, of, output, layer=layer)

    grad_cam = _cam(
        "grad_cam",
        """ReLU of the channels weighted by their mean gradient (Selvaraju 2017, arXiv:1610.02391), not normalised.

        (N, *spatial) ≥ 0, bilinearly resized to the input's spatial size, or with ``upsample=False`` the layer's own.
        ``layer="auto"`` is the last layer with gradient and more than one place in space that is not pooling, dropout,
        padding or reshaping; of a transformer, whose tokens become the grid of its patches (or ``grid``), the last
        normalisation before tokens are mixed for the last time. A list of layers gives a list, in order.
        """,
    )

    grad_cam_pp = _cam(
        "grad_cam_pp",
        """Grad-CAM++ (Chattopadhay 2018, arXiv:1710.11063): weights from the positive gradients, squared and cubed.

        Arguments and shape are those of :meth:`grad_cam`.
        """,
    )

    layer_cam = _cam(
        "layer_cam",
        """LayerCAM (Jiang 2021): each place weighted by its own positive gradient, so that early layers tell too.

        Arguments and shape are those of :meth:`grad_cam`.
        """,
    )

    hires_cam = _cam(
        "hires_cam",
        """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891): channels times gradient, place by place.

        Arguments and shape are those of :meth:`grad_cam`.
        """,
    )

    xgrad_cam = _cam(
        "xgrad_cam",
        """XGrad-CAM (Fu 2020, arXiv:2008.02312): gradients averaged with the channel's own values as weights.

        Arguments and shape are those of :meth:`grad_cam`.
        """,
    )

    score_cam = _cam(
        "score_cam",
        """Score-CAM (Wang 2020, arXiv:1910.01279): channels weighted by the score of the input seen through them.

        It reads no gradient and costs a forward pass per channel. Arguments and shape are those of :meth:`grad_cam`.
        """,
    )

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
        return self._asked(algorithms.input_x_gradient, x, target, of, output)

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
        return self._asked(algorithms.integrated_gradients, x, target, of, output, baseline=baseline, n_steps=n_steps)

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
        return self._asked(algorithms.smooth_grad, x, target, of, output,
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
        return self._asked(algorithms.occlusion, x, target, of, output, window=window, stride=stride, baseline=baseline)

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
        return self._asked(algorithms.rise, x, target, of, output, n_masks=n_masks, cells=cells, kept=kept, seed=seed)

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

        def by_name(question: Question) -> Any:
            layer = options.get("layer")
            if isinstance(layer, list | tuple):
                return [algorithms.explain_by_name(question, method, {**options, "layer": one}) for one in layer]
            return algorithms.explain_by_name(question, method, options)

        return self._asked(by_name, x, target, of, output)

    def _asked(
        self, algorithm: Callable[..., Any], x: Any, target: Any, of: Of, output: str | None, **options: Any
    ) -> Explanation:
        """The algorithm's answer; where ``x`` is pictures, laid over them, and for a list of pictures a list."""
        x, pictures = opened(x, self._bundle.manifest)
        answer = algorithm(Question(self._engine, x, target, output, of), **options)
        result: Explanation = answer if pictures is None else pictures.placed(answer)
        return result
