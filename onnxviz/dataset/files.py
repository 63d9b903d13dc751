"""Files that hold inputs: which there are, and what stands in them."""

from __future__ import annotations

import csv
import glob
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnxviz.errors import InputError

if TYPE_CHECKING:
    from onnxviz.manifest import Input, Tensor
    from onnxviz.source import Array

PICTURES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
OTHERS = (".csv", ".npy", ".npz")


def found(inputs: Iterable[str]) -> list[Path]:
    """The files that the arguments name, each once: of a folder what can be read, sorted; of a glob all, sorted.

    Raises:
        InputError: an argument names none.
    """
    paths: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            some = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES + OTHERS)
        elif path.exists() or not glob.has_magic(given):
            some = [path]
        else:
            some = [Path(p) for p in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 - patterns may be absolute
        if not some or not some[0].exists():
            what = "no pictures, .npy or .csv files in" if path.is_dir() else "there is no file"
            below = path.is_dir() and any(p.is_dir() for p in path.iterdir())
            hint = f"; '{path}/**/*.jpg' takes those of its subfolders" if below else ""
            raise InputError(f"{what} {given!r}{hint}")
        paths += some
    return list(dict.fromkeys(paths))


def stored(path: Path, tensor: Tensor) -> Array | dict[str, Array]:
    """What a .npy, .npz or .csv file holds, with its batch axis; pixels as they are.

    A .npy is mapped, not read. A .npz holds the inputs of a model with several, by name. Of a .csv, rows are times and
    columns channels; of a model that takes (N, features), rows are samples.

    Args:
        path: of the file.
        tensor: the model's first input.

    Raises:
        InputError: the file cannot be read, or does not say what the model takes.
    """
    import numpy as np

    if path.suffix.lower() == ".csv":
        return _series(path, tensor)
    x = load(path, mapped="r")
    if isinstance(x, dict):
        return x
    batchless = x.ndim == len(tensor.shape) - 1 and x.dtype != np.uint8
    return x[None] if batchless else x


def load(path: Path, *, mapped: Literal["r"] | None = None) -> Array | dict[str, Array]:
    """What numpy saved: an array, or arrays by name.

    Raises:
        InputError: it is no such file.
    """
    import numpy as np

    from onnxviz.files import DAMAGE, require_no_pipe

    require_no_pipe(path)
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode=mapped)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError:
        raise
    except DAMAGE as error:
        raise InputError(f"{str(path)!r} is no {path.suffix} file of numbers: {error}") from error


def _series(path: Path, tensor: Tensor) -> Array:
    import numpy as np

    table = np.array(_rows(path), np.float32)
    if len(tensor.shape) == 2:
        return table
    if len(tensor.shape) != 3:
        raise InputError(f"{str(path)!r} is a table, and the model takes inputs of shape {list(tensor.shape)}")
    channel = tensor.axes.channel
    if channel is None:
        channel = next((i for i in (1, 2) if tensor.shape[i] == table.shape[1]), 2)
    return (table.T if channel == 1 else table)[None]


def _rows(path: Path) -> list[list[float]]:
    """The numbers of a .csv file, whose first row may name the columns."""
    from onnxviz.files import require_no_pipe

    require_no_pipe(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is no text: {error}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        table = [*csv.reader(text.splitlines(), delimiter=delimiter)]
    except csv.Error as error:
        raise InputError(f"{str(path)!r} is no table of numbers: {error}") from error
    rows: list[list[float]] = []
    for number, cells in enumerate(table, 1):
        values = [_number(cell) for cell in cells]
        if not cells or (number == 1 and None in values):
            continue
        if None in values or (rows and len(values) != len(rows[0])):
            raise InputError(
                f"{str(path)!r}, line {number}: expected {len(rows[0]) if rows else 'only'} numbers; got {cells}"
            )
        rows.append([value for value in values if value is not None])
    if not rows:
        raise InputError(f"{str(path)!r} holds no numbers")
    return rows


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_picture_file(path: Path) -> bool:
    """Whether a file is read as a picture: whatever holds no numbers."""
    return path.suffix.lower() not in OTHERS


def samples_in(path: Path, tensor: Input) -> int:
    """How many samples a file holds; 1 of what cannot be read, for reading it tells why."""
    import numpy as np

    if is_picture_file(path):
        return 1
    try:
        x: Any = stored(path, tensor)
    except (InputError, OSError):
        return 1
    one = x.get(tensor.name) if isinstance(x, dict) else x
    if one is None or one.ndim == 0 or (one.dtype in (np.uint8, np.uint16) and tensor.image and one.ndim < 4):
        return 1
    return len(one)
