"""Batches in the runs that a file, a device and a cache take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxviz.engine.cut import Graph
from onnxviz.engine.room import first_empty
from onnxviz.errors import InputError, LayerError, OptionError
from onnxviz.source import Array, Feeds

CHUNK_BYTES = 2**30
"""``batch_size="auto"`` keeps the values of one run, forward and backward, below this."""

CACHE_BYTES = 2**26
"""Values that a core computes in one run, beside as many as the weights take, where samples go to cores: more of them
leave the caches before they are read, and with fewer the weights are read too often."""

HELD_BYTES = 2**25
"""Inputs that are made at once where many variants of a sample are computed: noisy, masked or interpolated ones."""

WORTH_SPREADING = 2**22
"""Below this many bytes of values in all, runs are so short that waking other threads for them costs more."""


@dataclass(frozen=True)
class Plan:
    """How a batch is run: ``size`` samples at a time, ``workers`` runs at once."""

    size: int
    workers: int = 1


@dataclass(frozen=True)
class Chunk:
    """The samples of one run.

    Attributes:
        feeds: the model's inputs.
        start: the first sample's place in the batch.
        keep: how many samples count.
        size: how many are fed; a file of a static batch is fed the last sample repeatedly.
    """

    feeds: dict[str, Array]
    start: int
    keep: int
    size: int

    def rows(self, table: Array) -> Array:
        """What belongs to these samples, of a table with a row for each sample of the batch."""
        if self.size == self.keep:
            return table[self.start : self.start + self.size]
        return table[np.minimum(np.arange(self.start, self.start + self.size), len(table) - 1)]

    def kept(self, result: Array, axis: int | None) -> Array:
        """The part of a result that belongs to the samples that count."""
        if axis is None or self.keep == self.size:
            return result
        return result[(slice(None),) * axis + (slice(result.shape[axis] * self.keep // self.size),)]


class Chunks:
    """Cuts batches for one file.

    Args:
        graph: the file's.
        batch_size: samples per run; ``"auto"`` chooses by the memory that one sample takes.
        cores: over which samples are spread; None where the device is no CPU, or they shall not be.
    """

    def __init__(self, graph: Graph, batch_size: int | Literal["auto"], cores: int | None) -> None:
        self.manifest = graph.bundle.manifest
        self.batch_size = batch_size
        self.cores = cores
        self.limit: int | None = None
        """Samples per run that fitted the device when more did not."""
        self._graph = graph
        self._batched = {t.name for t in self.manifest.inputs if t.axes.batch == 0}
        self._roomy: set[tuple[tuple[str, tuple[int, ...]], ...]] = set()
        """Shapes of inputs at which nothing in the network is empty."""

    def is_batched(self, name: str) -> bool:
        """Whether axis 0 of an input counts samples."""
        return name in self._batched

    def samples(self, feeds: Feeds) -> int:
        """How many samples the feeds hold."""
        return next(len(x) for name, x in feeds.items() if name in self._batched)

    def held(self, feeds: Feeds, batch: int) -> int:
        """How many of ``batch`` variants of such samples are made at once, to be computed in runs."""
        each = sum(x[:1].nbytes for name, x in feeds.items() if name in self._batched)
        return max(1, min(batch, max(self.most(feeds, batch), HELD_BYTES // max(each, 1))))

    def most(self, feeds: Feeds, batch: int) -> int:
        """How many of ``batch`` samples like those of the feeds a device computes at once."""
        if self.batch_size != "auto":
            return self.batch_size
        return max(1, min(batch, int(CHUNK_BYTES // self._bytes(feeds))))

    def halve(self, plan: Plan) -> bool:
        """Take at most half as many samples per run from now on, after a run did not fit; False where none is left."""
        if self.manifest.static_batch or plan.size < 2:
            return False
        self.limit = plan.size // 2
        return True

    def plan(self, feeds: Feeds, batch: int, *, whole: Sequence[str] = ()) -> Plan:
        """Whole batches on all cores, or, where there are as many samples as cores, a few samples on each of them.

        A core to itself is faster than all cores at one operator: it never waits for the others, its values stay in
        its cache, and operators that onnxruntime computes on one core only are computed on all.

        Args:
            feeds: the model's inputs.
            batch: how many samples they hold.
            whole: values that are wanted and have no batch axis; they cannot be joined, so all goes in one run.

        Raises:
            LayerError: the file cannot take all samples in one run.
        """
        static, cores = self.manifest.static_batch, self.cores or 1
        if whole:
            if static and static < batch:
                raise LayerError(
                    f"{whole[0]!r} has no batch axis, and the file takes {static} samples at a time; {batch} were given"
                )
            return Plan(static or batch)
        if static or self.batch_size != "auto":
            size = static or min(int(self.batch_size), self.limit or batch)
            return Plan(size, cores if -(-batch // size) >= cores else 1)
        most, each = min(self.most(feeds, batch), self.limit or batch), self._bytes(feeds)
        if self.cores is None or batch < cores or each * batch < WORTH_SPREADING:
            return Plan(most)
        some = max(1, round((CACHE_BYTES + self._graph.bundle.weight_bytes) / each))
        rounds = max(1, round(batch / (cores * some)))  # all cores are done at the same time
        return Plan(min(most, -(-batch // (cores * rounds))), cores)

    def cut(self, feeds: Feeds, batch: int, size: int) -> Iterator[Chunk]:
        """The feeds in runs of ``size`` samples; InputError where something in the network is empty for them."""
        self._require_room(feeds)
        static = self.manifest.static_batch
        for start in range(0, batch, size):
            keep = min(size, batch - start)
            chunk = Chunk({}, start, keep, static or keep)
            chunk.feeds.update({n: chunk.rows(x) if n in self._batched else x for n, x in feeds.items()})
            yield chunk

    def _bytes(self, feeds: Feeds) -> float:
        """What the values of one sample take, forward and backward."""
        times = self.manifest.times_the_example({n: x.shape for n, x in feeds.items()})
        return max(1.0, 2 * self.manifest.activation_bytes * times)

    def _require_room(self, feeds: Feeds) -> None:
        """InputError where something in the network is empty for inputs of these sizes."""
        shapes = {name: (1, *x.shape[1:]) if self.is_batched(name) else x.shape for name, x in feeds.items()}
        key = tuple(sorted(shapes.items()))
        if not self.manifest.sizes or key in self._roomy:
            return
        if empty := first_empty(self._graph, [o.value for o in self.manifest.outputs], shapes):
            given = {name: list(x.shape) for name, x in feeds.items()}
            example = ", ".join(f"{size} ({name})" for name, size in self.manifest.sizes.items())
            raise InputError(
                f"inputs of shape {given} are too small for this network: its value {empty!r} would be empty. It was "
                f"converted with an example of {example}"
            )
        self._roomy.add(key)


def check_batch_size(batch_size: int | str) -> None:
    """OptionError unless it is ``"auto"`` or a positive integer."""
    if batch_size != "auto" and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise OptionError(f"batch_size={batch_size!r}: expected 'auto' or a positive integer")


def joined(parts: Sequence[Array], axis: int | None) -> Array:
    """Results of successive runs as one; where there is no axis to join along there was one run."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis or 0)
