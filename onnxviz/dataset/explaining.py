"""``onnxviz.explain_dataset``."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from onnxviz.arguments import checked
from onnxviz.dataset.identity import identity_of, require_same_names
from onnxviz.dataset.parts import Part, Question, explained
from onnxviz.dataset.reading import read_ahead
from onnxviz.dataset.sinks import Sink, sink_of
from onnxviz.dataset.sources import Indexed, Listed, Source, Stream, source_of
from onnxviz.dataset.summary import Summary
from onnxviz.dataset.writing import Writer
from onnxviz.engine.targets import Of, by_index
from onnxviz.errors import InputError, OptionError
from onnxviz.manifest import Manifest

if TYPE_CHECKING:
    from onnxviz import Explainer

WORKERS = 2
"""Threads that read, unless another number is asked for: they keep ahead of two cores that explain."""


@checked
def explain_dataset(
    source: Any,
    sink: str | os.PathLike[str],
    *,
    ex: Explainer | str | os.PathLike[str],
    method: str = "grad_cam",
    target: Any = None,
    of: Of = "logits",
    output: str | None = None,
    batch_size: int = 32,
    workers: int = WORKERS,
    dtype: Literal["float32", "float16"] = "float32",
    top: int = 0,
    resume: bool = True,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool = True,
    ray: Mapping[str, Any] | None = None,
    **options: Any,
) -> Summary:
    """Explain every sample of a data set, into Zarr or Parquet; memory does not grow with their number.

    Samples are read by threads, explained in batches, and stored beside the computing. A batch is either in the sink or
    not, whatever becomes of the process: called again, it goes on where it was killed, repeating and losing nothing.
    What cannot be read or explained is stored as skipped, with the reason, and told in the summary.

    Maps have the network's size, not the photo's: ``ex.image_input.view((height, width)).place(map, (0, 1))`` lays one
    over a photo of that size.

    A ``.zarr`` sink is a group (Zarr format 3) of arrays with a row for each sample, in the source's order: ``map``
    (N, …), NaN where skipped; ``target``, int64, −1 where there is no class; ``score``; ``top_class`` and ``top_score``
    (N, k); ``name``; ``status``, 1 explained, 2 skipped, 0 not yet; ``error``. A ``.parquet`` sink is a folder of files
    with a row for each sample: ``index``, ``name``, ``error`` (null where explained), ``map`` (a list, the last axis
    first), ``map_shape``, and the same other columns; here maps may differ in size::

        group = zarr.open_group("maps.zarr", mode="r")
        maps = group["map"].oindex[group["status"][:] == 1]

        table = pandas.read_parquet("maps.parquet").sort_values("index")
        first = table["map"].iloc[0].reshape(table["map_shape"].iloc[0])
        scores = pyarrow.dataset.dataset("maps.parquet").to_table(columns=["name", "score"])

    Args:
        source: a folder of pictures and arrays (not of its subfolders), a glob, a list of paths; a ``.npy`` (mapped,
            not read), ``.npz`` or ``.csv``; a ``.zarr`` array; an array (N, …); or an iterable of (name, array), one
            sample each. Arrays and tables are as ``ex.explain`` and ``onnxviz explain`` take them.
        sink: path of the folder, ending with ``.zarr`` or ``.parquet``.
        ex: the Explainer, or the path of its file.
        method: one of ``onnxviz.methods()``; its options, such as ``layer=``, follow as further arguments.
        target: None (the class on top), a class by index or name, ``[[a, b]]``, several for all samples, a weighting
            (C,), or a list or integer array with a row for each sample.
        of: see :class:`~onnxviz.Explainer`.
        output: see :class:`~onnxviz.Explainer`.
        batch_size: samples that are explained and stored together: a chunk or a file. 32 maps of 227 × 227 are 6 MiB;
            give more on a GPU, or for many small samples.
        workers: threads that read; pictures are decoded beside one another.
        dtype: of the stored maps; ``"float16"`` takes half the room: values below 6e-8 become 0, above 65504 infinite.
        top: how many of the most probable classes are stored; costs a forward pass.
        resume: go on with the sink that is there, if source, file, method and options are the same; what was skipped is
            not tried again. False begins anew: what is there is removed once the first batch of the new one is done, if
            it is a data set of onnxviz.
        on_error: ``"skip"`` goes on without a sample, ``"raise"`` raises InputError; what was done before stays.
        progress: show a bar, on a terminal only.
        ray: run on Ray Data, on all machines of the cluster that ``ray.init`` joined: ``{"concurrency": 8}`` is the
            number of actors, each of which opens the file and reads its samples, so that paths must hold on all
            machines; further entries such as ``num_cpus`` or ``num_gpus`` are those of ``map_batches``. The sink is
            written here. An actor computes in ``num_cpus`` threads, 1 by default, unless ``ex`` is an Explainer
            opened with ``threads=``, whose providers, precision, batch size and optimisations hold as well. With the
            same threads the maps are those of one process to the bit. Killed actors are replaced. For data sets of
            Ray's own see :class:`onnxviz.dataset.ray.ExplainBatch`.
        **options: of the method.

    Returns:
        How many samples were explained, which were skipped and why, and how long it took; it prints well.

    Raises:
        OptionError: an impossible argument; or ``resume``, and the sink was begun with something else, which is named.
        InputError: the source holds nothing, or gives what is no sample; or ``on_error="raise"``.
        MissingDependencyError: ``pip install 'onnxviz[data]'``, or ``[ray]``.
        FileAccessError: the sink cannot be written: make room and call again; or another process writes there now.
        TargetError, LayerError: as the method.
    """
    if batch_size < 1 or workers < 1:
        name, value = ("batch_size", batch_size) if batch_size < 1 else ("workers", workers)
        raise OptionError(f"{name}={value}: expected 1 or more")
    if on_error not in ("skip", "raise"):
        raise OptionError(f"on_error={on_error!r}: expected 'skip' or 'raise'")
    began = time.perf_counter()
    with _opened(ex) as explainer:
        _require_batched(explainer)
        samples = source_of(source, explainer.engine.bundle.manifest)
        question = Question(method, by_index(target, explainer.classes), of, output, options, dtype, top, samples.count)
        stored = sink_of(sink, batch_size, question.columns(), dtype)
        with closing(stored):
            stored.begin(identity_of(explainer, question, samples, batch_size), samples, resume=resume)
            todo = _Todo(samples, stored, batch_size)
            if ray is None:
                parts = _here(explainer, question, todo, workers)
            else:
                from onnxviz.dataset.ray import elsewhere, settings_of, threads_of

                load = threads_of(explainer, ray) | (settings_of(explainer) if ex is explainer else {})
                parts = elsewhere(str(explainer.path.resolve()), load, question, samples, todo.left, batch_size, ray)
            _store(parts, stored, todo, total=samples.count, strict=on_error == "raise", progress=progress)
            stored.finish(todo.count)
    return Summary(stored.path, todo.count, tuple(stored.skipped()), todo.resumed, time.perf_counter() - began)


def _opened(ex: Explainer | str | os.PathLike[str]) -> AbstractContextManager[Explainer]:
    """The Explainer, closed at the end if it was opened here."""
    from onnxviz import load

    return load(ex) if isinstance(ex, str | os.PathLike) else nullcontext(ex)


def _require_batched(explainer: Explainer) -> None:
    for tensor in explainer.inputs:
        if tensor.axes.batch != 0:
            raise InputError(
                f"input {tensor.name!r} has no batch axis, so that no data set can be made of the source: explain its "
                "samples one by one"
            )


class _Todo:
    """What is left to do of a source.

    Attributes:
        count: samples in all; of a stream those that came so far.
        resumed: those of them that were there before.
        left: numbers of the batches that are not there; of a stream they are found while it comes.
    """

    def __init__(self, source: Source, sink: Sink, batch_size: int) -> None:
        self._source, self._sink, self._size = source, sink, batch_size
        self.count, self.resumed = source.count or 0, 0
        self.left: list[int] = []
        if isinstance(source, Indexed):
            self.left = [number for number in range(-(-self.count // batch_size)) if not sink.has(number)]
            self.resumed = self.count - sum(min(batch_size, self.count - number * batch_size) for number in self.left)

    def batches(self, manifest: Manifest) -> Iterator[Listed]:
        """The batches that are not there.

        Raises:
            OptionError: a stream does not begin as it did when the sink was begun.
            InputError: it holds nothing.
        """
        if isinstance(self._source, Indexed):
            for number in self.left:
                yield self._source.batch(number, self._size, manifest)
        elif isinstance(self._source, Stream):
            yield from self._streamed(self._source, manifest)

    def _streamed(self, source: Stream, manifest: Manifest) -> Iterator[Listed]:
        number, sink = -1, self._sink
        for number, batch in enumerate(source.batches(self._size, manifest)):
            self.count += len(batch.names)
            if sink.has(number):
                self.resumed += len(batch.names)
                require_same_names(sink.path, batch.start, sink.names(number), batch.names)
            else:
                yield batch
        if sink.has(number + 1):
            require_same_names(sink.path, self.count, sink.names(number + 1), [])
        if not self.count:
            raise InputError("source holds no samples (an iterator can be read once only)")


def _here(explainer: Explainer, question: Question, todo: _Todo, workers: int) -> Generator[Part]:
    """Parts explained by this process, in order."""
    for batch in read_ahead(todo.batches(explainer.engine.bundle.manifest), workers):
        yield explained(explainer, question, batch)


def _store(parts: Generator[Part], sink: Sink, todo: _Todo, *, total: int | None, strict: bool, progress: bool) -> None:
    from tqdm import tqdm

    shown = None if progress else True  # None is a terminal
    bar = tqdm(total=total, initial=todo.resumed, desc=sink.path.name, unit="", disable=shown, leave=False)
    with bar, closing(parts), Writer(sink.store) as writer:
        for part in parts:
            sink.admit(part)
            if strict:
                _raise_first(part)
            writer.put(part)
            bar.update(len(part.names))


def _raise_first(part: Part) -> None:
    for name, error in zip(part.names, part.errors, strict=True):
        if error is not None:
            raise InputError(f"source: {name}: {error}; on_error='skip' goes on without it")
