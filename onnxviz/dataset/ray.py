"""Data sets explained on Ray Data: one Explainer in each actor, on the CPUs and GPUs of one machine or many."""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onnxviz.dataset.packages import optional
from onnxviz.dataset.parts import Part, Question, explained
from onnxviz.dataset.reading import Batch, read_now
from onnxviz.dataset.sources import Indexed, Source, one_sample
from onnxviz.engine.targets import Of, by_index
from onnxviz.errors import InputError, OptionError
from onnxviz.source import Array, Feeds

if TYPE_CHECKING:
    from onnxviz import Explainer

MOST_BLOCKS = 1000
"""Blocks of Ray that batches are handed out in at most; a block is what is repeated after an actor was killed."""


class ExplainBatch:
    """Explains the batches of a Ray data set: a class for ``map_batches``, whose actors keep their Explainer.

    ::

        photos = ray.data.read_images("photos/", include_paths=True)
        maps = photos.map_batches(
            ExplainBatch,
            fn_constructor_args=("net.onnx", "grad_cam"),
            fn_constructor_kwargs={"load": {"threads": 1}},
            compute=ray.data.ActorPoolStrategy(size=4),
            batch_size=32,
        )
        maps.write_parquet("maps")

    The column that is read goes, and there come ``map``, ``target`` (int64), ``score``, with ``top`` also ``top_class``
    and ``top_score``, and ``error``: empty, or why there is no map, which is then NaN.

    Args:
        file: path of the explainable file, on every machine.
        method: as for :func:`onnxviz.explain_dataset`, like the arguments that follow.
        target: None, a class, a weighting, or ``[[a, b]]``, several for all samples.
        column: of the batches: pictures (h, w, 3) uint8, paths of pictures, or arrays as the model takes them.
        load: arguments of :func:`onnxviz.load`, such as ``threads`` (give as many as the actor has CPUs) or
            ``providers``.
        on_error: ``"raise"`` InputError for what cannot be explained, or ``"skip"`` it.
        of: the score that is explained.
        output: of the model.
        dtype: of the maps.
        top: how many of the most probable classes come along.
        **options: of the method.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        method: str = "grad_cam",
        target: Any = None,
        *,
        column: str = "image",
        load: Mapping[str, Any] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        of: Of = "logits",
        output: str | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        top: int = 0,
        **options: Any,
    ) -> None:
        import onnxviz

        self.explainer = onnxviz.load(file, **(load or {}))
        self.question = Question(method, by_index(target, self.explainer.classes), of, output, options, dtype, top)
        self.column, self.on_error = column, on_error
        self._shape: tuple[int, ...] | None = None

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        """The batch with its maps."""
        if self.column not in batch:
            raise OptionError(f"column={self.column!r}: the batches have {', '.join(batch)}")
        values, others = batch[self.column], {n: x for n, x in batch.items() if n != self.column}
        samples = [self._read(value) for value in values]
        part = explained(self.explainer, self.question, Batch(0, 0, list(map(str, range(len(values)))), samples))
        for error in part.errors:
            if error is not None and self.on_error == "raise":
                raise InputError(f"{error}; on_error='skip' goes on without it")
        errors = np.array([error or "" for error in part.errors], dtype=object)
        return {**others, "map": self._maps(part), **part.columns, "error": errors}

    def _read(self, value: Any) -> Feeds | str:
        manifest = self.explainer.engine.bundle.manifest
        try:
            return one_sample(str(value) if isinstance(value, str | os.PathLike) else np.asarray(value), manifest)
        except (InputError, OSError) as error:
            return str(error)

    def _maps(self, part: Part) -> Array:
        there = [values for values in part.maps if values is not None]
        self._shape = there[0].shape if there else self._shape or self._shape_of_zeros()
        if any(values.shape != self._shape for values in there):  # a row each: their sizes differ
            ragged = np.empty(len(part.maps), dtype=object)
            ragged[:] = [np.full(self._shape, np.nan, self.question.dtype) if m is None else m for m in part.maps]
            return ragged
        missing = np.full(self._shape, np.nan, self.question.dtype)
        return np.stack([missing if values is None else values for values in part.maps])

    def _shape_of_zeros(self) -> tuple[int, ...]:
        """The shape of a map, where no sample of the first batch has one."""
        inputs = self.explainer.inputs
        sizes = {t.name: [d if isinstance(d, int) and i else 1 for i, d in enumerate(t.shape)] for t in inputs}
        zeros: list[Feeds | str] = [{t.name: np.zeros(sizes[t.name], t.dtype) for t in inputs}]
        (values,) = explained(self.explainer, self.question, Batch(0, 0, ["zeros"], zeros)).maps
        return () if values is None else values.shape


class _ExplainNumbered:
    """Explains the batches of a source that each actor reads for itself, by their numbers."""

    def __init__(
        self, file: str, load: Mapping[str, Any], question: Question, source: Indexed, batch_size: int
    ) -> None:
        import onnxviz

        self.explainer = onnxviz.load(file, **load)
        self.question, self.source, self.batch_size = question, source, batch_size

    def __call__(self, rows: dict[str, Array]) -> dict[str, list[Any]]:
        manifest = self.explainer.engine.bundle.manifest
        batches = [self.source.batch(int(number), self.batch_size, manifest) for number in rows["number"]]
        parts = [explained(self.explainer, self.question, read_now(batch)) for batch in batches]
        return {"part": [pickle.dumps(part, protocol=5) for part in parts]}


def threads_of(explainer: Explainer, options: Mapping[str, Any]) -> dict[str, Any]:
    """How many threads an actor's Explainer has: those that were asked for, else one for each of its CPUs."""
    return {"threads": explainer.engine.threads or max(1, int(options.get("num_cpus") or 1))}


