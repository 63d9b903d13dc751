"""Arguments of public functions, checked against their annotations before anything is done with them."""

from __future__ import annotations

import inspect
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

import numpy as np
import numpy.typing as npt

from onnxviz.errors import InputError, LayerError, OnnxvizError, OptionError, TargetError

P = ParamSpec("P")
R = TypeVar("R")
Class = TypeVar("Class", bound=type)

_ERRORS: dict[str, type[OnnxvizError]] = {
    "layer": LayerError, "layers": LayerError, "target": TargetError, "output": TargetError,
}  # fmt: skip
_LARGEST = 2**63
_PLAIN = {int: "an integer", float: "a finite number", str: "text", bool: "True or False", NoneType: "None"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses values that its annotations exclude.

    What is annotated ``Any``, or by a name that is imported for type checkers only, is left to the function. Integers
    are below 2⁶³, numbers finite, and no number is a truth. The error is LayerError for ``layer``, TargetError for
    ``target`` and ``output``, else OptionError; a missing or unknown argument stays a TypeError.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_KEYWORD or value is parameter.default:
                continue
            kind = _kind(function, name)
            if not _fits(kind, value) or (name == "seed" and value < 0):
                expected = "an integer, 0 or more" if name == "seed" else _said(kind)
                raise _ERRORS.get(name, OptionError)(f"{name}={reprlib.repr(value)}: expected {expected}")
        return function(*args, **kwargs)

    return call


def checked_methods(kind: Class) -> Class:
    """The class, with all its public methods :func:`checked`, inherited ones too."""
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if name == "__init__" or not name.startswith("_"):
            setattr(kind, name, checked(member))
    return kind


def as_array(values: Any, called: str) -> npt.NDArray[Any]:
    """Anything that numpy reads as an array; InputError for what it does not, such as rows of different lengths."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{called} ({type(values).__name__}) cannot be read as an array: {error}") from error


class _Public(dict[str, Any]):
    """The package's public names, imported when they are asked for."""

    def __missing__(self, name: str) -> Any:
        import onnxviz

        if name not in onnxviz.__all__:
            raise KeyError(name)
        return getattr(onnxviz, name)


@cache
def _kind(function: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter as a type."""
    written = function.__annotations__.get(name, Any)
    try:
        # Of our own code; public classes that it imports for type checkers only are looked up where users find them.
        return eval(written, function.__globals__, _Public()) if isinstance(written, str) else written  # noqa: S307
    except NameError:
        return Any


def _fits(kind: Any, value: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) for one in inner)  # which of them it is is for the function to say
    if kind in (None, NoneType):
        return value is None
    if kind in (bool, int, float, str):
        return _is_plain(kind, value)
    if origin in (Sequence, tuple, list):
        return _is_sequence(inner, value, fixed=origin is tuple and Ellipsis not in inner)
    if origin is Iterable:
        return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(_fits(inner[1], one) for one in value.values()) if inner else True
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    nominal = isinstance(kind, type) and kind is not Any and not getattr(kind, "_is_protocol", False)
    return isinstance(value, kind) if nominal else True


def _is_plain(kind: type, value: Any) -> bool:
    if kind is str:
        return isinstance(value, str)
    if kind is bool or isinstance(value, bool | np.bool_):
        return kind is bool and type(value) in (bool, np.bool_)
    if isinstance(value, int | np.integer):
        return bool(-_LARGEST <= value < _LARGEST)
    return kind is float and isinstance(value, float | np.floating) and math.isfinite(value)


def _is_sequence(inner: tuple[Any, ...], value: Any, *, fixed: bool) -> bool:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        return False
    if isinstance(value, np.ndarray) and not (value.ndim and value.size):
        return False
    if fixed:
        return len(value) == len(inner) and all(_fits(*pair) for pair in zip(inner, value, strict=True))
    return not inner or all(_fits(inner[0], one) for one in value)


def _said(kind: Any) -> str:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_said(one) for one in inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple and Ellipsis not in inner:
        return f"({', '.join(_said(one) for one in inner)})"
    if origin in (Sequence, Iterable, tuple, list):
        return f"a sequence of {_said(inner[0])}" if inner else "a sequence"
    if origin in (Mapping, dict):
        return "a dict"
    if origin is os.PathLike:
        return "a path"
    if getattr(kind, "__module__", "").startswith("onnxviz"):
        return f"an onnxviz.{kind.__name__}"
    return _PLAIN.get(cast("type", kind), getattr(kind, "__name__", str(kind)))
