"""A Zarr group, format 3: an array for each column, a chunk for each batch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.dataset.identity import Identity
from onnxviz.dataset.packages import optional
from onnxviz.dataset.parts import Part
from onnxviz.dataset.sinks import Sink, flush, flush_tree
from onnxviz.dataset.sources import Fingerprints, Source
from onnxviz.dataset.summary import Skipped
from onnxviz.source import Array

ATTRIBUTE = "onnxviz"
PENDING, EXPLAINED, SKIPPED = 0, 1, 2
FLAT = {"name": "default", "separator": "."}
"""Chunks lie in their array's folder, not in a folder each: one flush for all."""


class ZarrSink(Sink):
    """Arrays ``map`` (N, …), ``target``, ``score``, …, ``name``, ``error`` and ``status`` (N,): 0, 1 or 2.

    A chunk of ``status`` is written last: it is what says that a batch is there.
    """

    suffix = ".zarr"

    def make(self, folder: Path, identity: Identity, source: Source) -> None:
        """An empty group; ``map`` is added once its shape is known."""
        zarr, count = optional("zarr"), source.count or 0
        group = zarr.create_group(folder, attributes={ATTRIBUTE: identity})
        if source.fingerprints is not None:
            group.create_array("fingerprint", data=source.fingerprints, chunks=(min(count, 2**16),))
        for name, dtype, shape, fill in (
            *((c.name, c.dtype, c.shape, c.fill) for c in self.columns),
            ("name", str, (), ""), ("error", str, (), ""), ("status", "uint8", (), PENDING),
        ):  # fmt: skip
            self._create(group, name, dtype, (count, *shape), fill)

    def _create(self, group: Any, name: str, dtype: Any, shape: tuple[int, ...], fill: Any, **more: Any) -> Any:
        return group.create_array(
            name, shape=shape, dtype=dtype, chunks=(self.batch_size, *shape[1:]), fill_value=fill,
            chunk_key_encoding=FLAT, **more,
        )  # fmt: skip

    def begun_with(self) -> tuple[Identity, Fingerprints | None] | None:
        """What the group's attributes say."""
        zarr = optional("zarr")
        if not (self.path / "zarr.json").exists():
            return None
        group = zarr.open_group(self.path, mode="r")
        identity = group.attrs.get(ATTRIBUTE)
        if not isinstance(identity, dict):
            return None
        return identity, group["fingerprint"][:] if "fingerprint" in group else None

    def open(self) -> None:
        """Read which batches are there."""
        self._group = optional("zarr").open_group(self.path, mode="r+")
        for left in (*self.path.glob("*.partial"), *self.path.glob("*/*.partial")):  # by a killed process
            left.unlink()
        for chunk in (self.path / "status").glob("c.*"):  # a file's name may reach the disk before what is in it
            if not chunk.stat().st_size:
                chunk.unlink()
        if (self.path / "map").exists() and not (self.path / "map" / "zarr.json").exists():
            (self.path / "map").rmdir()
        self._arrays = {name: self._group[name] for name in self._group.array_keys() if name != "fingerprint"}
        self._status = self._arrays["status"][:]
        self._shape = self._arrays["map"].shape[1:] if "map" in self._arrays else None

    def has(self, number: int) -> bool:
        """Whether the first sample of a batch has a status: then all have."""
        start = number * self.batch_size
        return bool(start < len(self._status) and self._status[start] != PENDING)

    def is_empty(self) -> bool:
        """Whether no sample has a status."""
        return bool((self._status == PENDING).all())

    def names(self, number: int) -> list[str]:
        """Of the samples of a batch that is there."""
        start = number * self.batch_size
        count = int((self._status[start : start + self.batch_size] != PENDING).sum())
        return [str(name) for name in self._arrays["name"][start : start + count]]

    def write(self, part: Part) -> None:
        """The columns first, flushed, then the status."""
        columns = {name: values for name, values in part.columns.items() if name in self._arrays}
        if any(values is not None for values in part.maps):
            columns["map"] = self._maps(part)
        columns["name"] = _texts(part.names)
        columns["error"] = _texts(error or "" for error in part.errors)
        for name, values in columns.items():
            self._put(name, part, values)
        for name in columns:
            flush(self.path / name)
        status = [EXPLAINED if error is None else SKIPPED for error in part.errors]
        self._put("status", part, np.array(status, np.uint8))
        flush(self.path / "status")
        if len(self._status) < part.start + len(status):
            self._status = np.append(self._status, np.zeros(part.start + len(status), np.uint8))
        self._status[part.start : part.start + len(status)] = status

    def admit(self, part: Part) -> None:
        """Skip samples whose maps have not the shape of the first."""
        for index, values in enumerate(part.maps):
            if values is None:
                continue
            self._shape = self._shape or values.shape
            if values.shape == self._shape:
                continue
            part.maps[index], part.errors[index] = None, (
                f"its map has shape {list(values.shape)}, and the first has {list(self._shape)}: a .parquet sink takes "
                "maps of any size"
            )  # fmt: skip
            for column in self.columns:
                part.columns[column.name][index] = column.fill

    def _maps(self, part: Part) -> Array:
        """The batch's maps, NaN of skipped samples; the array is made when the first map comes."""
        assert self._shape is not None, "parts are admitted before they are written"
        if "map" not in self._arrays:
            shape = (self._arrays["status"].shape[0], *self._shape)
            lz4 = optional("zarr.codecs").BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")
            self._arrays["map"] = self._create(
                self._group, "map", self.dtype, shape, np.nan, compressors=lz4,
                config={"write_empty_chunks": True},  # whether a chunk is empty is known, and costs as much as to write
            )  # fmt: skip
            flush_tree(self.path / "map")
            flush(self.path)
        missing = np.full(self._shape, np.nan, self.dtype)
        return np.stack([missing if values is None else values for values in part.maps])

    def _put(self, name: str, part: Part, values: Array) -> None:
        array, end = self._arrays[name], part.start + len(values)
        if array.shape[0] < end:  # of a source without a known end; trimmed at last
            array.resize((max(end, 2 * array.shape[0]), *array.shape[1:]))
            flush(self.path / name / "zarr.json")
        array[part.start : end] = values
        key = array.metadata.encode_chunk_key((part.number, *[0] * (array.ndim - 1)))
        chunk = self.path / name / key
        if chunk.exists():  # a chunk of nothing but the fill value is not written
            flush(chunk)

    def finish(self, count: int) -> None:
        """Cut the arrays to their length."""
        for name, array in self._arrays.items():
            if array.shape[0] != count:
                array.resize((count, *array.shape[1:]))
                flush(self.path / name / "zarr.json")

    def skipped(self) -> list[Skipped]:
        """Those whose status is 2."""
        found, size = [], self.batch_size
        positions = np.flatnonzero(self._status == SKIPPED)
        for number in np.unique(positions // size):
            some = slice(int(number) * size, (int(number) + 1) * size)
            names, errors = (self._arrays[name][some] for name in ("name", "error"))
            found += [Skipped(str(names[i]), str(errors[i])) for i in positions[positions // size == number] % size]
        return found


def _texts(values: Iterable[str]) -> Array:
    return np.array(list(values), dtype=object)
