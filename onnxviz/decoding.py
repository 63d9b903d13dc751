"""JSON back into dataclasses, by the types that their fields declare."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict


def decoded(kind: Any, value: Any) -> Any:
    """A value out of JSON as the type that is declared for it; TypeError where it is of another."""
    if kind is Any or (isinstance(kind, type) and kind.__module__ == "builtins" and type(value) is kind):
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        fitting = [one for one in inner if _fits(one, value)]
        if fitting:
            return decoded(fitting[0], value)
    elif is_dataclass(kind) and isinstance(value, dict):
        hints = _hints(cast("type", kind))
        if unknown := value.keys() - hints.keys():
            raise TypeError(f"unknown: {min(unknown)!r}")
        return cast("type", kind)(**{key: decoded(hints[key], one) for key, one in value.items()})
    elif is_typeddict(kind) and isinstance(value, dict):
        hints = _hints(kind)
        if odd := (value.keys() - hints.keys()) | (kind.__required_keys__ - value.keys()):
            raise TypeError(f"unknown, or missing: {min(odd)!r}")
        return {key: decoded(hints[key], one) for key, one in value.items()}
    elif origin is list and isinstance(value, list):
        return [decoded(inner[0], one) for one in value]
    elif origin is tuple and isinstance(value, list):
        return tuple(decoded(inner[0], one) for one in value)
    elif origin is dict and isinstance(value, dict):
        return {key: decoded(inner[1], one) for key, one in value.items()}
    raise TypeError(f"{str(value)[:50]!r} is no {getattr(kind, '__name__', kind)}")


def _fits(kind: Any, value: Any) -> bool:
    """Whether a member of a union is the one for a value."""
    holder = {tuple: list}.get(get_origin(kind), get_origin(kind) or kind)
    return type(value) is holder


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
