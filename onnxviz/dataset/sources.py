"""Where samples come from: files, arrays, or whatever can be iterated over."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.dataset.files import found, is_picture_file, samples_in, stored
from onnxviz.dataset.packages import optional
from onnxviz.engine.inputs import as_feeds
from onnxviz.errors import InputError
from onnxviz.image import ImageInput, is_picture, read_pixels
from onnxviz.manifest import Input, Manifest
from onnxviz.source import Feeds

Fingerprints = npt.NDArray[np.uint64]
KEPT = 4
"""Blocks of arrays, and opened files, that a source keeps for the next samples."""


@dataclass(frozen=True)
class Listed:
    """Consecutive samples that are explained and stored together, not read yet.

    Attributes:
        number: of the batch.
        start: the position of its first sample.
        names: of its samples.
        reads: what reads each: the model's inputs, of one sample.
    """

    number: int
    start: int
    names: list[str]
    reads: Sequence[Callable[[], Feeds]]


class Source:
    """Samples in a fixed order.

    Attributes:
        count: how many; None where only the end tells.
        fingerprints: a number for each that changes when the sample does, as far as this can be told cheaply.
    """

    count: int | None = None
    fingerprints: Fingerprints | None = None


class Indexed(Source, ABC):
    """A source of which every sample can be read at any time."""

    count: int

    @abstractmethod
    def name(self, position: int) -> str:
        """What a sample is called."""

    @abstractmethod
    def read(self, position: int, manifest: Manifest) -> Feeds:
        """The inputs of one sample; InputError or OSError where it cannot be read."""

    def batch(self, number: int, size: int, manifest: Manifest) -> Listed:
        """The batch of that number."""
        some = range(number * size, min((number + 1) * size, self.count))
        reads = [partial(self.read, position, manifest) for position in some]
        return Listed(number, some.start, [self.name(position) for position in some], reads)


class Files(Indexed):
    """Files in order, each with one sample or, of .npy, .npz and tables, several.

    Args:
        paths: of the files; one that is not there is a sample that cannot be read.
        manifest: of the model, which says how many samples an array is.

    Raises:
        InputError: there are pictures, and the file does not say how they are prepared; or there is no sample.
    """

    def __init__(self, paths: Sequence[Path], manifest: Manifest) -> None:
        tensor = manifest.inputs[0]
        if any(map(is_picture_file, paths)) and not any(t.image for t in manifest.inputs):
            raise InputError(
                "the source has pictures, and this file does not say how pictures are prepared: give "
                "convert(…, input=onnxviz.ImageInput(…)), or arrays as the model takes them"
            )
        counts = np.array([samples_in(path, tensor) for path in paths], np.int64)
        self.paths, self.ends = list(paths), np.cumsum(counts)
        self.count = int(counts.sum())
        if not self.count:
            raise InputError("the source holds no samples")
        self.fingerprints = np.repeat(np.array([_of_file(path) for path in paths], np.uint64), counts)
        self._cache = _Cache()

    def name(self, position: int) -> str:
        """The path, and of an array the row."""
        index, row = self._place(position)
        path = self.paths[index]
        several = not is_picture_file(path) and self.ends[index] - (self.ends[index - 1] if index else 0) > 1
        return f"{path}[{row}]" if several else str(path)

    def read(self, position: int, manifest: Manifest) -> Feeds:
        """The inputs of one sample."""
        index, row = self._place(position)
        path = self.paths[index]
        if is_picture_file(path):
            return one_sample(str(path), manifest)
        x = self._cache.get(index, lambda: stored(path, manifest.inputs[0]))
        if isinstance(x, dict):
            batched = {t.name for t in manifest.inputs if t.axes.batch == 0}
            return one_sample({n: a[row : row + 1] if n in batched and a.ndim else a for n, a in x.items()}, manifest)
        pixels = x.dtype in (np.uint8, np.uint16) and x.ndim < 4 and manifest.inputs[0].image is not None
        return one_sample(x if pixels or x.ndim == 0 else x[row : row + 1], manifest)

    def _place(self, position: int) -> tuple[int, int]:
        index = int(np.searchsorted(self.ends, position, "right"))
        return index, position - (int(self.ends[index - 1]) if index else 0)


class Rows(Indexed):
    """The rows of an array: numpy's, Zarr's, or of anything else with a shape whose slices numpy reads.

    Args:
        array: (N, …), samples as the model takes them, or pixels.
        name: that the rows' names begin with.

    Raises:
        InputError: it has no rows.
    """

    def __init__(self, array: Any, name: str = "") -> None:
        if len(array.shape) < 1 or not array.shape[0]:
            raise InputError(f"source is an array of shape {list(array.shape)}, which holds no samples")
        self.array, self.count, self._name = array, int(array.shape[0]), name
        self._step = int((getattr(array, "chunks", None) or [1])[0])
        self._cache = _Cache()
        kind = f"{array.dtype} {array.shape[1:]}".encode()
        rows = array if type(array) is np.ndarray and not array.dtype.hasobject else None  # else not read for this
        self.fingerprints = np.array(
            [_digest(kind, b"" if rows is None else rows[i].tobytes()) for i in range(self.count)], np.uint64
        )

    def name(self, position: int) -> str:
        """The row, behind the array's own name."""
        return f"{self._name}[{position}]" if self._name else str(position)

    def read(self, position: int, manifest: Manifest) -> Feeds:
        """The inputs of one sample."""
        number, row = divmod(position, self._step)
        start = position - row
        if self._step == 1:
            block = np.asarray(self.array[start : start + 1])
        else:
            block = self._cache.get(number, lambda: np.asarray(self.array[start : start + self._step]))
        return one_sample(block[row : row + 1], manifest)


