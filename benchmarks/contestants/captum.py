"""Captum."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from captum.attr import (
    GuidedBackprop,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)  # fmt: skip
from torch import Tensor

from benchmarks.contestants.base import Absent
from benchmarks.contestants.pytorch import RECTIFIERS, InTorch
from benchmarks.subject import Question


class Captum(InTorch):
    """Its attribution classes, with what they leave to their user: the maximum over channels, and the size of maps."""

    name = "captum"

    def computation(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """One of its classes."""
        function: Callable[[Question, Tensor], Callable[[Tensor], Tensor]] = getattr(self, f"_{question.method}")
        return function(question, classes)

    def _saliency(self, _question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        method = Saliency(self.model)
        return lambda x: method.attribute(_leaf(x), target=classes).amax(1)

    def _guided_backprop(self, _question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        kinds = {type(module).__name__ for module in self.model.modules()} & RECTIFIERS
        if kinds != {"ReLU"}:
            raise Absent(f"its GuidedBackprop rewrites torch.nn.ReLU alone; this model has {', '.join(sorted(kinds))}")
        method = GuidedBackprop(self.model)

        def compute(x: Tensor) -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it sets hooks
                return method.attribute(_leaf(x), target=classes)

        return compute

    def _grad_cam(self, _question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        if self.subject.network.grid is not None:
            raise Absent("its LayerGradCam does not know tokens")
        method = LayerGradCam(self.model, self.module())
        mode = "bilinear" if len(self.subject.network.shape) == 3 else "linear"

        def compute(x: Tensor) -> Tensor:
            maps = method.attribute(_leaf(x), target=classes, relu_attributions=True)
            return LayerAttribution.interpolate(maps, tuple(x.shape[2:]), mode)[:, 0]

        return compute

    def _smooth_grad(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """One σ for the whole batch, as it takes no other."""
        method = NoiseTunnel(Saliency(self.model))
        at_once = max(1, question.chunk // len(question.x))

        def compute(x: Tensor) -> Tensor:
            return method.attribute(
                _leaf(x), target=classes, abs=False, nt_type="smoothgrad", nt_samples=question.samples,
                nt_samples_batch_size=at_once, stdevs=question.noise * float(x.max() - x.min()),
            )  # fmt: skip

        return compute

    def _integrated_gradients(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        method = IntegratedGradients(self.model)
        at_once = max(question.chunk, len(question.x))
        return lambda x: method.attribute(
            _leaf(x), target=classes, n_steps=question.samples, method="gausslegendre", internal_batch_size=at_once
        )


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()
