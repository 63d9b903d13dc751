"""Files: what the system refuses is told by an error of ours, and what was there stays until the new one is whole."""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnxviz.errors import FileAccessError, FileFormatError, InputError

Array = npt.NDArray[Any]


@contextmanager
def accessing(path: str | os.PathLike[str], how: Literal["read", "write"]) -> Iterator[None]:
    """FileAccessError for what the system refuses meanwhile: no permission, no room."""
    try:
        yield
    except FileAccessError:
        raise
    except OSError as error:
        undone = "; what was there is unchanged" if how == "write" else ""
        raise FileAccessError(f"cannot {how} {os.fspath(path)}: {error.strerror or error}{undone}") from error


def require_readable(path: str | os.PathLike[str]) -> Path:
    """The path of a file that can be read.

    Raises:
        FileFormatError: there is none, or it is not a file.
        FileAccessError: the system does not let us.
    """
    file = Path(path)
    with accessing(file, "read"):
        if "\0" in str(file) or not file.exists():  # the system knows no such names
            raise FileFormatError(f"there is no file {str(file).replace(chr(0), '␀')}")
        if not file.is_file():
            raise FileFormatError(f"{file} is not a file")
        file.open("rb").close()
    return file


def require_no_pipe(path: Path) -> None:
    """Raise InputError for a pipe or a device, which might never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"cannot read {str(path)!r}: it is a pipe or a device")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, in a folder of its own beside ``path``; on success it takes the place of ``path``.

    Raises:
        FileFormatError: ``path`` is a folder, or in none.
        FileAccessError: the system does not let us.
    """
    final = Path(path)
    with accessing(final, "write"):
        if not final.parent.is_dir():
            raise FileFormatError(f"cannot write {final}: there is no folder {final.parent}")
        if final.is_dir():
            raise FileFormatError(f"cannot write {final}: it is a folder; path= is that of a file")
        aside = tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent)
    with aside as folder:
        draft = Path(folder) / final.name
        yield draft
        with accessing(final, "write"):
            draft.replace(final)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As :func:`replacing`, for what does nothing but write."""
    with replacing(path) as draft, accessing(path, "write"):
        yield draft


def lock(folder: Path) -> int | None:
    """A descriptor that keeps a folder for whoever holds it, until it is closed or the process ends.

    None where the system cannot lock folders (Windows, some network file systems). BlockingIOError where it is held.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array | None], **described: str) -> None:
    """Write an ``.npz`` file of the arrays that are there and of texts."""
    present = {name: array for name, array in arrays.items() if array is not None}
    texts = {name: np.array(text) for name, text in described.items()}
    with writing(path) as draft:
        np.savez_compressed(draft, allow_pickle=False, **present, **texts)


def read_arrays(path: str | os.PathLike[str], description: str, holds: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What :func:`write_arrays` wrote: the arrays, and the JSON under the name ``description``.

    Nothing is unpickled.

    Raises:
        FileFormatError: the file is another one, or damaged.
        FileAccessError: the system does not let us read it.
    """
    file = require_readable(path)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = sorted(stored)
            arrays = {name: stored[name] for name in names if description in names}
        described = json.loads(str(arrays.pop(description))) if arrays else None
    except DAMAGE as error:
        raise FileFormatError(f"{str(path)!r} holds no {holds}, or is damaged: {str(error)[:200]}") from error
    if not isinstance(described, dict):
        raise FileFormatError(f"{str(path)!r} holds no {holds}; it has {names}")
    return arrays, described


DAMAGE = (
    ValueError, TypeError, LookupError, EOFError, OSError, MemoryError, RuntimeError, SyntaxError, struct.error,
    zlib.error, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip
"""What numpy and zipfile raise for files that are damaged or lie about sizes; RuntimeError for encrypted ones."""
