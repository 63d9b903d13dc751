"""Attributions as Captum gives them: ``Saliency(ex).attribute(x, target=281)``, with an explainer as the model.

Results have the kind of what was given (a tensor of PyTorch comes back as one, on its device; a tuple of one input as a
tuple) and Captum's shapes. The score is the model's own output, as in Captum: where the model ends in a softmax or
sigmoid its probability. ``target`` is a class for all samples or one for each; of outputs of more axes a tuple of
indices, or a list of them; None where there is one score alone. What differs from Captum (captum.ai, 0.9): layers are
given by name, ``additional_forward_args`` are the model's further inputs, in order, what regulates memory there
(``internal_batch_size``, ``perturbations_per_eval``, ``nt_samples_batch_size``, ``show_progress``) changes nothing, and
noise is drawn from ``seed``.
"""

# ruff: noqa: FBT001, FBT002 - the arguments are Captum's

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from onnxviz.compat.captum_arguments import (
    baseline_of,
    check_first,
    check_windows,
    inputs_of,
    layer_name,
    sizes_along,
    target_of,
)
from onnxviz.compat.shared import explainer, like, own_score, refuse
from onnxviz.engine.inputs import array
from onnxviz.errors import LayerError, OptionError
from onnxviz.source import Array


class _Attribution(ABC):
    """What is made of an explainer, in the place of Captum's ``forward_func`` or ``model``."""

    def __init__(self, forward_func: Any) -> None:
        self.forward_func = explainer("forward_func", forward_func)

    @abstractmethod
    def attribute(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """Attributions of ``inputs``."""

    def _asked(
        self,
        inputs: Any,
        target: Any,
        further: Any,
        answer: Callable[[Any, dict[str, Any]], Array],
        *,
        of_layer: bool = False,
    ) -> Any:
        """``answer(x, {"target": …, "of": …})``, as the inputs were given."""
        ex = self.forward_func
        given, x = inputs_of(inputs, further)
        if not of_layer:
            check_first(ex)
        asked = {"target": target_of(ex, target, len(x[0])), "of": own_score(ex)}
        found = like(answer(x if len(x) > 1 else x[0], asked), given)
        return (found,) if isinstance(inputs, tuple) else found


class Saliency(_Attribution):
    """The gradient's absolute value (Simonyan 2013, arXiv:1312.6034)."""

    def attribute(self, inputs: Any, target: Any = None, abs: bool = True, additional_forward_args: Any = None) -> Any:  # noqa: A002 - as Captum's
        """Like the inputs; with ``abs=False`` the gradient itself."""

        def answer(x: Any, asked: dict[str, Any]) -> Array:
            gradient = self.forward_func.gradient(x, **asked).values
            return np.abs(gradient) if abs else gradient

        return self._asked(inputs, target, additional_forward_args, answer)


class _Method(_Attribution):
    """A method of the explainer that takes nothing else."""

    method: str

    def attribute(self, inputs: Any, target: Any = None, additional_forward_args: Any = None) -> Any:
        """Like the inputs."""
        return self._asked(
            inputs, target, additional_forward_args,
            lambda x, asked: self.forward_func.explain(x, self.method, **asked).values,
        )  # fmt: skip


class InputXGradient(_Method):
    """Input times gradient (Shrikumar 2016, arXiv:1605.01713)."""

    method = "input_x_gradient"


class GuidedBackprop(_Method):
    """Guided backprop (Springenberg 2015, arXiv:1412.6806)."""

    method = "guided_backprop"


class Deconvolution(_Method):
    """Deconvnet (Zeiler 2014, arXiv:1311.2901)."""

    method = "deconvnet"


class IntegratedGradients(_Attribution):
    """Integrated gradients (Sundararajan 2017, arXiv:1703.01365); ``multiply_by_inputs=False`` is not offered."""

    def __init__(self, forward_func: Any, multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        refuse("IntegratedGradients", **({} if multiply_by_inputs else {"multiply_by_inputs": "False"}))

    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Like the inputs; with ``return_convergence_delta`` also Σ attributions − (S(x) − S(baseline)), (N,)."""
        del internal_batch_size
        if method != "gausslegendre":
            raise OptionError(f"method={method!r}: 'gausslegendre' alone is offered")
        deltas: list[Array] = []

        def answer(x: Any, asked: dict[str, Any]) -> Array:
            found = self.forward_func.integrated_gradients(x, baseline=baseline_of(baselines), n_steps=n_steps, **asked)
            deltas.append(-np.asarray(found.options["completeness_gap"], np.float32))
            return found.values

        attributions = self._asked(inputs, target, additional_forward_args, answer)
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        return (attributions, like(deltas[0], first)) if return_convergence_delta else attributions


class Occlusion(_Attribution):
    """By how much the score falls where a window is covered (Zeiler & Fergus 2014, arXiv:1311.2901)."""

    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Like the inputs; channels that a window covers have the same value.

        Args:
            inputs: (N, …).
            sliding_window_shapes: the window's size along each axis but the batch; all channels.
            strides: from window to window, one number or one for each axis; None is 1. Where they do not
                lead to the input's end, the last window is moved to end there, with a warning; Captum cuts it off.
            baselines: what covers; None is 0.
            target: see the module.
            additional_forward_args: see the module.
            perturbations_per_eval: changes nothing.
            show_progress: changes nothing.
        """
        del perturbations_per_eval, show_progress
        tensor = self.forward_func.inputs[0]
        rest = tuple(range(1, len(tensor.shape)))
        window = sizes_along("sliding_window_shapes", sliding_window_shapes, len(rest))
        steps = sizes_along("strides", 1 if strides is None else strides, len(rest))
        space = tensor.axes.spatial or rest

        def answer(x: Any, asked: dict[str, Any]) -> Array:
            full = np.shape(x[0] if isinstance(x, tuple) else x)
            check_windows(full, window, steps, space)
            found = self.forward_func.occlusion(
                x, window=[window[axis - 1] for axis in space], stride=[steps[axis - 1] for axis in space],
                baseline=baseline_of(baselines), **asked,
            ).values  # fmt: skip
            return np.array(np.broadcast_to(np.expand_dims(found, [axis for axis in rest if axis not in space]), full))

        return self._asked(inputs, target, additional_forward_args, answer)


class NoiseTunnel(_Attribution):
    """Another attribution of noisy inputs (Smilkov 2017, arXiv:1706.03825): its mean, mean square or variance."""

    def __init__(self, attribution_method: _Attribution) -> None:
        if not isinstance(attribution_method, _Attribution):
            raise OptionError(f"attribution_method is a {type(attribution_method).__name__}; expected Saliency(ex) …")
        super().__init__(attribution_method.forward_func)
        self.attribution_method = attribution_method

    def attribute(
        self,
        inputs: Any,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int | None = None,
        stdevs: Any = 1.0,
        draw_baseline_from_distrib: bool = False,
        *,
        seed: int = 0,
        **kwargs: Any,
    ) -> Any:
        """As the other attribution; ``kwargs`` are its own.

        Args:
            inputs: (N, …).
            nt_type: ``"smoothgrad"``, ``"smoothgrad_sq"`` or ``"vargrad"``.
            nt_samples: noisy copies of each sample.
            nt_samples_batch_size: changes nothing.
            stdevs: of the noise, in the input's unit.
            draw_baseline_from_distrib: not offered.
            seed: of the noise.
            kwargs: of the other attribution, such as ``target``.
        """
        del nt_samples_batch_size
        refuse("NoiseTunnel", draw_baseline_from_distrib=draw_baseline_from_distrib,
               return_convergence_delta=kwargs.get("return_convergence_delta"))  # fmt: skip
        if nt_type not in {"smoothgrad", "smoothgrad_sq", "vargrad"}:
            raise OptionError(f"nt_type={nt_type!r}: expected 'smoothgrad', 'smoothgrad_sq' or 'vargrad'")
        if isinstance(nt_samples, bool) or not isinstance(nt_samples, int) or nt_samples < 1:
            raise OptionError(f"nt_samples={nt_samples!r}: expected a positive integer")
        (given,) = inputs if isinstance(inputs, tuple) else (inputs,)
        (sigma,) = stdevs if isinstance(stdevs, tuple) else (stdevs,)
        x = array(given)
        total, squares = np.zeros(()), np.zeros(())
        for j in range(nt_samples):
            noise = np.random.default_rng([seed, j]).normal(0, sigma, x.shape)
            found = np.asarray(self.attribution_method.attribute((x + noise).astype(x.dtype), **kwargs), np.float64)
            total, squares = total + found / nt_samples, squares + found**2 / nt_samples
        values = {"smoothgrad": total, "smoothgrad_sq": squares, "vargrad": squares - total**2}[nt_type]
        result = like(values.astype(np.float32), given)
        return (result,) if isinstance(inputs, tuple) else result


class LayerActivation(_Attribution):
    """What a layer computes."""

    def __init__(self, forward_func: Any, layer: str | int) -> None:
        super().__init__(forward_func)
        self.layer = self.forward_func.layers[layer_name(layer)]

    def attribute(
        self, inputs: Any, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> Any:
        """Like the layer's output."""
        refuse("LayerActivation", attribute_to_layer_input=attribute_to_layer_input)
        given, x = inputs_of(inputs, additional_forward_args)
        return like(self.forward_func.features(x if len(x) > 1 else x[0], self.layer.name)[self.layer.name], given)


class LayerGradCam(_Attribution):
    """A layer's channels weighted by their mean gradient (Selvaraju 2017, arXiv:1610.02391), at the layer's size."""

    def __init__(self, forward_func: Any, layer: str | int) -> None:
        super().__init__(forward_func)
        self.layer = self.forward_func.layers.explainable(layer_name(layer))
        if self.layer.axes.channel is None or not self.layer.axes.spatial:
            raise LayerError(f"the channel and spatial axes of layer {self.layer.name!r} are not known")

    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
    ) -> Any:
        """Like the layer's output with one channel; all of them with ``attr_dim_summation=False``."""
        refuse("LayerGradCam", attribute_to_layer_input=attribute_to_layer_input)
        name, axes = self.layer.name, self.layer.axes

        def answer(x: Any, asked: dict[str, Any]) -> Array:
            slopes = self.forward_func.gradient(x, layer=name, **asked).values
            weighted = slopes.mean(axes.spatial, keepdims=True) * self.forward_func.features(x, name)[name]
            result = weighted.sum(axes.channel, keepdims=True) if attr_dim_summation else weighted
            return np.asarray(np.maximum(result, 0) if relu_attributions else result, np.float32)

        found = self._asked(inputs, target, additional_forward_args, answer, of_layer=True)
        return found[0] if isinstance(found, tuple) else found
