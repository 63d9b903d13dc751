"""Sessions on disk: what onnxruntime's optimiser made of a graph, for the next process that asks the same.

An entry is one file: weights that the optimiser changed (laid out in blocks, flipped, multiplied with others), the
optimised graph, which names them and those that it left as they are, and a description, which comes last, so that a
file that was cut off has none. Its name is a digest of all that decides what the optimiser does. A digest tells of
which of the model's weights its own were made; its own have none, like those in the model's file.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import struct
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from onnxviz import __version__
from onnxviz.engine.session import (
    WEIGHTS_FOLDER,
    available_cores,
    create_session,
    distrust_pools,
    runtime,
    session_options,
    started,
)
from onnxviz.engine.weights import Weights
from onnxviz.errors import FileAccessError, FileFormatError, OnnxvizWarning, ProviderError
from onnxviz.files import writing
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnxruntime

_END = struct.Struct("<Q8s")
_MAGIC = b"ovsess\x00\x01"
_PAGE = 4096


@dataclass(frozen=True)
class _Description:
    """What an entry says of itself.

    Attributes:
        name: of its file.
        start: where the graph begins, behind the weights.
        length: of the graph.
        graph: its digest.
        kept: weights that it takes from the model's file.
        sources: of the model's weights, those that others were made of.
        made_of: their digest.
    """

    name: str
    start: int
    length: int
    graph: str
    kept: list[str]
    sources: list[str]
    made_of: str


class Store:
    """A folder of prepared sessions, for one file's weights. Entries may be deleted at any time.

    Args:
        folder: is made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def session(
        self,
        model: onnx.ModelProto,
        weights: Weights,
        providers: Sequence[tuple[str, dict[str, Any]]],
        *,
        threads: int | None = None,
    ) -> onnxruntime.InferenceSession:
        """As :func:`~onnxviz.engine.session.create_session`, from an entry if there is one that holds, else with one.

        What cannot be written is told by a warning, and done without.
        """
        path = self.folder / f"{_name(model, providers)}.session"
        if found := self._opened(path, model, weights, providers, threads):
            return found
        try:
            self.folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=self.folder) as aside:
                copy = Path(aside) / "graph.onnx"
                session = create_session(model, weights, providers, threads=threads, copy=copy)
                with writing(path) as draft:
                    _write(draft, path.name, copy, model, weights)
                return session
        except (OSError, FileAccessError, FileFormatError, ProviderError) as error:
            warnings.warn(f"cache: {self.folder} cannot be written, going on without: {error}", OnnxvizWarning, 2)
        return create_session(model, weights, providers, threads=threads)

    def _opened(
        self,
        path: Path,
        model: onnx.ModelProto,
        weights: Weights,
        providers: Sequence[tuple[str, dict[str, Any]]],
        threads: int | None,
    ) -> onnxruntime.InferenceSession | None:
        """The session of an entry; None where it is missing, damaged, or of other weights."""
        try:
            if not path.is_file() or path.stat().st_uid not in _trusted(weights):
                return None
            with path.open("rb") as file:
                about = _description(file)
                file.seek(about.start)
                graph = file.read(about.length)
        except (OSError, ValueError, TypeError, struct.error):
            return None
        held = about.name == path.name and hashlib.sha256(graph).hexdigest() == about.graph
        if not held or not {*about.kept, *about.sources} <= weights.arrays.keys():
            return None
        if _digest(weights, about.sources) != about.made_of:
            return None
        options = session_options(weights, threads=threads)
        options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        distrust_pools(options, model)
        weights.share(options, weights.lent(model).intersection(about.kept))
        try:
            placed, folder = _placed(onnx.ModelProto.FromString(graph), path, model, weights)
            options.add_session_config_entry(WEIGHTS_FOLDER, folder)
            return started(placed, options, providers)
        except (DecodeError, ValueError, ProviderError):
            return None


def _trusted(weights: Weights) -> set[int]:
    """Whose entries are taken: ours, root's, and the model's folder's owner's; those of others may compute anything."""
    own = {os.getuid()} if hasattr(os, "getuid") else {0}
    return own | {0} | ({weights.folder.stat().st_uid} if weights.folder is not None else set())


