"""``ExportedProgram`` and ``.pt2``: the program is unflattened, so that it is a module with the original names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from onnxviz.errors import InputError, UnsupportedModelError
from onnxviz.source import seeded
from onnxviz_torch.archive import require_no_code
from onnxviz_torch.quiet import quiet
from onnxviz_torch.subject import Arguments, Example, Subject, call_arguments, layers, narrow

CALL = re.compile(r"@\d+")
"""``relu@1`` is how an unflattened program calls the second call of ``relu``."""

SEEDED_BATCH = 2

MISFIT = (
    RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, EOFError,
    MemoryError, BadZipFile,
)  # fmt: skip
"""What torch raises where an archive does not say what it must."""


def load(path: str | PathLike[str], *, trust_code: bool = False) -> torch.export.ExportedProgram:
    """The program in a ``.pt2`` file.

    Raises:
        UnsupportedModelError: another file name, no exported program inside, or code that is not trusted.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        message = f"{path.name!r} is no .pt2 file; save the model with torch.export.save, or convert the nn.Module"
        raise UnsupportedModelError(message)
    if not path.exists():
        message = f"there is no file {str(path)!r}"
        raise UnsupportedModelError(message)
    try:
        if not trust_code:
            require_no_code(path)
        with quiet():
            return torch.export.load(path)
    except UnsupportedModelError:
        raise
    except MISFIT as error:
        message = f"{path.name!r} holds no exported program that this torch loads ({_first_line(error)}); save it anew"
        raise UnsupportedModelError(message) from error


def of_program(
    program: torch.export.ExportedProgram, example: Example | None
) -> tuple[Subject, dict[str, torch.Tensor]]:
    """The subject that a program is, and the given example, its own, or a seeded one.

    Layers that the program does not need (dropout in eval mode), and outputs of layers that nothing reads, are not
    in it. Its batch is as it was exported, dynamic or static.

    Raises:
        InputError: the example does not fit, or there is none and an input holds integers.
        UnsupportedModelError: the program is bfloat16.
    """
    with quiet():
        model = torch.export.unflatten(program)
    if narrow(model):
        raise UnsupportedModelError(
            "the program is bfloat16, which numpy and most providers lack; export model.float() instead"
        )
    names = {module: CALL.sub("", name) for module, name in layers(model).items()}
    types = {module: _type(module) for module in names}
    specs = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    constants = {position: arg.value for position, arg in enumerate(specs) if isinstance(arg, ConstantArgument)}
    inputs = tuple(arg.name for arg in specs if not isinstance(arg, ConstantArgument))

    def arrange(tensors: Sequence[torch.Tensor]) -> Arguments:
        flat = iter(tensors)
        given = [constants[position] if position in constants else next(flat) for position in range(len(specs))]
        args, kwargs = pytree.tree_unflatten(given, program.call_spec.in_spec)
        return args, kwargs

    declared = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    dynamic = all(isinstance(declared[name].shape[0], torch.SymInt) for name in inputs if declared[name].ndim)
    axes = {
        name: tuple(axis for axis, size in enumerate(declared[name].shape) if axis and isinstance(size, torch.SymInt))
        for name in inputs
    }
    opened = {name: found for name, found in axes.items() if found}
    subject = Subject(model, names, types, inputs, arrange, batch_may_vary=dynamic, open_axes=opened)
    if example is None:
        values = _own_example(program, constants.keys(), [declared[name] for name in inputs])
    else:
        values = _given_example(example, inputs)
    return subject, {name: subject.tensor(value, name) for name, value in zip(inputs, values, strict=True)}


def _given_example(example: Example, inputs: Sequence[str]) -> list[Any]:
    args, kwargs = call_arguments(example)
    if len(args) + len(kwargs) != len(inputs) or not kwargs.keys() <= set(inputs):
        given = [*kwargs] or f"{len(args)} of them"
        message = f"the program's inputs are {list(inputs)}, the example has {given}"
        raise InputError(message)
    return [kwargs[name] for name in inputs] if kwargs else list(args)


def _own_example(
    program: torch.export.ExportedProgram, constants: Collection[int], declared: Sequence[torch.Tensor]
) -> list[Any]:
    if program.example_inputs is not None:
        flat = pytree.tree_leaves(program.example_inputs, is_leaf=lambda leaf: leaf is None)
        return [value for position, value in enumerate(flat) if position not in constants]
    if not all(value.is_floating_point() for value in declared):
        message = "the program has integer inputs and holds no example of them; give example=(tensor, …)"
        raise InputError(message)
    return [seeded([_size(extent) for extent in value.shape], seed=k) for k, value in enumerate(declared)]


def _size(extent: int | torch.SymInt) -> int:
    """The declared size; where it is symbolic, the size with which the program was traced."""
    return extent if isinstance(extent, int) else int(extent.node.hint or SEEDED_BATCH)


def _type(module: torch.nn.Module) -> str:
    """The class of the module that was exported: an unflattened one remembers its qualified name."""
    return str(vars(module).get("_ty") or type(module).__name__).rpartition(".")[2]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