def settings_of(explainer: Explainer) -> dict[str, Any]:
    """How an Explainer was opened, as far as it makes a difference elsewhere."""
    engine = explainer.engine
    return {
        "providers": engine.providers, "precision": engine.precision, "batch_size": engine.chunks.batch_size,
        "optimize": engine.optimizations,
    }  # fmt: skip


def elsewhere(
    file: str,
    load: Mapping[str, Any],
    question: Question,
    source: Source,
    numbers: Sequence[int],
    batch_size: int,
    options: Mapping[str, Any],
) -> Generator[Part]:
    """Parts explained by the actors of a Ray cluster, in order.

    Args:
        file: the path of the explainable file, on every machine.
        load: how the actors open it.
        question: what is asked.
        source: which each actor reads.
        numbers: of the batches.
        batch_size: samples in each.
        options: ``concurrency``, and arguments of ``map_batches``.

    Raises:
        OptionError: no concurrency, or a source that only this process can read.
        MissingDependencyError: Ray is not installed.
    """
    data = optional("ray.data")
    resources = dict(options)
    concurrency = resources.pop("concurrency", None)
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
        raise OptionError(f"ray={dict(options)!r}: expected {{'concurrency': the number of actors, …}}")
    if not isinstance(source, Indexed):
        raise OptionError(
            "ray= needs a source that each machine can read: files, an array or .zarr; for what is iterated over make "
            "a Ray data set and give its map_batches onnxviz.dataset.ray.ExplainBatch"
        )
    return _run(data, (file, load, question, source, batch_size), numbers, concurrency, resources)


def _run(
    data: Any, arguments: tuple[Any, ...], numbers: Sequence[int], concurrency: int, resources: Mapping[str, Any]
) -> Generator[Part]:
    if not numbers:
        return
    rows = data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=min(len(numbers), MOST_BLOCKS)
    )
    rows.context.execution_options.preserve_order = True  # the first map says what shape the others have
    rows.context.enable_progress_bars = False  # the bar is that of the whole
    parts = rows.map_batches(
        _ExplainNumbered,
        fn_constructor_args=arguments,
        compute=data.ActorPoolStrategy(size=concurrency),
        batch_size=1,
        **resources,
    )
    for row in parts.iter_rows():
        yield pickle.loads(row["part"])  # noqa: S301 - made by our own actors
