"""A batch of samples explained: what a sink stores at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxviz.dataset.reading import Batch
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError, TargetError
from onnxviz.source import Array, Feeds

if TYPE_CHECKING:
    from onnxviz import Explainer, Explanation


class Column(NamedTuple):
    """A column of numbers beside the maps: name, type, shape of each entry, and the entry of a skipped sample."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fill: float


@dataclass(frozen=True)
class Question:
    """What is asked of every sample.

    Attributes:
        method: its name.
        target: as the methods of :class:`onnxviz.Explainer` take it, or an integer array with a row for each sample.
        of: the score that is explained.
        output: of the model.
        options: of the method.
        dtype: of the maps that are stored.
        top: how many of the most probable classes are kept.
        count: how many samples there are, if that is known.
    """

    method: str
    target: Any = None
    of: Of = "logits"
    output: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: Literal["float32", "float16"] = "float32"
    top: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise OptionError(f"dtype={self.dtype!r}: expected 'float32' or 'float16'")
        if self.top < 0:
            raise OptionError(f"top={self.top}: expected 0 or more")
        if isinstance(self.options.get("layer"), list | tuple):
            raise OptionError("a data set has one map for each sample: give layer= one layer, and each layer a sink")
        target = self._classes
        if target is not None and target.ndim and not self._by_row and not (target.ndim == 2 and len(target) == 1):
            known = "unknown, for the source is iterated over" if self.count is None else str(self.count)
            raise TargetError(
                f"target of shape {target.shape} for a data set: give one class, one row [[…]] of several for all "
                f"samples, or a row for each sample, whose number is {known}"
            )

    @property
    def _classes(self) -> Array | None:
        try:
            array = np.asarray(self.target)
        except ValueError as error:
            raise TargetError(f"target {self.target!r} is ragged: give the same number for each sample") from error
        return array if array.dtype.kind in "iu" else None

    @property
    def _by_row(self) -> bool:
        """Whether each sample has targets of its own."""
        classes = self._classes
        return classes is not None and classes.ndim in (1, 2) and len(classes) == self.count

    def columns(self) -> list[Column]:
        """What is stored beside the maps."""
        classes = self._classes
        several = () if classes is None or classes.ndim != 2 else (classes.shape[1],)
        columns = [Column("target", "int64", several, -1), Column("score", "float32", several, np.nan)]
        if self.top:
            columns += [
                Column("top_class", "int64", (self.top,), -1),
                Column("top_score", "float32", (self.top,), np.nan),
            ]
        return columns

    def target_of(self, positions: npt.NDArray[np.int64]) -> Any:
        """The target of these samples."""
        return np.asarray(self.target)[positions] if self._by_row else self.target


@dataclass(frozen=True)
class Part:
    """A batch explained.

    Attributes:
        number: of the batch.
        start: the position of its first sample.
        names: of its samples.
        errors: why a sample has no map; None of those that have one.
        maps: of each sample, or None.
        columns: numbers by the column's name, a row for each sample.
    """

    number: int
    start: int
    names: list[str]
    errors: list[str | None]
    maps: list[Array | None]
    columns: dict[str, Array]


def explained(explainer: Explainer, question: Question, batch: Batch) -> Part:
    """The part that a batch becomes; samples that the method refuses are skipped, with its reason.

    Samples of one shape are explained together, so that the same batch gives the same bits wherever it is computed.
    """
    count = len(batch.names)
    errors = [s if isinstance(s, str) else None for s in batch.samples]
    maps: list[Array | None] = [None] * count
    columns = {c.name: np.full((count, *c.shape), c.fill, c.dtype) for c in question.columns()}
    part = Part(batch.number, batch.start, batch.names, errors, maps, columns)
    for indices, samples in _alike(batch.samples):
        _explain(explainer, question, part, indices, samples)
    return part


def _explain(
    explainer: Explainer, question: Question, part: Part, indices: Sequence[int], samples: Sequence[Feeds]
) -> None:
    feeds = {
        t.name: np.concatenate([sample[t.name] for sample in samples]) for t in explainer.engine.bundle.manifest.inputs
    }
    target = question.target_of(part.start + np.array(indices))
    try:
        found = explainer.explain(
            feeds, question.method, target, of=question.of, output=question.output, **question.options
        )
    except InputError as error:  # one of them, which alone tells
        if len(indices) == 1:
            part.errors[indices[0]] = str(error)
            return
        for index, sample in zip(indices, samples, strict=True):
            _explain(explainer, question, part, [index], [sample])
        return
    _fill(part, indices, found, question.dtype)
    if question.top:
        best = explainer.top(feeds, question.top, output=question.output)
        for index, classes in zip(indices, best, strict=True):
            part.columns["top_class"][index, : len(classes)] = [i for i, _, _ in classes]
            part.columns["top_score"][index, : len(classes)] = [score for _, _, score in classes]


def _fill(part: Part, indices: Sequence[int], found: Explanation, dtype: str) -> None:
    if found.axes[0] != "batch" or len(found.values) != len(indices):
        raise OptionError(
            f"{found.method} gives values with the axes {found.axes}, shape {found.shape}: a data set needs one result "
            "for each sample, on the first axis"
        )
    for index, values in zip(indices, found.values, strict=True):
        part.maps[index] = values.astype(dtype, copy=False)
    for name, values in (("target", found.target), ("score", found.score)):
        column = part.columns[name]
        if values is not None and values.dtype.kind in "iuf" and values.shape == (len(indices), *column.shape[1:]):
            column[list(indices)] = values


def _alike(samples: Sequence[Feeds | str]) -> Iterator[tuple[list[int], list[Feeds]]]:
    """The samples that were read, with their indices, those of one shape together."""
    groups: dict[Any, tuple[list[int], list[Feeds]]] = {}
    for index, sample in enumerate(samples):
        if not isinstance(sample, str):
            shape = tuple((name, x.shape, x.dtype.str) for name, x in sample.items())
            indices, some = groups.setdefault(shape, ([], []))
            indices.append(index)
            some.append(sample)
    yield from groups.values()
