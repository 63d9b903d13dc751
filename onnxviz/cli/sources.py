"""From the arguments of a command to inputs, targets and what is drawn behind maps."""

from __future__ import annotations

import csv
import glob
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import typer

from onnxviz.cli.shell import line, progress
from onnxviz.errors import InputError, TargetError, nearest

if TYPE_CHECKING:
    from onnxviz import Explainer
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
            raise InputError(f"{what} {given!r}")
        paths += some
    return list(dict.fromkeys(paths))


class Sources:
    """Every input with its path; what cannot be read is said on stderr and left out.

    Attributes:
        refused: the inputs that were left out, with the reason, as rows of a result.
    """

    def __init__(self, explainer: Explainer, inputs: Iterable[str], description: str) -> None:
        self.explainer, self.paths, self.description = explainer, found(inputs), description
        self.refused: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[tuple[Path, Any]]:
        for path in progress(self.paths, self.description):
            try:
                x = read(self.explainer, path)
            except InputError as error:
                self.refused.append({"input": str(path), "error": str(error)})
                line(f"onnxviz: {error}", err=True)
            else:
                yield path, x

    def finish(self) -> None:
        """Exit with 1 if something was left out."""
        if self.refused:
            typer.echo(f"onnxviz: {len(self.refused)} of {len(self.paths)} inputs could not be read", err=True)
            raise typer.Exit(1)


def read(explainer: Explainer, path: Path) -> Any:
    """One file as an input: a picture as pixels, an array with its batch axis, a series laid out as the model takes it.

    A .npz holds the inputs of a model with several, by name.

    Raises:
        InputError: the file cannot be read, or does not say what the model takes.
    """
    from onnxviz.image import read_pixels

    if path.suffix.lower() in {".npy", ".npz"}:
        return _array(explainer, path)
    if path.suffix.lower() == ".csv":
        return _series(explainer, path)
    explainer.image_input  # noqa: B018 - refuses where the file does not say how pictures are prepared
    return read_pixels(path)


def load(path: Path) -> Array | dict[str, Array]:
    """What numpy saved: an array, or arrays by name.

    Raises:
        InputError: it is no such file.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{str(path)!r} is no {path.suffix} file of numbers: {error}") from error


def encoded(explainer: Explainer, x: Any) -> Any:
    """Pixels as the network takes them; anything else as it is."""
    import numpy as np

    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        return x
    return np.concatenate([explainer.read_image(one) for one in (x if x.ndim == 4 else [x])])


def _array(explainer: Explainer, path: Path) -> Any:
    import numpy as np

    x = load(path)
    if isinstance(x, dict):
        return x
    batchless = x.ndim == len(explainer.inputs[0].shape) - 1 and x.dtype != np.uint8
    return x[None] if batchless else x


def _series(explainer: Explainer, path: Path) -> Array:
    """Rows are times and columns channels; of a model that takes (N, features), rows are samples."""
    import numpy as np

    table, tensor = np.array(_rows(path), np.float32), explainer.inputs[0]
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is no text: {error}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows: list[list[float]] = []
    for number, cells in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), 1):
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


def target_of(explainer: Explainer, names: Sequence[str] | None) -> Any:
    """Classes by index or name: None is the top-1, several are several maps.

    Raises:
        TargetError: no class, or more than one, has that name.
    """
    if not names:
        return None
    indices = [_class(explainer, name) for name in names]
    return indices[0] if len(indices) == 1 else [indices]


def _class(explainer: Explainer, name: str) -> int:
    if name.lstrip("-").isdigit():
        return int(name)
    if explainer.classes is None:
        raise TargetError(f"there is no class {name!r}: the file has no class names, so give the index")
    known = list(explainer.classes)
    same = [i for i, one in enumerate(known) if one == name] or [
        i for i, one in enumerate(known) if name.casefold() in {part.strip() for part in one.casefold().split(",")}
    ]
    if len(same) != 1:
        if same:
            raise TargetError(f"the classes {', '.join(map(str, same))} are all called {name!r}: give an index")
        raise TargetError(f"there is no class {name!r}{nearest(name, known)}")
    return same[0]


def behind(explainer: Explainer, x: Any) -> Any:
    """What a plot of arrays lies over: their pictures, or series (N, C, T); None where a result has its own."""
    import numpy as np

    tensor = explainer.inputs[0]
    if isinstance(x, dict) or x.dtype == np.uint8 or tensor.axes.channel is None:
        return None
    if len(tensor.axes.spatial) == 1 and x.ndim == 3:
        return np.moveaxis(x, tensor.axes.channel, 1)
    if len(tensor.axes.spatial) == 2 and getattr(tensor, "image", None):
        return explainer.image_input.pixels(x)
    return None
