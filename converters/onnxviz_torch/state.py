"""The user's model, laid open for a while and put back as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    while True:
        children = dict(model.named_children())
        if "_orig_mod" in children:
            model = children["_orig_mod"]
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


@contextlib.contextmanager
def laid_open(model: nn.Module) -> Iterator[None]:
    """Inside, every module is plain (no wrapper, not compiled) and in eval mode; afterwards all is as before.

    What comes back, also after an error: train/eval flags, submodules, hooks, attributes, and the values of buffers
    that ``forward`` writes into. Flags are set one by one, because a model may override ``train()``. Fused attention,
    which would bypass the submodules, is off meanwhile.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    attributes = [(vars(module), _remembered(vars(module))) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for now, _ in attributes:
            now["training"] = False
            now.pop("_compiled_call_impl", None)
            children = now["_modules"]
            children.update({name: unwrapped(child) for name, child in children.items() if child is not None})
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for now, before in attributes:
            _put_back(now, before)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _remembered(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each attribute with a copy of its content, where it is a container that may be written into."""
    return {key: (value, value.copy() if isinstance(value, dict | list) else None) for key, value in attributes.items()}


def _put_back(now: dict[str, Any], before: dict[str, tuple[Any, Any]]) -> None:
    """Containers keep their identity, because handles of hooks and the user's code hold them."""
    now.clear()
    for key, (value, content) in before.items():
        now[key] = value
        if isinstance(value, dict):
            value.clear()
            value.update(content)
        elif isinstance(value, list):
            value[:] = content
