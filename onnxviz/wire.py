"""Reading and writing an ONNX file without holding its weights in memory.

``onnx.load`` copies all weights into one protobuf message, whose memory does not come back to the system when it is
dropped. An ONNX file is a protobuf message whose wire format is public and small
(https://protobuf.dev/programming-guides/encoding/), so the weights are found by their offsets and mapped from the
file instead, and written one after the other.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from onnxviz.errors import FileFormatError

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH, INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
DIMS, DATA_TYPE, NAME, RAW_DATA, DOC_STRING = 1, 2, 8, 9, 12  # TensorProto
SMALL = 1024
"""Tensors of fewer bytes stay in the skeleton: shapes, axes, scalars."""
ALIGNMENT = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Region:
    """Where a weight's bytes lie."""

    name: str
    dtype: int
    dims: tuple[int, ...]
    file: Path
    offset: int
    length: int


def read_skeleton(path: Path) -> tuple[onnx.ModelProto, dict[str, Region]]:
    """The model with every large weight left in the file, and where those weights are.

    In the skeleton they are external tensors that point into ``path`` itself.

    Raises:
        FileFormatError: the file is not an ONNX model or is cut off.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise FileFormatError(f"{path} is empty, not an ONNX file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = onnx.ModelProto()
            regions: dict[str, Region] = {}
            try:
                for field, wire, start, end, whole in _fields(data, 0, len(data)):
                    if field == GRAPH and wire == _BYTES:
                        graph, regions = _read_graph(data, start, end, path)
                        model.graph.MergeFrom(graph)
                    else:
                        model.MergeFromString(data[whole:end])
            except (IndexError, ValueError, DecodeError) as error:
                raise FileFormatError(f"{path} is not an ONNX file, or it is cut off or damaged ({error})") from error
    return model, regions


def write(file: IO[bytes], skeleton: onnx.ModelProto, weights: Iterable[tuple[str, ir.TensorProtocol]]) -> None:
    """Write ``skeleton`` with ``weights`` as further initializers, one weight in memory at a time.

    Bytes appended to the file afterwards may add repeated fields of the model, such as metadata.
    """
    weights = list(weights)
    head = onnx.ModelProto()
    head.CopyFrom(skeleton)
    head.ClearField("graph")
    start, graph = head.SerializeToString(), skeleton.graph.SerializeToString()
    total = 0
    for _ in range(3):  # the padding depends on the length of the length, which depends on the padding
        headers, total = _layout(len(start) + 1 + len(_varint(total)) + len(graph), weights)
        total += len(graph)
    file.write(start + _tag(GRAPH) + _varint(total) + graph)
    for header, (_, tensor) in zip(headers, weights, strict=True):
        file.write(header)
        file.write(tensor.tobytes())


def _layout(position: int, weights: list[tuple[str, ir.TensorProtocol]]) -> tuple[list[bytes], int]:
    """Everything of each initializer but its data, padded so that the data is aligned; and the bytes all take."""
    headers, first = [], position
    for name, tensor in weights:
        proto = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
        fixed = proto.SerializeToString()
        raw = _tag(RAW_DATA) + _varint(tensor.nbytes)
        for pad in range(2 * ALIGNMENT):
            body = fixed + _tag(DOC_STRING) + _varint(pad) + b" " * pad + raw
            header = _tag(INITIALIZER) + _varint(len(body) + tensor.nbytes) + body
            if (position + len(header)) % ALIGNMENT == 0:
                break
        headers.append(header)
        position += len(header) + tensor.nbytes
    return headers, position - first


def _read_graph(data: mmap.mmap, start: int, end: int, path: Path) -> tuple[onnx.GraphProto, dict[str, Region]]:
    graph, regions = onnx.GraphProto(), {}
    for field, wire, inner, stop, whole in _fields(data, start, end):
        if field == INITIALIZER and wire == _BYTES and stop - inner > SMALL:
            tensor, region = _read_tensor(data, inner, stop, path)
            graph.initializer.append(tensor)
            if region:
                regions[region.name] = region
        else:
            graph.MergeFromString(data[whole:stop])
    return graph, regions


def _read_tensor(data: mmap.mmap, start: int, end: int, path: Path) -> tuple[onnx.TensorProto, Region | None]:
    tensor, raw = onnx.TensorProto(), None
    for field, wire, inner, stop, whole in _fields(data, start, end):
        if field == RAW_DATA and wire == _BYTES:
            raw = inner, stop - inner
        elif field != DOC_STRING:
            tensor.MergeFromString(data[whole:stop])
    if raw is None:
        return tensor, None
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", path.name), ("offset", str(raw[0])), ("length", str(raw[1]))):
        tensor.external_data.add(key=key, value=value)
    return tensor, Region(tensor.name, tensor.data_type, tuple(tensor.dims), path, *raw)


def _fields(data: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field, wire type, start of content, end, start of the whole field) of a message's fields."""
    while position < end:
        whole = position
        key, position = _read_varint(data, position, end)
        field, wire = key >> 3, key & 7
        start = position
        if wire == _VARINT:
            _, position = _read_varint(data, position, end)
        elif wire == _BYTES:
            length, start = _read_varint(data, position, end)
            position = start + length
        elif wire in (_FIXED32, _FIXED64):
            position += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {whole}")
        if position > end or field == 0:
            raise ValueError(f"a field at byte {whole} runs past the end of its message")
        yield field, wire, start, position, whole


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= end or shift > 63:
            raise ValueError(f"a number at byte {position} is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _BYTES)