class Stream(Source):
    """Pairs (name, array) as they come; the array is as the model takes it, with or without batch axis, or a picture.

    Args:
        pairs: what is iterated over, once.
    """

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = pairs

    def batches(self, size: int, manifest: Manifest) -> Iterator[Listed]:
        """All samples, ``size`` at a time."""
        pairs, number = iter(self._pairs), 0
        while some := [_pair(one) for one in islice(pairs, size)]:
            reads = [partial(one_sample, x, manifest) for _, x in some]
            yield Listed(number, number * size, [name for name, _ in some], reads)
            number += 1


def source_of(given: Any, manifest: Manifest) -> Source:
    """What a user gave as the source.

    Raises:
        InputError: it is none, holds nothing, or is an array whose rows do not fit.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path.suffix == ".zarr":
            return _rows(_zarr(path), manifest, str(path))
        return Files(_found(os.fspath(given)), manifest)
    if isinstance(given, list | tuple) and given and all(isinstance(p, str | os.PathLike) for p in given):
        return Files([Path(p) for p in given], manifest)
    if hasattr(given, "shape") and hasattr(given, "dtype") and hasattr(given, "__getitem__"):
        return _rows(given, manifest)
    if isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        return Stream(given)
    raise InputError(
        "source is a folder, a glob, a list of paths, a .npy, .csv or .zarr, an array (N, …), or an iterable of pairs "
        f"(name, array); got {type(given).__name__}"
    )


def _rows(array: Any, manifest: Manifest, name: str = "") -> Rows:
    """An array's rows; InputError where none of them fits, for all have one shape."""
    rows = Rows(array, name)
    try:
        one_sample(np.zeros_like(np.asarray(array[:1])), manifest)
    except InputError as error:
        raise InputError(f"source: {error}") from error
    return rows


def one_sample(x: Any, manifest: Manifest) -> Feeds:
    """An input as the model takes it, of one sample; of a model with one input the batch axis may be missing.

    Pictures are prepared here, by the threads that read: the engine waits for nothing but the joining of a batch.
    """
    tensor = manifest.inputs[0]
    pictures = _pictures_for(tensor)
    if len(manifest.inputs) == 1 and pictures is not None and is_picture(x):
        return {tensor.name: pictures.encode(pictures.fit(read_pixels(x)))}
    if len(manifest.inputs) == 1 and getattr(x, "ndim", None) == len(tensor.shape) - 1:
        x = x[None]
    feeds, count = as_feeds(x, manifest)
    if count != 1:
        raise InputError(f"{count} samples were given as one: give pairs (name, array) of single samples")
    return feeds


def _pictures_for(tensor: Input) -> ImageInput | None:
    """How pictures become this input; None where they do not, for it takes integers or the file does not say."""
    if tensor.image is None or not np.issubdtype(np.dtype(tensor.dtype), np.floating):
        return None
    return ImageInput.from_dict(tensor.image)


def _found(given: str) -> list[Path]:
    if not given:
        raise InputError("source='': expected a path")
    try:
        return found([given])
    except InputError as error:
        raise InputError(f"source: {error}") from error


def _pair(given: Any) -> tuple[str, Any]:
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], str):
        return given[0], given[1]
    raise InputError(f"source gives pairs (name, array), the name as text; got {type(given).__name__}")


def _zarr(path: Path) -> Any:
    zarr = optional("zarr")
    try:
        return zarr.open_array(path, mode="r")
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise InputError(f"source {str(path)!r} holds no Zarr array: {error}") from error


def _of_file(path: Path) -> int:
    try:
        stat = path.stat()
    except OSError:
        return _digest(os.fsencode(path))
    return _digest(os.fsencode(path), f"{stat.st_size} {stat.st_mtime_ns}".encode())


def _digest(*parts: bytes) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "big")


class _Cache:
    """The last few things that were opened; several threads that want the same open it once."""

    def __init__(self) -> None:
        self._lock, self._kept = Lock(), dict[int, Any]()

    def get(self, key: int, make: Callable[[], Any]) -> Any:
        """What was made for the key."""
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = make()
            return self._kept[key]

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()  # elsewhere all is opened anew