def _name(model: onnx.ModelProto, providers: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A digest of the graph, and of what makes of it what it becomes."""
    ort = runtime()
    circumstances = [__version__, ort.__version__, ort.get_build_info(), _processor(), list(providers)]
    digest = hashlib.sha256(json.dumps(circumstances, sort_keys=True, default=str).encode())
    digest.update(model.SerializeToString())
    return digest.hexdigest()[:32]


@cache
def _processor() -> str:
    """What the processor can do, by which onnxruntime chooses the layout of weights."""
    said = Path("/proc/cpuinfo")
    lines = said.read_text().splitlines() if said.exists() else []
    features = [line for line in lines if line.lower().startswith(("flags", "features", "model name"))]
    return " ".join([platform.machine(), platform.processor(), *sorted(set(features))])


def _digest(weights: Weights, names: Sequence[str]) -> str:
    """Of the weights' bytes; a good part of the time that an entry takes, so on all cores."""
    with ThreadPoolExecutor(available_cores()) as pool:
        parts = pool.map(lambda name: hashlib.sha256(np.ascontiguousarray(weights.arrays[name]).data).digest(), names)
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _description(file: BinaryIO) -> _Description:
    """What stands at a file's end; ValueError, TypeError or struct.error if it is no entry."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    length, magic = _END.unpack(file.read())
    if magic != _MAGIC or length > size:
        raise ValueError("no entry")
    file.seek(size - _END.size - length)
    about = _Description(**json.loads(file.read(length)))
    if about.start + about.length + length + _END.size != size:
        raise ValueError("an entry that was cut")
    if not all(isinstance(name, str) for name in (*about.kept, *about.sources)):
        raise ValueError("names that are none")
    return about


def _placed(graph: onnx.ModelProto, path: Path, model: onnx.ModelProto, weights: Weights) -> tuple[bytes, str]:
    """The graph of an entry with the places of its weights, and the folder that they are told from.

    ValueError where the entry and the model's file have no folder in common.
    """
    assert weights.folder is not None
    model_folder, entry = weights.folder.resolve(), path.resolve()
    folder = os.path.commonpath([model_folder, entry.parent])
    places = {t.name: {e.key: e.value for e in t.external_data} for t in _external(model)}
    for tensor in _external(graph):
        place = places.get(tensor.name) if not tensor.external_data else None
        file = entry if place is None else model_folder / place["location"]
        for key, value in {**(place or {}), "location": os.path.relpath(file, folder)}.items():
            tensor.external_data.add(key=key, value=value)
    return graph.SerializeToString(), folder


def _write(path: Path, name: str, copy: Path, model: onnx.ModelProto, weights: Weights) -> None:
    """Write an entry of the optimised graph that onnxruntime left in ``copy``."""
    graph = onnx.load(copy, load_external_data=False)
    data = np.memmap(copy.with_name(f"{copy.name}.data"), np.uint8, "r") if _external(graph) else np.empty(0, np.uint8)
    kept = []
    with path.open("wb") as file:
        for tensor in _external(graph):
            place = {entry.key: entry.value for entry in tensor.external_data}
            start = int(place.get("offset", "0"))
            content = data[start : start + int(place["length"])]
            if _same(tensor, content, weights.arrays.get(tensor.name)):
                kept.append(tensor.name)
                del tensor.external_data[:]
                continue
            file.write(b"\0" * (-file.tell() % _PAGE))  # so that it can be mapped
            del tensor.external_data[:]
            tensor.external_data.add(key="offset", value=str(file.tell()))
            tensor.external_data.add(key="length", value=str(len(content)))
            file.write(content.data)
        # Nothing is made of what is lent and kept: the entry holds whatever numbers stand there.
        free = weights.lent(model).intersection(kept)
        sources = sorted({t.name for t in model.graph.initializer if t.name in weights.arrays} - free)
        encoded, start = graph.SerializeToString(), file.tell()
        about = _Description(
            name, start, len(encoded), hashlib.sha256(encoded).hexdigest(), kept, sources, _digest(weights, sources)
        )
        said = json.dumps(asdict(about)).encode()
        file.write(encoded + said + _END.pack(len(said), _MAGIC))
        file.flush()
        os.fsync(file.fileno())


def _external(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in graph.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]


def _same(tensor: onnx.TensorProto, content: Array, source: Array | None) -> bool:
    """Whether the optimiser left a weight of the model's as it was."""
    if source is None or tuple(tensor.dims) != source.shape:
        return False
    return np.array_equal(content, np.ascontiguousarray(source).reshape(-1).view(np.uint8))
