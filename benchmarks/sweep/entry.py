"""What the sweep converts: named models, each with how it is made and what it needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Package:
    """A package that a model or its weights come from.

    Attributes:
        requirement: what pip is asked for.
        module: what it installs.
    """

    requirement: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether it is there; it is not imported."""
        return importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class Subject:
    """A model, ready to be converted.

    Attributes:
        model: a ``torch.nn.Module``, a ``keras.Model`` or the path of an ``.onnx`` file.
        example: what ``onnxviz.convert`` is given as ``example``.
    """

    model: Any
    example: Any = None


@dataclass(frozen=True)
class Entry:
    """One model of the sweep.

    Attributes:
        family: the row of the table that it counts in.
        name: its own, unique in the family.
        build: makes it, the same at each call. Frameworks are imported in here, so that the list is cheap.
        needs: the packages without which it cannot be made.
        small: whether the tests take it as well.
    """

    family: str
    name: str
    build: Callable[[], Subject]
    needs: tuple[Package, ...] = ()
    small: bool = False

    @property
    def key(self) -> str:
        """``family/name``, which ``--model`` matches."""
        return f"{self.family}/{self.name}"

    @property
    def missing(self) -> list[Package]:
        """Those of :attr:`needs` that are not installed."""
        return [package for package in self.needs if not package.installed]
