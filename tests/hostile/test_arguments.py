"""Every argument of every public function × values that it cannot mean: an OnnxvizError that names the argument.

The functions are found by looking, so that a new one is covered by existing: those of the package, of ``ov.plot`` and
``ov.targets``, and the methods of every public class, so of all results. What a function needs to be called at all is
taken from :data:`VALID` by the names of its arguments.
"""

from __future__ import annotations

import copy
import inspect
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.engine.bound import Bound
from onnxviz.engine.layers import LayerTable
from onnxviz.errors import OnnxvizError
from tests.hostile import specimens

SECONDS = 5
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
PICTURE = np.zeros((8, 8, 3), np.uint8)

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
    "a ragged list": [[1.0, 2.0], [3.0]],
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
    "picture": PICTURE, "weight": 1.0, "p": 2.0, "size": 8, "steps": 1, "n_steps": 2,
    "n_samples": 2, "n_masks": 4, "octaves": 1, "seconds": 0.01, "quiet": True, "values": X[:, 0],
    "maps": {"saliency": np.abs(X[:, 0])}, "pixels": PICTURE, "inputs": X, "sample": 0, "index": 0, "key": "r",
    "metric": "average_drop", "shape": (2, 4, 8, 8),
}  # fmt: skip
"""Values for arguments, by their names: those that a function requires, and those whose default takes long."""

OTHERWISE: dict[str, dict[str, Any]] = {
    "ex.maximize": {"target": 0},
    "convert": {"example": X},
    "ex.grad_cam": {"layer": "auto"},
    "ex.filters": {"layer": "c"},
    "ex.embed": {"layer": "logits"},
    "Explanation.overlay": {"image": PICTURE},
    "plot.feature_maps": {"maps": X[0]},
    "plot.overlay": {"map": X[0, 0], "image": PICTURE},
    "plot.compare": {"maps": {"a": X[:, 0]}},
    "plot.signal": {"series": X[0, 0, 0], "map": X[0, 0, 0]},
    "plot.timeline": {"series": X[0, 0, 0], "maps": X[0, 0]},
    "plot.sheet": {"images": list(X[0])},
    "plot.scatter": {"points": X[0, 0, :, :2]},
    "plot.filters": {"kernels": X},
    "targets.segmentation": {"mask": np.ones((8, 8), bool), "class_index": 1},
    "targets.box": {"boxes": 0, "entry": 1, "shape": (2, 5, 6)},
    "targets.similarity": {"reference": X[0, 0, 0]},
    "SanityCheck.insensitivity": {"method": "gradient"},
    "ImageInput.preset": {"name": "torchvision"},
    "ImageInput.from_processor": {"processor": {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}},
    "ImageInput.from_dict": {"description": {"size": 8}},
    "ImageInput.view": {"picture": (8, 8)},
    "ImageInput.pixels": {"x": X},
}
"""Where a function wants something else under that name."""

SUFFIXES = {"save": ".npz", "gif": ".gif", "report": ".html"}
"""Of what methods write."""
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
    "x": ["input", "picture", "images", "pixel"], "inputs": ["input", "picture"],
    "batches": ["input", "sample", "picture"],
    "image": ["input", "picture", "array"], "picture": ["picture", "array", "pixel"], "pixels": ["picture", "array"],
    "target": ["class", "layer", "channel"], "path": ["file", "folder"], "key": ["layer"],
    "start": ["input"], "method": ["option", "method"], "model": ["files"], "layers": ["layer"],
    "maps": ["method", "input"], "providers": ["provider"], "description": ["field", "size"], "name": ["preset"],
    "ex": ["file"],
}  # fmt: skip
"""What messages call an argument that has a name of its own to the user."""
FREE = {"custom_objects", "trust_code", "quiet", "cuda_graph", "title", "note"}
"""Arguments that are handed on, or whose truth alone counts."""
FEW = {"steps", "n_steps", "n_samples", "n_masks", "octaves", "quiet", "seconds"}
"""Arguments with defaults that take long."""
INSIDE = {"Blur.due", "Blur.replacement", "Explanation.derived", "L2.slope", "LpNorm.slope", "TotalVariation.slope"}
"""Methods that only the package calls."""


