"""Samples read by threads, ahead of what is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Semaphore, Thread

from onnxviz.dataset.sources import Listed
from onnxviz.errors import InputError
from onnxviz.source import Feeds

AHEAD = 2
"""How many batches are read, or being read, beside the one that is explained."""


@dataclass(frozen=True)
class Batch:
    """Consecutive samples: each one's inputs, or why they cannot be read."""

    number: int
    start: int
    names: list[str]
    samples: list[Feeds | str]


def read_now(listed: Listed) -> Batch:
    """A batch read here."""
    return Batch(listed.number, listed.start, listed.names, [_read(read) for read in listed.reads])


def read_ahead(batches: Iterable[Listed], workers: int) -> Iterator[Batch]:
    """The batches, in order, read by ``workers`` threads, at most :data:`AHEAD` of them before they are asked for.

    An error of the iterable itself is raised where its batch would have come.
    """
    room, ended = Semaphore(AHEAD), Event()
    queue: SimpleQueue[tuple[Listed, list[Future[Feeds | str]]] | BaseException | None] = SimpleQueue()

    def feed() -> None:
        try:
            for listed in batches:
                room.acquire()
                if ended.is_set():
                    return
                queue.put((listed, [pool.submit(_read, read) for read in listed.reads]))
            queue.put(None)
        except BaseException as error:  # noqa: BLE001 - goes to who waits for it
            queue.put(error)

    with ThreadPoolExecutor(workers, "onnxviz-read") as pool:
        feeder = Thread(target=feed, name="onnxviz-list", daemon=True)
        feeder.start()
        try:
            while (item := queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                listed, futures = item
                batch = Batch(listed.number, listed.start, listed.names, [f.result() for f in futures])
                room.release()
                yield batch
        finally:
            ended.set()
            room.release()
            pool.shutdown(wait=False, cancel_futures=True)
    feeder.join()


def _read(read: Callable[[], Feeds]) -> Feeds | str:
    try:
        return read()
    except (InputError, OSError) as error:
        return str(error)
