"""Every argument of every public function × values that it cannot mean: an OnnxvizError that names the argument.

The functions are found by looking, so that a new one is covered by existing; what it needs to be called at all is taken
from :data:`VALID` by the names of its arguments.
"""

from __future__ import annotations

import copy
import inspect
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.errors import OnnxvizError
from tests.hostile import specimens

SECONDS = 5
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)

WRONG: dict[str, Any] = {
    "nothing": None,
    "an object": object(),
    "a function": len,
    "a truth": True,
    "an unknown name": "no such thing",
    "no name": "",
    "bytes": b"abc",
    "a set": {1},
    "a dict": {"no such key": 1},
    "an empty dict": {},
    "an empty list": [],
    "an empty tuple": (),
    "a nested list": [[[]]],
    "a list of nothing": [None],
    "a list of names": ["no such thing", ""],
    "minus one": -1,
    "zero": 0,
    "a fraction": 0.3,
    "a large fraction": 1e300,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a huge integer": 10**30,
    "a huge negative integer": -(10**30),
    "a complex number": 1j,
    "a date": np.datetime64("2020-01-01"),
    "an empty array": np.zeros(0, np.float32),
    "an array of no samples": X[:0],
    "an array of too few axes": X[0, 0],
    "an array of too many axes": X[None, None],
    "another size": np.zeros((2, 3, 9, 5), np.float32),
    "integers": np.zeros((2, 3, 8, 8), np.int64),
    "text": np.full((2, 3, 8, 8), "a"),
    "objects": np.full((2, 3, 8, 8), None),
    "an array of NaN": np.full((2, 3, 8, 8), np.nan, np.float32),
    "an array with infinity": np.where(X > 1, np.inf, X).astype(np.float32),
}

VALID: dict[str, Any] = {
    "x": X, "batches": X, "images": X, "image": X[:1], "layer": "r", "target": 1, "method": "saliency", "k": 2,
    "picture": np.zeros((8, 8, 3), np.uint8), "weight": 1.0, "p": 2.0, "size": 8, "steps": 1, "n_steps": 2,
    "n_samples": 2, "n_masks": 4, "octaves": 1, "seconds": 0.01, "quiet": True, "values": X[:, 0],
    "maps": {"saliency": np.abs(X[:, 0])},
}  # fmt: skip
"""Values for arguments, by their names: those that a function requires, and those whose default takes long."""

OTHERWISE: dict[str, dict[str, Any]] = {
    "maximize": {"target": 0},
    "convert": {"example": X},
    "grad_cam": {"layer": "auto"},
    "filters": {"layer": "c"},
    "embed": {"layer": "logits"},
}
"""Where a function wants something else under that name."""


RECORDS = {
    "Embedding",
    "Evaluation",
    "Explainer",
    "Explanation",
    "Maximization",
    "OnnxvizError",
    "SanityCheck",
    "UnitStats",
}
"""Public classes that are results, or are made by a function."""
SAID = {
    "x": ["input", "picture"], "batches": ["input", "sample", "picture"], "image": ["input", "picture", "array"],
    "picture": ["picture", "array", "pixel"], "target": ["class", "layer", "channel"], "path": ["file", "folder"],
    "start": ["input"], "method": ["option"], "model": ["files"], "layers": ["layer"], "maps": ["method", "input"],
    "providers": ["provider"],
}  # fmt: skip
"""What messages call an argument that has a name of its own to the user."""
FREE = {"custom_objects", "trust_code", "quiet", "cuda_graph", "title"}
"""Arguments that are handed on, or whose truth alone counts."""


def functions(ex: ov.Explainer) -> dict[str, Callable[..., Any]]:
    """Every public function and method, and the classes that users make."""
    names = [name for name in ov.__all__ if name not in RECORDS and not inspect.ismodule(getattr(ov, name))]
    methods = [name for name, member in inspect.getmembers(ov.Explainer) if callable(member) and name[0] != "_"]
    return {name: getattr(ov, name) for name in names} | {f"ex.{name}": getattr(ex, name) for name in methods}


def arguments() -> list[tuple[str, str]]:
    """Function and argument, of all."""
    return [
        (name, each.name)
        for name, function in functions(ov.Explainer).items()
        for each in inspect.signature(function).parameters.values()
        if each.name not in {"self", *FREE} and each.kind is not each.VAR_KEYWORD
    ]


@contextmanager
def in_time() -> Iterator[None]:
    """TimeoutError after :data:`SECONDS`."""

    def ended(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return specimens.healthy(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def ex(files) -> Iterator[ov.Explainer]:
    with ov.load(files["explainable"], providers="cpu", threads=1) as explainer:
        yield explainer


def valid(
    name: str, function: Callable[..., Any], files: dict[str, Path], ex: ov.Explainer, tmp_path: Path
) -> dict[str, Any]:
    """Arguments with which the function works."""
    known = {**VALID, "path": files["explainable"], "model": files["plain"], "ex": ex}
    if name in {"convert", "ex.export"}:
        known["path"] = tmp_path / "written.onnx"
    known |= OTHERWISE.get(name.removeprefix("ex."), {})
    given = {}
    for each in inspect.signature(function).parameters.values():
        if each.name in known and (
            each.default is each.empty
            or each.name in {"steps", "n_steps", "n_samples", "n_masks", "octaves", "quiet", "seconds"}
        ):
            given[each.name] = known[each.name]
        assert each.default is not each.empty or each.name in given or each.kind is each.VAR_KEYWORD, each
    return given


def mistaken(argument: str, wrong: str, call: Callable[[], object]) -> str | None:
    """What is wrong with the answer to a wrong value; None if it is an answer, or a refusal that names the argument."""
    try:
        with in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except OnnxvizError as error:
        said = str(error)
        return (
            None
            if any(word in said for word in (argument, *SAID.get(argument, ())))
            else f"{wrong}: {type(error).__name__} does not name it: {said[:150]}"
        )
    except Exception as error:  # noqa: BLE001 - that there is none is what is tested
        return f"{wrong}: {type(error).__name__}: {str(error)[:150]}"
    return None


@pytest.mark.parametrize(("name", "argument"), arguments())
def test_a_wrong_argument_is_named(files, ex, tmp_path, monkeypatch, name, argument):
    monkeypatch.chdir(tmp_path)
    function = functions(ex)[name]
    given = valid(name, function, files, ex, tmp_path)
    found = [
        mistaken(argument, wrong, lambda value=value: function(**{**given, argument: copy.copy(value)}))
        for wrong, value in WRONG.items()
        if (argument, wrong) != ("seconds", "a large fraction")  # which it takes, as asked
    ]
    assert not [each for each in found if each]
