"""What is to be converted: a network, the names of its layers, and how it is called with named inputs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxviz.errors import InputError, UnsupportedModelError
from onnxviz.source import WIDENED
from onnxviz_torch.state import laid_open, unwrapped

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Example = torch.Tensor | np.ndarray[Any, Any] | tuple[Any, ...] | list[Any] | Mapping[str, Any]

PARAMETRIZATIONS = "parametrizations"
"""Where ``torch.nn.utils.parametrize`` keeps what computes a module's weights, weight_norm among it."""

MISFIT = (RuntimeError, TypeError, ValueError, LookupError)
"""What a network raises when its inputs do not fit it."""


@dataclass(frozen=True)
class Subject:
    """A network that can be called with its inputs in order.

    Attributes:
        model: the network, out of its wrappers.
        names: qualified names of the submodules; one that stands in several places has the first of its names.
        types: the framework's names of the submodules' types.
        inputs: public names of the inputs, in the order of the call.
        arrange: puts the inputs in the form in which ``forward`` takes them.
        batch_may_vary: whether a symbolic batch may be tried.
        open_axes: input → axes whose sizes a program leaves open; None of a module, which says nothing of sizes.
        caveats: what was decided about the network, in sentences that belong to every result.
    """

    model: nn.Module
    names: dict[nn.Module, str]
    types: dict[nn.Module, str]
    inputs: tuple[str, ...]
    arrange: Callable[[Sequence[torch.Tensor]], Arguments]
    batch_may_vary: bool = True
    open_axes: Mapping[str, tuple[int, ...]] | None = None
    caveats: tuple[str, ...] = ()

    def __call__(self, tensors: Sequence[torch.Tensor]) -> object:
        """What ``forward`` returns. The inputs are copied, because a network may overwrite them."""
        args, kwargs = self.arrange([tensor.clone() for tensor in tensors])
        return self.model(*args, **kwargs)

    def tensor(self, value: object, name: str) -> torch.Tensor:
        """The value of an input as a tensor of the network's device, floats in the network's precision."""
        tensor = as_tensor(value, name)
        return tensor.to(device(self.model), precision(self.model) if tensor.is_floating_point() else None)


def of_module(model: nn.Module, example: Example) -> tuple[Subject, dict[str, torch.Tensor]]:
    """The subject that a module is, and the example under the names of the parameters of ``forward``.

    Raises:
        UnsupportedModelError: TorchScript inside, or parameters without a shape or without autograd.
        InputError: the example does not fit the signature of ``forward``.
    """
    model = unwrapped(model)
    _refuse_unsupported(model)
    caveats: tuple[str, ...] = ()
    if narrow(model):
        model, caveats = copy.deepcopy(model).float(), (WIDENED,)
    args, kwargs = call_arguments(example)
    signature = inspect.signature(model.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        message = f"the example does not fit forward{signature}: {error}; give a tensor, a tuple of them or a dict"
        raise InputError(message) from error
    positional = _positional_names(signature, len(args), set(bound.arguments))
    inputs = (*positional, *kwargs)

    def arrange(tensors: Sequence[torch.Tensor]) -> Arguments:
        return tuple(tensors[: len(args)]), dict(zip(kwargs, tensors[len(args) :], strict=True))

    with laid_open(model):
        names = layers(model)
    subject = Subject(
        model, names, {module: type(module).__name__ for module in names}, inputs, arrange, caveats=caveats
    )
    values = zip(inputs, (*args, *kwargs.values()), strict=True)
    return subject, {name: subject.tensor(value, name) for name, value in values}


def layers(model: nn.Module) -> dict[nn.Module, str]:
    """The submodules with their qualified names, but for parametrizations: what those compute are weights."""
    return {module: name for name, module in model.named_modules() if name and PARAMETRIZATIONS not in name.split(".")}


def call_arguments(example: Example) -> Arguments:
    """The example as positional and keyword arguments."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def as_tensor(value: object, name: str) -> torch.Tensor:
    """A tensor of its own memory from a tensor or a numeric array.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    message = (
        f"input {name!r} is a {type(value).__name__}, expected a tensor or a numeric array; "
        f"bind what is no tensor beforehand, in a module whose forward takes only tensors"
    )
    raise InputError(message)


def device(model: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU if it has none."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def precision(model: nn.Module) -> torch.dtype | None:
    """The float type of the network's first parameter of floats; None if it has none."""
    return next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None)


def narrow(model: nn.Module) -> bool:
    """Whether any of the network's numbers are bfloat16, which numpy and ONNX Runtime's CPU lack."""
    return any(tensor.dtype is torch.bfloat16 for tensor in (*model.parameters(), *model.buffers()))


def _positional_names(signature: inspect.Signature, count: int, bound: set[str]) -> list[str]:
    """Names of the first arguments; those that ``*args`` takes are ``args_0``, ``args_1``, …"""
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{position}" for position in range(count - len(names))]
        elif parameter.name in bound and parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return names[:count]


def _refuse_unsupported(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            message = (
                f"{f'layer {name!r}' if name else 'the model'} is TorchScript, which has lost its modules; "
                f"convert the nn.Module from which it was made, or torch.export.export of it"
            )
            raise UnsupportedModelError(message)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            message = f"parameter {name!r} has no shape yet; call the model once on an example before converting it"
            raise UnsupportedModelError(message)
        if parameter.is_inference():
            message = f"parameter {name!r} was made in inference mode, where autograd is lost; build the model outside"
            raise UnsupportedModelError(message)
