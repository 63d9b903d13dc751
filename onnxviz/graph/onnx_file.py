"""Reading an ``.onnx`` file: its damage named, its large weights taken out of the protobuf once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from math import prod
from os import PathLike, fspath
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from onnxviz.errors import FileFormatError, UnsupportedModelError
from onnxviz.files import require_readable
from onnxviz.graph.bfloat16 import widen
from onnxviz.soundness import require_sound, stored_bytes, stored_tensors
from onnxviz.source import Array

METADATA_PREFIX = "onnxviz."

HELD_BYTES = 65_536
"""Initializers above this size are held as arrays: one copy then serves every session and the lifted graph."""


@dataclass(frozen=True)
class OnnxFile:
    """A model whose large initializers are external tensors, to be found in ``weights`` under their names.

    Weights that lie in a file beside the model are mapped from it, not read. ``widened`` says that the model is
    bfloat16 (:mod:`onnxviz.graph.bfloat16`).
    """

    proto: onnx.ModelProto
    weights: dict[str, Array]
    widened: bool = False


def read(path_or_proto: str | PathLike[str] | onnx.ModelProto) -> OnnxFile:
    """Read and check a model; a given ModelProto stays as it is.

    Raises:
        FileFormatError: not an ONNX file, empty, or damaged; external weights missing or too short.
        UnsupportedModelError: a directory, a file that onnxviz wrote, external data outside of the model's folder,
            sparse weights.
        OSError: the file cannot be opened.
    """
    if isinstance(path_or_proto, onnx.ModelProto):
        proto, folder, called = _copy(path_or_proto), None, "the given ModelProto"
    else:
        path = Path(fspath(path_or_proto))
        proto, folder, called = _parse(path), path.resolve().parent, f"{path.name!r}"
    _refuse_incomplete(proto, called)
    if any(each.key == f"{METADATA_PREFIX}export" for each in proto.metadata_props):
        raise UnsupportedModelError(
            f"{called} was exported for other runtimes and has its map inside: convert the model that it came from"
        )
    if any(each.key.startswith(METADATA_PREFIX) for each in proto.metadata_props):
        raise UnsupportedModelError(f"{called} is an explainable file already: open it with onnxviz.load")
    require_sound(proto, called)
    for sparse in proto.graph.sparse_initializer:
        raise UnsupportedModelError(f"{called} keeps {sparse.values.name!r} as a sparse tensor: store it dense")
    for tensor in stored_tensors(proto):
        if uses_external_data(tensor):
            _check_external(tensor, folder, called)
    own = proto.graph.initializer
    for tensor in (*(t for t in own if not _is_large(t)), *islice(stored_tensors(proto), len(own), None)):
        if uses_external_data(tensor):
            _read_in(tensor, folder)
    widened = widen(proto)
    weights = {tensor.name: _take_out(tensor, folder) for tensor in own if _is_large(tensor)}
    return OnnxFile(_copy(proto), weights, widened)  # a protobuf gives memory back only as a whole


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _is_large(tensor: onnx.TensorProto) -> bool:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype.kind in "fiub" and prod(tensor.dims) * dtype.itemsize > HELD_BYTES


def _take_out(tensor: onnx.TensorProto, folder: Path | None) -> Array:
    """The tensor's numbers, replaced by a reference that is never followed."""
    if uses_external_data(tensor):
        dtype, shape = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
        file, offset = _place(tensor, folder)
        array: Array = np.memmap(file, dtype, mode="r", offset=offset, shape=shape)
    else:
        array = onnx.numpy_helper.to_array(tensor)
    bare = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    bare.data_location = onnx.TensorProto.EXTERNAL
    bare.external_data.add(key="location", value="held by onnxviz")
    tensor.CopyFrom(bare)
    return array


def _read_in(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Give the tensor the numbers that lie in a file."""
    file, offset = _place(tensor, folder)
    with file.open("rb") as stream:
        stream.seek(offset)
        numbers = stream.read(stored_bytes(tensor))
    whole = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=numbers)
    tensor.CopyFrom(whole)


def _place(tensor: onnx.TensorProto, folder: Path | None) -> tuple[Path, int]:
    """The file where the tensor lies, and from which byte on."""
    assert folder is not None
    entries = {each.key: each.value for each in tensor.external_data}
    return folder / entries["location"], int(entries.get("offset", 0))


def _parse(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise UnsupportedModelError(
            f"{path.name!r} is a directory, not an .onnx file (a TensorFlow SavedModel? export it with tf2onnx first)"
        )
    if not path.exists():
        raise FileFormatError(f"there is no file {path}")
    data = path.read_bytes()
    if not data:
        raise FileFormatError(f"{path.name!r} is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise FileFormatError(
            f"{path.name!r} is not an ONNX file, or is damaged: its {len(data)} bytes end in the middle of a field or "
            "are no protobuf; copy or export it again"
        ) from error
    return proto


def _refuse_incomplete(proto: onnx.ModelProto, called: str) -> None:
    """A cut file parses when the cut falls between two fields; something that every model has is then missing."""
    imported = {each.domain if each.domain != "ai.onnx" else "" for each in proto.opset_import}
    functions = {(each.domain, each.name) for each in proto.functions}
    missing = None
    if not proto.graph.node or not proto.graph.output:
        missing = "nodes and outputs"
    elif "" not in imported:
        missing = "the version of the default operator set"
    else:
        for node in proto.graph.node:
            domain = node.domain if node.domain != "ai.onnx" else ""
            if domain not in imported and (domain, node.op_type) not in functions:
                missing = f"the version of the operator set {domain!r}, which {node.op_type} needs"
    if missing:
        raise FileFormatError(f"{called} is not a complete ONNX model: {missing} is missing; copy or export it again")


def _check_external(tensor: onnx.TensorProto, folder: Path | None, called: str) -> None:
    entries = {each.key: each.value for each in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise UnsupportedModelError(f"{called} keeps {tensor.name!r} in a file; give the path of the model instead")
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor or ".." in parts or not parts:
        raise UnsupportedModelError(
            f"{called} keeps {tensor.name!r} at {location!r}, outside of the model's own folder; that is not followed"
        )
    size = stored_bytes(tensor)
    try:
        file, offset, length = folder / location, int(entries.get("offset", 0)), int(entries.get("length", size))
        inside, there = file.resolve().is_relative_to(folder), file.stat().st_size if file.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise FileFormatError(
            f"{called} does not say properly where {tensor.name!r} lies: {str(error)[:200]}"
        ) from error
    if not inside:
        raise UnsupportedModelError(
            f"{called} keeps {tensor.name!r} behind the link {location!r}, outside of the model's own folder; that is "
            "not followed"
        )
    if there is None:
        raise FileFormatError(f"{called} keeps its weights in {location!r}, which does not lie beside it; copy both")
    if offset < 0 or length != size or there < offset + size:
        raise FileFormatError(
            f"{location!r}, where {called} keeps its weights, has {there} bytes; {tensor.name!r} needs {size} from "
            f"byte {offset} on ({length} are promised): it is cut off, or belongs to another model"
        )
    require_readable(file)
