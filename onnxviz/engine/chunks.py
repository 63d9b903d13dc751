"""Batches in the runs that a file, a device and a cache take."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from onnxviz.engine.cut import Graph
from onnxviz.engine.device import Device
from onnxviz.engine.room import first_empty
from onnxviz.errors import InputError, LayerError, OnnxvizWarning, OptionError, OutOfMemoryError
from onnxviz.source import Array, Feeds

Answer = TypeVar("Answer")

CHUNK_BYTES = 2**30
"""``batch_size="auto"`` keeps the values of one run, forward and backward, below this; on a GPU too, where it does not
tell how much it has."""

DEVICE_SHARE = 0.7
"""The part of a GPU's free memory that ``batch_size="auto"`` gives to the values of all runs at once. Convolutions want
room to work in, and onnxruntime takes memory in pieces that do not fit exactly."""

STAGED_BYTES = 2**26
"""Inputs of one run on a GPU, with ``batch_size="auto"``: it computes as many images at full speed, the page-locked
memory of the host that they go through stays small, and batches of more are copied while others are computed."""

AT_ONCE = 2
"""Runs at once on a GPU: one is copied while the other is computed."""

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
        device: on which they are computed.
        threads: of a session, where one chunk is run at a time.
        cores: over which samples are spread; None where the device is no CPU, or they shall not be.
    """

    def __init__(
        self,
        graph: Graph,
        batch_size: int | Literal["auto"],
        device: Device,
        *,
        threads: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.manifest = graph.bundle.manifest
        self.batch_size = batch_size
        self.device, self.threads, self.cores = device, threads, cores
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
        each = self._input_bytes(feeds)
        at_once = AT_ONCE if self.device.is_gpu else 1
        return max(1, min(batch, max(at_once * self.most(feeds, batch), HELD_BYTES // each)))

    def most(self, feeds: Feeds, batch: int) -> int:
        """How many of ``batch`` samples like those of the feeds a device computes at once."""
        if self.batch_size != "auto":
            return self.batch_size
        most = (CHUNK_BYTES if self.device.cuda is None else self._room) // self._bytes(feeds)
        if self.device.is_gpu:
            most = min(most, STAGED_BYTES // self._input_bytes(feeds))
        return max(1, min(batch, int(most)))

    @cached_property
    def _room(self) -> float:
        """What the values of a run may take on the device, which is asked once: what sessions take, they use again."""
        assert self.device.cuda is not None
        return DEVICE_SHARE * max(0, self.device.cuda.free_bytes() - self._graph.bundle.weight_bytes) / AT_ONCE

    def _halve(self, plan: Plan) -> bool:
        """Take at most half as many samples per run from now on, after a run did not fit; False where none is left."""
        if self.manifest.static_batch or plan.size < 2:
            return False
        self.limit = plan.size // 2
        return True

    def each(
        self, answer: Callable[[Chunk, int | None], Answer], feeds: Feeds, batch: int, *, whole: Sequence[str] = ()
    ) -> list[Answer]:
        """The answer of each chunk, in order; it is told how many threads its sessions have.

        Where one does not fit into the device's memory, all are begun again at half the size, which stays.

        Args:
            answer: computes a chunk.
            feeds: the model's inputs.
            batch: how many samples they hold.
            whole: see :meth:`plan`.
        """
        plan = self.plan(feeds, batch, whole=whole)
        chunks = self.cut(feeds, batch, plan.size)
        threads = 1 if self.cores and plan.workers > 1 else self.threads
        try:
            if plan.workers == 1:
                return [answer(chunk, threads) for chunk in chunks]
            with ThreadPoolExecutor(plan.workers) as pool:
                return list(pool.map(lambda chunk: answer(chunk, threads), chunks))
        except OutOfMemoryError:
            if whole or not self._halve(plan):
                raise
        warnings.warn(
            f"{plan.size} samples do not fit into the memory of {self.device.provider} at once: going on with "
            f"{self.limit}; load(…, batch_size={self.limit}) begins with as many",
            OnnxvizWarning,
            stacklevel=2,
        )
        return self.each(answer, feeds, batch)

    def plan(self, feeds: Feeds, batch: int, *, whole: Sequence[str] = ()) -> Plan:
        """Whole batches on all cores, or, where there are as many samples as cores, a few samples on each of them.

        A core to itself is faster than all cores at one operator: it never waits for the others, its values stay in
        its cache, and operators that onnxruntime computes on one core only are computed on all. A GPU computes a chunk
        while the next is copied.

        Args:
            feeds: the model's inputs.
            batch: how many samples they hold.
            whole: values that are wanted and have no batch axis; they cannot be joined, so all goes in one run.

        Raises:
            LayerError: the file cannot take all samples in one run.
        """
        static, at_once = self.manifest.static_batch, AT_ONCE if self.device.is_gpu else self.cores or 1
        if whole:
            if static and static < batch:
                raise LayerError(
                    f"{whole[0]!r} has no batch axis, and the file takes {static} samples at a time; {batch} were given"
                )
            return Plan(static or batch)
        if static or self.batch_size != "auto":
            size = static or min(int(self.batch_size), self.limit or batch)
            return Plan(size, at_once if -(-batch // size) >= at_once else 1)
        most, each = min(self.most(feeds, batch), self.limit or batch), self._bytes(feeds)
        if self.device.is_gpu:
            count = -(-batch // most)
            return Plan(-(-batch // count), min(at_once, count))
        if self.cores is None or batch < self.cores or each * batch < WORTH_SPREADING:
            return Plan(most)
        some = max(1, round((CACHE_BYTES + self._graph.bundle.weight_bytes) / each))
        rounds = max(1, round(batch / (self.cores * some)))  # all cores are done at the same time
        return Plan(min(most, -(-batch // (self.cores * rounds))), self.cores)

    def cut(self, feeds: Feeds, batch: int, size: int) -> Iterator[Chunk]:
        """The feeds in runs of ``size`` samples; InputError where something in the network is empty for them."""
        self._require_room(feeds)
        static = self.manifest.static_batch
        for start in range(0, batch, size):
            keep = min(size, batch - start)
            chunk = Chunk({}, start, keep, static or keep)
            chunk.feeds.update({n: chunk.rows(x) if n in self._batched else x for n, x in feeds.items()})
            yield chunk

    def _input_bytes(self, feeds: Feeds) -> int:
        """What the inputs of one sample take."""
        return max(1, sum(x[:1].nbytes for name, x in feeds.items() if name in self._batched))

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
