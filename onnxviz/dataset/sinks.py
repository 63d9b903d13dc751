"""Where explained batches go: each is there as a whole or not at all, whatever becomes of the process.

A sink is a folder. It is made aside and renamed, so that one that is there says what it was begun with. Then each batch
is written, flushed to the disk, and only then marked as done, by one rename. What a killed process leaves is therefore
complete batches, and perhaps traces of one that is not marked, which the next run writes again, over them. One process
at a time writes: it holds a lock on the folder, which ends with it.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxviz.dataset.identity import Identity, require_same, require_same_samples
from onnxviz.dataset.parts import Column, Part
from onnxviz.dataset.sources import Fingerprints, Source
from onnxviz.dataset.summary import Skipped
from onnxviz.errors import FileAccessError, OptionError
from onnxviz.files import accessing, lock

ASIDE, OLD = "making", "removing"


class Sink(ABC):
    """A folder of explained batches.

    Args:
        path: of the folder.
        batch_size: samples in a batch.
        columns: what is stored beside the maps.
        dtype: of the maps.
    """

    suffix: str

    def __init__(self, path: Path, batch_size: int, columns: Sequence[Column], dtype: str) -> None:
        self.path, self.batch_size, self.columns, self.dtype = path, batch_size, columns, dtype
        self._held: int | None = None
        self._empty = False  # made here, and nothing came yet
        self._old: Path | None = None

    # ----- what a kind of sink is -----

    @abstractmethod
    def make(self, folder: Path, identity: Identity, source: Source) -> None:
        """An empty sink in a new folder."""

    @abstractmethod
    def begun_with(self) -> tuple[Identity, Fingerprints | None] | None:
        """What the folder says of itself; None if it is not one that this class made."""

    @abstractmethod
    def open(self) -> None:
        """Find out which batches are there."""

    @abstractmethod
    def has(self, number: int) -> bool:
        """Whether a batch is there."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no batch is there."""

    @abstractmethod
    def names(self, number: int) -> list[str]:
        """Of the samples of a batch that is there."""

    def admit(self, part: Part) -> None:  # noqa: B027 - most kinds take any
        """Skip the samples of a part that this kind of sink cannot store; parts come in order."""

    @abstractmethod
    def write(self, part: Part) -> None:
        """Store a batch; once this returns it is there, even if the machine stops."""

    @abstractmethod
    def finish(self, count: int) -> None:
        """There are this many samples, and all have been written."""

    @abstractmethod
    def skipped(self) -> list[Skipped]:
        """The samples without a map, in order."""

    # ----- what all have in common -----

    def begin(self, identity: Identity, source: Source, *, resume: bool) -> None:
        """Make the folder, or go on with the one that is there.

        Raises:
            OptionError: what is there is something else, or was begun otherwise.
            FileAccessError: the system does not let us write there, or somebody else writes there now.
        """
        with accessing(self.path, "write"):
            if self.path.is_dir():
                self._lock()
            self._begin(identity, source, resume=resume)
            self.open()

    def store(self, part: Part) -> None:
        """Write a batch; FileAccessError where the system does not let us."""
        with accessing(self.path, "write"):
            self.write(part)
            self._empty = False
            if self._old is not None:
                shutil.rmtree(self._old)
                self._old = None

    def close(self) -> None:
        """Let others write. A new folder to which nothing came goes, and what it took the place of comes back."""
        if self._empty:
            with accessing(self.path, "write"):
                shutil.rmtree(_set_aside(self.path))
                if self._old is not None:
                    self._old.rename(self.path)
                    flush(self.path.parent)
        self._unlock()

    def _begin(self, identity: Identity, source: Source, *, resume: bool) -> None:
        self._tidy()
        if self.path.exists():
            begun = self.begun_with()
            if begun is None:
                raise OptionError(
                    f"sink {str(self.path)!r} is there already and is no data set of onnxviz: give another path"
                )
            self.open()
            if resume and not self.is_empty():
                require_same(self.path, begun[0], identity)
                require_same_samples(self.path, begun[1], source)
            else:
                self._old = _set_aside(self.path)
        if not self.path.exists():
            _make(self.path.parent)
            aside = _beside(self.path, ASIDE)
            self.make(aside, identity, source)
            flush_tree(aside)
            aside.rename(self.path)
            flush(self.path.parent)
            self._empty = True
            self._lock()

    def _lock(self) -> None:
        self._unlock()  # what was set aside
        try:
            self._held = lock(self.path)
        except BlockingIOError as error:
            raise FileAccessError(
                f"sink {str(self.path)!r} is being written by another explain_dataset: wait, or give another path"
            ) from error

    def _unlock(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _tidy(self) -> None:
        """Remove what killed processes left beside the sink."""
        for kind in (ASIDE, OLD):
            for left in self.path.parent.glob(glob.escape(f".{self.path.name}.{kind}-") + "*"):
                shutil.rmtree(left)


def sink_of(given: Any, batch_size: int, columns: Sequence[Column], dtype: str) -> Sink:
    """What a user gave as the sink.

    Raises:
        OptionError: it is none.
        MissingDependencyError: the package that writes it is not installed.
    """
    from onnxviz.dataset.parquet_sink import ParquetSink
    from onnxviz.dataset.zarr_sink import ZarrSink

    kinds: dict[str, type[Sink]] = {kind.suffix: kind for kind in (ZarrSink, ParquetSink)}
    suffix = Path(given).suffix if isinstance(given, str | os.PathLike) else None
    if suffix not in kinds:
        raise OptionError(f"sink={given!r}: expected a path that ends with {' or '.join(kinds)}")
    return kinds[suffix](Path(given), batch_size, columns, dtype)


def _set_aside(path: Path) -> Path:
    """Rename a folder, so that it is there or not, whatever happens."""
    aside = _beside(path, OLD)
    path.rename(aside)
    flush(path.parent)
    return aside


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which says nothing of what is there
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def flush(path: Path) -> None:
    """Have the system put a file or folder on the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """All that is in a folder, and the folder."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def _beside(path: Path, kind: str) -> Path:
    return path.parent / f".{path.name}.{kind}-{uuid.uuid4().hex[:8]}"