def methods(kind: type, *special: str) -> dict[str, Callable[..., Any]]:
    """The public methods of a class, inherited ones too, with those special ones."""
    return {
        name: member
        for name, member in inspect.getmembers(kind, callable)
        if (name[0] != "_" and not inspect.isclass(member) and not hasattr(Sequence, name)) or name in special
    }


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Every public function and method, and the classes that users make; methods as their classes have them."""
    public = {name: getattr(ov, name) for name in ov.__all__}
    modules = {name: vars(module) for name, module in public.items() if inspect.ismodule(module)}
    classes = {
        name: methods(kind) for name, kind in public.items() if inspect.isclass(kind) and kind is not OnnxvizError
    }
    groups = {
        "": {name: each for name, each in public.items() if name not in RECORDS and not inspect.ismodule(each)},
        **{n: {k: f for k, f in has.items() if _public(k, f, f"onnxviz.{n}")} for n, has in modules.items()},
        **{name: has for name, has in classes.items() if name != "Explainer"},
        "ex": classes["Explainer"],
        "layers": methods(LayerTable, "__getitem__"),
        "bound": methods(Bound, "__call__"),
    }
    named = {f"{group}.{name}".removeprefix("."): f for group, has in groups.items() for name, f in has.items()}
    return {name: function for name, function in named.items() if name not in INSIDE}


def _public(name: str, member: object, home: str) -> bool:
    return name[0] != "_" and inspect.isfunction(member) and member.__module__.startswith(home)


def arguments() -> list[tuple[str, str]]:
    """Function and argument, of all."""
    return [
        (name, each.name)
        for name, function in functions().items()
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


@pytest.fixture(scope="module")
def objects(ex) -> dict[str, object]:
    """What the methods are called on, by the name of the group."""
    return {
        "ex": ex,
        "layers": ex.layers,
        "bound": ex.bind(X, "saliency", target=1),
        "Explanation": ex.saliency(X, 1),
        "Maximization": ex.maximize(0, steps=4, snapshots=2),
        "Embedding": ex.embed(X, "logits"),
        "UnitStats": ex.unit_stats(X, "r"),
        "SanityCheck": ov.sanity_check(ex, X, target=1, methods=["gradient"], layers=1),
        "Evaluation": ov.evaluate(ex, VALID["maps"], X, 1, metrics=["average_drop"]),
        "ImageInput": ov.ImageInput(8),
        **{
            name: kind(1.0)
            for name, kind in {"L2": ov.L2, "Blur": ov.Blur, "TotalVariation": ov.TotalVariation}.items()
        },
        "LpNorm": ov.LpNorm(6, 1.0),
    }


def valid(
    name: str, function: Callable[..., Any], files: dict[str, Path], objects: dict[str, object], tmp_path: Path
) -> dict[str, Any]:
    """Arguments with which the function works."""
    known = {**VALID, "path": files["explainable"], "model": files["plain"], "ex": objects["ex"]}
    known |= {"stats": objects["UnitStats"], "source": X, "sink": tmp_path / "maps.zarr"}
    if name in {"convert", "ex.export"}:
        known["path"] = tmp_path / "written.onnx"
    elif (method := name.rpartition(".")[-1]) in SUFFIXES:
        known["path"] = tmp_path / f"written{SUFFIXES[method]}"
    known |= OTHERWISE.get(name, {})
    given = {}
    for each in inspect.signature(function).parameters.values():
        if each.name in known and (each.default is each.empty or each.name in FEW | OTHERWISE.get(name, {}).keys()):
            given[each.name] = known[each.name]
        assert each.default is not each.empty or each.name in given or each.kind is each.VAR_KEYWORD, each
    return given


def mistaken(argument: str, wrong: str, call: Callable[[], object]) -> str | None:
    """What is wrong with the answer to a wrong value; None if it is an answer, or a refusal that names the argument."""
    try:
        with in_time():
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
def test_a_wrong_argument_is_named(files, objects, tmp_path, monkeypatch, name, argument):
    monkeypatch.chdir(tmp_path)
    group, _, method = name.rpartition(".")
    function = getattr(objects[group], method) if group in objects else functions()[name]
    given = valid(name, function, files, objects, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            mistaken(argument, wrong, lambda value=value: function(**{**given, argument: copy.copy(value)}))
            for wrong, value in WRONG.items()
            if (argument, wrong) != ("seconds", "a large fraction")  # which it takes, as asked
        ]
    assert not (wrong := list(filter(None, found))), "\n".join(wrong)


def test_every_public_class_has_an_object_here(objects):
    assert {name.split(".")[0] for name in functions() if "." in name} - objects.keys() == {"plot", "targets"}
