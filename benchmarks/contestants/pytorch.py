"""The methods' published formulas in PyTorch: as it is, and compiled by ``torch.compile``."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contestants.base import Absent, Contestant
from benchmarks.subject import Question, Subject

RECTIFIERS = {"ReLU", "ReLU6", "GELU", "GELUActivation"}
"""Classes of modules, those of ``transformers`` among them."""


class InTorch(Contestant):
    """What all libraries on PyTorch share: the way of the input to the device, and of the answer back."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if self.setup.provider == "cuda" and not torch.cuda.is_available():
            raise Absent("this PyTorch has no CUDA")
        self.model = subject.model

    @abstractmethod
    def computation(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """From the input on the device to the answer on the device."""

    def answer(self, question: Question) -> Callable[[], Any]:
        """The computation, with the transfers or between synchronisations."""
        compute = self.computation(question, torch.from_numpy(question.classes).to(self.setup.provider))
        if self.setup.transfer:
            return lambda: compute(self._to_device(question.x)).detach().float().cpu()
        x = self._to_device(question.x)

        def run() -> Tensor:
            result = compute(x)
            self.setup.synchronize()
            return result

        return run

    def to_host(self, answer: Tensor) -> np.ndarray:
        """As an array."""
        return answer.detach().float().cpu().numpy()

    def module(self) -> nn.Module:
        """The module that Grad-CAM looks at."""
        return self.model.get_submodule(self.subject.network.layer)

    def _to_device(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(self.setup.provider, getattr(torch, self.setup.dtype))


class Torch(InTorch):
    """The formulas, one operation after the other."""

    name = "torch"

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return function

    def computation(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """One of the formulas."""
        if question.method == "grad_cam":
            return self._grad_cam(classes)
        model = guided(self.model) if question.method == "guided_backprop" else self.model
        gradient = partial(gradient_of, self.compiled(partial(score_of, model)))
        if question.method == "guided_backprop":
            return lambda x: gradient(x, classes)
        if question.method == "saliency":
            return lambda x: gradient(x, classes).abs().amax(1)
        formula = {"smooth_grad": smooth_grad, "integrated_gradients": integrated_gradients}[question.method]
        return lambda x: formula(gradient, x, classes, question)

    def _grad_cam(self, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """Differentiates by something that is added to the layer's output, 0: the output itself is inside the graph."""
        tapped = self.compiled(partial(tapped_score, self.model, self.module()))
        grid, shapes = self.subject.network.grid, {}

        def compute(x: Tensor) -> Tensor:
            if x.shape not in shapes:
                with torch.no_grad():
                    shapes[x.shape] = tapped_score(self.model, self.module(), x, classes, 0)[1].shape
            zero = torch.zeros(shapes[x.shape], dtype=x.dtype, device=x.device, requires_grad=True)
            score, values = tapped(x, classes, zero)
            return grad_cam(values, torch.autograd.grad(score, zero)[0], x.shape[2:], grid)

        return compute


class Compiled(Torch):
    """The same, with the forward pass and its gradient compiled for the shape of the batch."""

    name = "torch.compile"

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """By ``torch.compile``, which also compiles the backward pass that autograd calls."""
        return torch.compile(function, dynamic=False)

    def close(self) -> None:
        """Forget the compiled code."""
        torch.compiler.reset()


# ----- the formulas -----


def score_of(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """Σ over the samples of the score of each one's class."""
    return model(x).gather(1, classes[:, None]).sum()


def gradient_of(score: Callable[[Tensor, Tensor], Tensor], x: Tensor, classes: Tensor) -> Tensor:
    """∂S/∂x by autograd."""
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(score(leaf, classes), leaf)[0]


def tapped_score(model: nn.Module, module: nn.Module, x: Tensor, classes: Tensor, extra: Any) -> tuple[Tensor, Tensor]:
    """The score, and the module's output, to which something is added."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(output + extra)
        return kept[0]

    handle = module.register_forward_hook(keep)
    score = score_of(model, x, classes)
    handle.remove()
    return score, kept[0]


def grad_cam(values: Tensor, gradient: Tensor, size: torch.Size, grid: tuple[int, int] | None = None) -> Tensor:
    """ReLU(Σ_k α_k A_k), linearly resized (Selvaraju 2017). Tokens become their grid, without those in front of it."""
    if grid is not None:
        values, gradient = (tokens_as_maps(tensor, grid) for tensor in (values, gradient))
    space = tuple(range(2, values.ndim))
    heat = (gradient.mean(space, keepdim=True) * values).sum(1, keepdim=True).relu()
    return functional.interpolate(heat, size=tuple(size), mode="bilinear" if len(space) == 2 else "linear")[:, 0]


def tokens_as_maps(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, tokens, C) to (N, C, *grid)."""
    patches = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]
    return patches.transpose(1, 2).unflatten(2, grid)


def smooth_grad(gradient: Callable[[Tensor, Tensor], Tensor], x: Tensor, classes: Tensor, asked: Question) -> Tensor:
    """The mean gradient of noisy copies (Smilkov 2017); the noise is drawn on the device."""
    space = tuple(range(1, x.ndim))
    sigma = asked.noise * (x.amax(space, keepdim=True) - x.amin(space, keepdim=True))

    def noisy(part: slice) -> Tensor:
        drawn = torch.randn(part.stop - part.start, *x.shape, dtype=x.dtype, device=x.device)
        return x + sigma * drawn

    return averaged(gradient, noisy, torch.ones(asked.samples) / asked.samples, x, classes, asked.chunk)


def integrated_gradients(
    gradient: Callable[[Tensor, Tensor], Tensor], x: Tensor, classes: Tensor, asked: Question
) -> Tensor:
    """x times the mean gradient on the line from 0, by Gauss–Legendre (Sundararajan 2017)."""
    nodes, weights = (torch.from_numpy(array) / 2 for array in np.polynomial.legendre.leggauss(asked.samples))
    steps = (nodes + 0.5).to(x.device, x.dtype).reshape(-1, *[1] * x.ndim)
    return x * averaged(gradient, lambda part: steps[part] * x, weights, x, classes, asked.chunk)


def averaged(
    gradient: Callable[[Tensor, Tensor], Tensor],
    variant: Callable[[slice], Tensor],
    weights: Tensor,
    x: Tensor,
    classes: Tensor,
    chunk: int,
) -> Tensor:
    """Σ weights · gradient over variants (V, N, …), about ``chunk`` inputs at a time, in equal parts."""
    weights = weights.to(x.device, x.dtype)
    size = max(n for n in range(1, len(weights) + 1) if len(weights) % n == 0 and (n * len(x) <= chunk or n == 1))
    total = torch.zeros_like(x)
    for start in range(0, len(weights), size):
        part = slice(start, start + size)
        found = gradient(variant(part).flatten(0, 1), classes.repeat(size)).unflatten(0, (size, len(x)))
        total += torch.tensordot(weights[part], found, 1)
    return total


class _Positive(torch.autograd.Function):
    """The identity, whose derivative lets pass what is positive."""

    @staticmethod
    def forward(_context: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(_context: Any, passed: Tensor) -> Tensor:
        return passed.clamp(min=0)


class _Guided(nn.Module):
    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.rectifier = rectifier

    def forward(self, x: Tensor) -> Tensor:
        """As the rectifier."""
        return _Positive.apply(self.rectifier(x))


def guided(model: nn.Module) -> nn.Module:
    """The model with rectifiers that pass back only what is positive (Springenberg 2015); the weights are shared."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    found = copy.deepcopy(model, shared)
    for parent in list(found.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in RECTIFIERS:
                parent.add_module(name, _Guided(child))
    return found
