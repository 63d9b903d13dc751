"""Names of layers, and the hooks that collect what each layer computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle


def is_numeric(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds floats or integers, which is what a layer's value can be."""
    return not tensor.is_complex() and tensor.dtype is not torch.bool


def leaves(structure: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The numeric tensors in nested tuples, lists and mappings, each with its name.

    The k-th entry of a tuple is ``name:k``, the entry of a mapping ``name:key``. Other objects (None, numbers,
    caches of keys and values) have no leaves.
    """
    if isinstance(structure, torch.Tensor):
        if is_numeric(structure):
            yield name, structure
    elif isinstance(structure, Mapping):
        for key, child in structure.items():
            yield from leaves(child, f"{name}:{key}")
    elif isinstance(structure, tuple | list):
        for position, child in enumerate(structure):
            yield from leaves(child, f"{name}:{position}")


def named_outputs(result: object) -> dict[str, torch.Tensor]:
    """The tensors that ``forward`` returned: ``output``, ``output:k`` of a tuple, or the keys of a mapping."""
    if isinstance(result, Mapping):
        return {name: tensor for key, child in result.items() for name, tensor in leaves(child, str(key))}
    return dict(leaves(result, "output"))


class Recorder:
    """While it is entered, a copy of every layer's output is kept in :attr:`values`, in the order of completion.

    Args:
        names: the modules to listen to, with their qualified names. The second call of ``relu`` is ``relu#1``.
        wanted: the taps to keep; None keeps all.
        on_path: the copies become part of the computation, so that it can be differentiated with respect to them,
            whatever is done in place afterwards. It needs ``torch.autograd.graph.allow_mutation_on_saved_tensors``.
    """

    def __init__(
        self, names: Mapping[torch.nn.Module, str], wanted: Collection[str] | None = None, *, on_path: bool = False
    ) -> None:
        self.values: dict[str, torch.Tensor] = {}
        self.modules: dict[str, torch.nn.Module] = {}
        self._names = names
        self._wanted = wanted
        self._on_path = on_path
        self._calls: Counter[str] = Counter()
        self._versions: list[dict[int, int]] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for module in self._names:
            if self._on_path:
                self._handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            # bound to the module, because the tracer may call the hook with a proxy of it
            self._handles.append(module.register_forward_hook(partial(self._after, module)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def clear(self) -> None:
        """Forget what was collected: the next call of the model starts from the beginning."""
        self.values.clear()
        self.modules.clear()
        self._calls.clear()
        self._versions.clear()

    def _before(self, _module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self._versions.append({id(tensor): version(tensor) for tensor in tensors})

    def _after(self, module: torch.nn.Module, _caller: torch.nn.Module, _args: object, output: Any) -> Any:
        name = self._names[module]
        call = self._calls[name]
        self._calls[name] += 1
        before = self._versions.pop() if self._on_path else {}
        replaced: dict[int, torch.Tensor] = {}
        for tap, tensor in leaves(output, f"{name}#{call}" if call else name):
            if self._wanted is None or tap in self._wanted:
                self.modules[tap] = module
                self.values[tap] = copy = tensor.clone()
                if self._on_path:
                    overwritten = before.get(id(tensor), version(tensor)) != version(tensor)
                    replaced[id(tensor)] = follow(copy, tensor, overwritten=overwritten)
        return pytree.tree_map_only(torch.Tensor, lambda t: replaced.get(id(t), t), output) if replaced else None


def follow(copy: torch.Tensor, tensor: torch.Tensor, *, overwritten: bool) -> torch.Tensor:
    """The tensor that takes the place of ``tensor`` in the computation, computed from its ``copy``.

    Where the layer has overwritten its input, whoever else holds that tensor must depend on the copy as well: it is
    written into. Elsewhere a second copy is passed on, so that nothing overwrites the collected one.
    """
    if tensor.is_floating_point() and not copy.requires_grad and torch.is_grad_enabled():
        copy.requires_grad_()
    return tensor.copy_(copy) if overwritten else copy.clone()


def version(tensor: torch.Tensor) -> int:
    """How often the tensor was written into."""
    return tensor._version  # noqa: SLF001 - torch has no public name for it
