"""Methods and metrics by name, with options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from onnxviz.errors import OptionError, nearest

Names = str | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""A name, several, or a mapping from names to their options."""


class HasOptions(Protocol):
    """A method, or a metric."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options with their defaults."""


Known = TypeVar("Known", bound=HasOptions)


def with_options(kind: str, given: Names, known: Mapping[str, Known]) -> dict[str, dict[str, Any]]:
    """Name → options, in the order given; one name alone stands for a list of it.

    Args:
        kind: ``"method"`` or ``"metric"``, for messages.
        given: by the user.
        known: by name.

    Raises:
        OptionError: none, or a name or an option that is not there.
    """
    names = [given] if isinstance(given, str) else given
    chosen = {n: dict(o) for n, o in names.items()} if isinstance(names, Mapping) else {n: {} for n in names}
    if not chosen:
        raise OptionError(f"{kind}s is empty: give some of {', '.join(known)}, or None for the usual ones")
    for name, options in chosen.items():
        if name not in known:
            raise OptionError(f"there is no {kind} {name!r}; {kind}s: {', '.join(known)}{nearest(str(name), known)}")
        possible = known[name].options
        if unknown := sorted(options.keys() - possible.keys()):
            raise OptionError(
                f"{name} has no option {unknown[0]!r}; options: {', '.join(possible) or 'none'}"
                f"{nearest(unknown[0], possible)}"
            )
    return chosen
