"""What a ``.pt2`` archive would run when it is opened: ``torch.export.load`` unpickles what is in it, code and all.

An exported program is a JSON document, and tensors as plain bytes. Beside these an archive may hold pickles (example
inputs, tensors of unusual kinds, objects), which can call any function, compiled libraries, and sizes as text that
sympy evaluates. They are looked at here before torch opens the file.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from onnxviz.errors import UnsupportedModelError

_PARTS = (
    r"Symbol\('\w+'", r"'[-+.e\d]+'", r"[a-z_]+=(True|False|\d+)", r"[A-Z][A-Za-z]*", r"[suz]\d+", r"\d[\w.]*",
    r"[\s(),+\-*/%<>=&|~]",
)  # fmt: skip
_SIZE = re.compile(rf"({'|'.join(_PARTS)})*")
"""What sizes consist of: symbols, numbers, and sympy's functions, whose names begin with a capital letter."""


def require_no_code(path: Path) -> None:
    """Raise UnsupportedModelError if opening the archive could run code that it brings along."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise UnsupportedModelError(f"{path.name!r} is compressed, as no exported program is: save it anew")
        documents = {name: _document(archive.read(name)) for name in names if name.endswith(".json")}
        pickled = {
            str(file).rpartition("/")[2] for file in _values(list(documents.values()), "use_pickle", "path_name")
        }
        counts = Counter(names)
        for name in names:
            if counts[name] > 1:
                why: str | None = "there twice"
            elif name in documents:
                why = _in_document(documents[name])
            else:
                why = _in_file(archive, name, pickled)
            if why:
                raise UnsupportedModelError(
                    f"{path.name!r} may hold code that would be run ({name}: {why}): if you trust the file's origin, "
                    f"pass trust_code=True"
                )


def _in_file(archive: zipfile.ZipFile, name: str, pickled: set[str]) -> str | None:
    folder, _, file = name.rpartition("/")
    if "aotinductor" in folder:
        return "a compiled library"
    if file.startswith(("custom_obj", "opaque_obj")):
        return "a pickled object"
    return _in_pickle(archive.read(name)) if file.endswith(".pt") or file in pickled else None


def _in_pickle(content: bytes) -> str | None:
    """Tensors and plain containers can be read; of other functions not even the names are looked up."""
    if not content:
        return None
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, TypeError, AttributeError):
        return "a pickle of something else than tensors"
    return None


def _document(content: bytes) -> Any:
    """JSON; None where it is none, which torch refuses."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _in_document(document: Any) -> str | None:
    for text in _values(document, "expr_str", "expr_str"):
        if not _SIZE.fullmatch(str(text)) or re.search(r"\)\s*\(", str(text)):
            return f"the size {str(text)[:50]!r}"
    return None


def _values(node: Any, having: str, wanted: str) -> Iterator[Any]:
    """The values of one key, of all objects in a document in which another is neither missing nor false."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and node.get(having):
        yield node.get(wanted)
    for value in inner:
        yield from _values(value, having, wanted)
