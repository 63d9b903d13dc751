"""A folder of Parquet files: a file for each batch, a row for each sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.dataset.identity import Identity
from onnxviz.dataset.packages import optional
from onnxviz.dataset.parts import Column, Part
from onnxviz.dataset.sinks import Sink, flush
from onnxviz.dataset.sources import Fingerprints, Source
from onnxviz.dataset.summary import Skipped
from onnxviz.source import Array

IDENTITY, FINGERPRINTS = "_onnxviz.json", "_fingerprints.npy"
"""Readers of Parquet folders leave out what begins with an underscore or a dot."""


class ParquetSink(Sink):
    """Columns ``index``, ``name``, ``error``, ``map`` (a list, row by row), ``map_shape``, ``target``, ``score``, ….

    A batch is there when its file has its name.
    """

    suffix = ".parquet"

    def make(self, folder: Path, identity: Identity, source: Source) -> None:
        """An empty folder, with what it was begun with."""
        optional("pyarrow")
        folder.mkdir()
        if source.fingerprints is not None:
            np.save(folder / FINGERPRINTS, source.fingerprints)
        (folder / IDENTITY).write_text(json.dumps(identity, indent=2), encoding="utf-8")

    def begun_with(self) -> tuple[Identity, Fingerprints | None] | None:
        """What stands beside the parts."""
        file, fingerprints = self.path / IDENTITY, self.path / FINGERPRINTS
        if not file.exists():
            return None
        identity: Identity = json.loads(file.read_text(encoding="utf-8"))
        return identity, np.load(fingerprints) if fingerprints.exists() else None

    def open(self) -> None:
        """List the parts."""
        self._pyarrow, self._parquet = optional("pyarrow"), optional("pyarrow.parquet")
        for left in self.path.glob(".part-*"):  # by a killed process
            left.unlink()
        self._there = {int(path.stem.removeprefix("part-")) for path in self.path.glob("part-*.parquet")}

    def has(self, number: int) -> bool:
        """Whether the batch's file is there."""
        return number in self._there

    def is_empty(self) -> bool:
        """Whether there are no parts."""
        return not self._there

    def names(self, number: int) -> list[str]:
        """Of the samples of a batch that is there."""
        names: list[str] = self._parquet.read_table(self._file(number), columns=["name"])["name"].to_pylist()
        return names

    def write(self, part: Part) -> None:
        """The part aside, flushed, and renamed."""
        file = self._file(part.number)
        aside = file.with_name(f".{file.name}")
        try:
            self._parquet.write_table(self._table(part), aside, use_dictionary=False)
            flush(aside)
            aside.replace(file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        flush(self.path)
        self._there.add(part.number)

    def _file(self, number: int) -> Path:
        return self.path / f"part-{number:08d}.parquet"

    def _table(self, part: Part) -> Any:
        pa, missing = self._pyarrow, np.array([error is not None for error in part.errors])
        flat = [np.zeros(0, self.dtype) if m is None else m.ravel() for m in part.maps]
        shapes = [None if m is None else m.shape for m in part.maps]
        offsets = np.cumsum([0, *map(len, flat)]).astype(np.int64)
        columns = {
            "index": pa.array(np.arange(part.start, part.start + len(flat))),
            "name": pa.array(part.names, pa.string()),
            "error": pa.array(part.errors, pa.string()),
            "map": pa.LargeListArray.from_arrays(offsets, np.concatenate(flat), mask=pa.array(missing)),
            "map_shape": pa.array(shapes, pa.list_(pa.int32())),
            **{column.name: self._column(column, part.columns[column.name], missing) for column in self.columns},
        }
        return pa.table(columns)

    def _column(self, column: Column, values: Array, missing: Array) -> Any:
        pa = self._pyarrow
        kind = pa.from_numpy_dtype(np.dtype(column.dtype))
        rows = [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]
        return pa.array(rows, pa.list_(kind) if column.shape else kind)

    def finish(self, count: int) -> None:
        """Nothing is left to do: the parts are the data set."""

    def skipped(self) -> list[Skipped]:
        """Those with an error."""
        dataset, compute = optional("pyarrow.dataset"), optional("pyarrow.compute")
        parts = [str(self._file(number)) for number in sorted(self._there)]
        rows = dataset.dataset(parts, format="parquet").to_table(
            ["name", "error"], filter=compute.field("error").is_valid()
        )
        return [Skipped(row["name"], row["error"]) for row in rows.to_pylist()]
