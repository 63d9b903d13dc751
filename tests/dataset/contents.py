"""What a sink holds, read as its documentation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import zarr

MISSING = {"target": -1, "top_class": -1, "score": np.nan, "top_score": np.nan}


def read(path: Path) -> dict[str, Any]:
    """Columns by name, a row for each sample in order: maps as a list, None of those that were skipped."""
    return _zarr(path) if path.suffix == ".zarr" else _parquet(path)


def _zarr(path: Path) -> dict[str, Any]:
    group = zarr.open_group(path, mode="r")
    found = {name: group[name][:] for name in group.array_keys() if name not in {"map", "fingerprint"}}
    status = found.pop("status")
    assert set(status) <= {1, 2}
    maps = group["map"][:] if "map" in group else [None] * len(status)
    assert all(np.isnan(maps[i]).all() for i in np.flatnonzero(status == 2) if "map" in group)
    found["map"] = [one if kind == 1 else None for one, kind in zip(maps, status, strict=True)]
    return {**found, "name": list(map(str, found["name"])), "error": list(map(str, found["error"]))}


def _parquet(path: Path) -> dict[str, Any]:
    if not any(path.glob("*.parquet")):
        return {}
    table = pyarrow.dataset.dataset(path).to_table().sort_by("index")
    columns = {name: table[name].to_pylist() for name in table.column_names}
    assert columns.pop("index") == list(range(len(table))), "each sample once"
    dtype = table.schema.field("map").type.value_type.to_pandas_dtype()
    shapes = columns.pop("map_shape")
    maps = [
        None if one is None else np.array(one, dtype).reshape(shape)
        for one, shape in zip(columns["map"], shapes, strict=True)
    ]
    filled = {name: _filled(values, MISSING[name]) for name, values in columns.items() if name in MISSING}
    return {**columns, **filled, "map": maps, "error": [error or "" for error in columns["error"]]}


def _filled(values: list[Any], missing: float) -> np.ndarray:
    shape = next((np.shape(value) for value in values if value is not None), ())
    dtype = np.int64 if missing == -1 else np.float32
    return np.array([np.full(shape, missing) if value is None else value for value in values], dtype)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """To the bit."""
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        if name == "map":
            for one, other in zip(found[name], column, strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(found[name], column, err_msg=name)
