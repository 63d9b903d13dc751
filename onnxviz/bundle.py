"""The contract in the file: what an explainable ONNX file contains and how it is named. No other module knows.

An explainable file is an ordinary ONNX model (opset 18, IR 10). Its outputs are the model's own, one per tapped layer
under the layer's name, and ``grad/<name>`` for every layer and input that has a gradient; its inputs are the model's
own and ``seed/<output>``, the cotangent of that output's logits. Everything else stands in its metadata.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnxviz import wire
from onnxviz.errors import FileFormatError
from onnxviz.files import accessing, replacing, require_readable
from onnxviz.limits import require_room
from onnxviz.manifest import Manifest, Tensor, grad_name, seed_name
from onnxviz.soundness import require_sound, stored_tensors
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnx_ir as ir

EMBEDDED_LIMIT = 2**31 - 2**24
"""A protobuf message is at most 2 GiB; above this, weights go to a file beside the model."""


@dataclass(frozen=True)
class Bundle:
    """An explainable file, opened: its graph without the weights, its metadata, and its weights mapped from disk.

    ``replaced`` are large weights that others took the place of, in memory; see :meth:`with_weights`.
    """

    path: Path
    skeleton: onnx.ModelProto
    manifest: Manifest
    regions: dict[str, wire.Region]
    identity: tuple[int, ...]
    replaced: Mapping[str, Array] = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Raise FileFormatError if another file has taken this one's place: its weights lie elsewhere."""
        with accessing(self.path, "read"):
            unchanged = self.path.exists() and _identity(self.path) == self.identity
        if not unchanged:
            raise FileFormatError(f"{self.path} was replaced or removed after it was loaded: load it again")

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The large weights as read-only arrays backed by the file."""
        files = {region.file for region in self.regions.values()}
        maps = {}
        for file in files:
            with accessing(file, "read"):
                maps[file] = np.memmap(file, mode="r", dtype=np.uint8)
        return {name: _view(maps[region.file], region) for name, region in self.regions.items()} | dict(self.replaced)

    def with_weights(self, arrays: Mapping[str, Array]) -> Bundle:
        """The same file with other weights, by the names of initializers, of the same shapes and types."""
        skeleton = onnx.ModelProto()
        skeleton.CopyFrom(self.skeleton)
        for tensor in skeleton.graph.initializer:
            if tensor.name in arrays and tensor.name not in self.regions:
                tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name], tensor.name))
        large = {name: array for name, array in arrays.items() if name in self.regions}
        return replace(self, skeleton=skeleton, replaced={**self.replaced, **large})

    @property
    def weight_bytes(self) -> int:
        """Size of the large weights."""
        return sum(region.length for region in self.regions.values())


def read(path: str | os.PathLike[str], *, draft: bool = False) -> Bundle:
    """Open an explainable file; raises FileFormatError if it is not one.

    Args:
        path: of the file.
        draft: whether it may still lack its residuals, which are the last thing to be written.
    """
    file = require_readable(path)
    identity = _identity(file)
    skeleton, regions = wire.read_skeleton(file)
    manifest = Manifest.from_metadata({p.key: p.value for p in skeleton.metadata_props}, file, draft=draft)
    require_sound(skeleton, str(file))
    regions |= {
        tensor.name: _external(tensor, file)
        for tensor in skeleton.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.name not in regions
    }
    for tensor in islice(stored_tensors(skeleton), len(skeleton.graph.initializer), None):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise FileFormatError(f"{file} is damaged: {tensor.name!r}, which is no weight, lies in another file")
    _validate(skeleton, manifest, file)
    return Bundle(file, skeleton, manifest, regions, identity)


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to; on success it takes the place of ``path``, else it is removed.

    Data files written beside the staged model belong to it by name and are removed with it.
    """
    final = Path(path)
    with replacing(final) as draft:
        old_data = _data_files(final)
        yield draft
        for data in _data_files(draft):
            with accessing(final.parent / data.name, "write"):
                data.replace(final.parent / data.name)
    for data in old_data - _data_files_in_use(final):
        data.unlink()


def write(path: Path, model: ir.Model, manifest: Manifest, *, external_data: bool | None = None) -> None:
    """Write the model and its metadata, flushed to disk.

    Args:
        path: where to; use :func:`staged`.
        model: the finished graph.
        manifest: its metadata. ``residuals`` may be added later by :func:`add_residuals`.
        external_data: weights in ``<name>.<hash>.data`` beside the file; by default only above 2 GiB.
    """
    from onnxviz.graph.weights import skeleton_and_weights

    with accessing(path.name, "write"):
        _write(path, *skeleton_and_weights(model), manifest, external_data=external_data)


def _write(
    path: Path,
    skeleton: onnx.ModelProto,
    large: Mapping[str, ir.TensorProtocol],
    manifest: Manifest,
    *,
    external_data: bool | None,
) -> None:
    weights = list(large.items())
    if external_data is None:
        external_data = sum(tensor.nbytes for _, tensor in weights) > EMBEDDED_LIMIT
    if external_data:
        skeleton.graph.initializer.extend(_write_data(path, weights))
        weights = []
    with path.open("wb") as file:
        wire.write(file, skeleton, weights)
        file.write(
            _metadata_bytes(manifest.metadata(only=tuple(f.name for f in fields(Manifest) if f.name != "residuals")))
        )
        _flush(file)


def add_residuals(path: Path, manifest: Manifest) -> None:
    """Append what the check measured to a file that :func:`write` wrote."""
    with accessing(path.name, "write"), path.open("ab") as file:
        file.write(_metadata_bytes(manifest.metadata(only=("residuals",))))
        _flush(file)


def _identity(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _metadata_bytes(entries: dict[str, str]) -> bytes:
    model = onnx.ModelProto()
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    encoded: bytes = model.SerializeToString()
    return encoded


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_data(path: Path, weights: list[tuple[str, ir.TensorProtocol]]) -> list[onnx.TensorProto]:
    """Write ``<name>.<hash>.data`` and return the initializers that refer to it."""
    import hashlib

    digest, rows, draft = hashlib.sha256(), [], path.with_suffix(".data")
    with draft.open("wb") as file:
        for name, tensor in weights:
            file.write(b"\0" * (-file.tell() % 4096))  # page-aligned, so that it can be mapped
            offset, content = file.tell(), tensor.tobytes()
            digest.update(content)
            file.write(content)
            rows.append((name, tensor, offset))
        _flush(file)
    data = path.with_name(f"{path.stem}.{digest.hexdigest()[:16]}.data")
    draft.rename(data)
    protos = []
    for name, tensor, offset in rows:
        proto = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy()))
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", str(offset)), ("length", str(tensor.nbytes))):
            proto.external_data.add(key=key, value=value)
        protos.append(proto)
    return protos


def _data_files(path: Path) -> set[Path]:
    return set(path.parent.glob(f"{glob.escape(path.stem)}.????????????????.data"))


def _data_files_in_use(path: Path) -> set[Path]:
    skeleton, _ = wire.read_skeleton(path)
    return {
        path.parent / entry.value
        for tensor in skeleton.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _external(tensor: onnx.TensorProto, path: Path) -> wire.Region:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location or location != Path(location).name or (path.parent / location).is_symlink():
        raise FileFormatError(f"{path} keeps weight {tensor.name!r} in {location!r}; only a file beside it is accepted")
    try:
        file, offset, length = path.parent / location, int(entries.get("offset", "0")), int(entries["length"])
        size = file.stat().st_size if file.is_file() else None
    except (KeyError, ValueError, OSError) as error:
        raise FileFormatError(f"{path}: where weight {tensor.name!r} lies is not stated: {str(error)[:200]}") from error
    if size is None:
        raise FileFormatError(f"{path} needs the weights file {location!r} beside it, which is missing")
    if offset < 0 or length < 0 or offset + length > size:
        raise FileFormatError(f"{path}: weight {tensor.name!r} lies outside of {location!r}, which is cut off")
    return wire.Region(tensor.name, tensor.data_type, tuple(tensor.dims), file, offset, length)


def _view(file: Array, region: wire.Region) -> Array:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(region.dtype)
    expected = int(np.prod(region.dims, dtype=np.int64)) * dtype.itemsize
    if expected != region.length:
        raise FileFormatError(
            f"{region.file}: weight {region.name!r} of shape {list(region.dims)} takes {expected} bytes, "
            f"{region.length} are there"
        )
    return file[region.offset : region.offset + region.length].view(dtype).reshape(region.dims)


def _validate(skeleton: onnx.ModelProto, manifest: Manifest, path: Path) -> None:
    """The graph is valid ONNX, and has what the metadata promises."""
    outputs = {value.name: value for value in skeleton.graph.output}
    inputs = {value.name: value for value in skeleton.graph.input}
    wanted = {t.value for t in (*manifest.layers, *manifest.outputs)}
    wanted |= {grad_name(t.value) for t in (*manifest.layers, *manifest.inputs) if t.has_gradient}
    needed = {t.name for t in manifest.inputs} | {seed_name(o.name) for o in manifest.outputs if o.has_gradient}
    computed = {name for node in skeleton.graph.node for name in node.output} | outputs.keys() | inputs.keys()
    logits = {o.logits for o in manifest.outputs} - computed
    if missing := sorted(wanted - outputs.keys()) + sorted(needed - inputs.keys()) + sorted(logits):
        raise FileFormatError(f"{path} lacks {missing[0]!r}, which its metadata promises; convert the model again")
    for tensor in (*manifest.inputs, *manifest.layers, *manifest.outputs):
        _require_type(tensor, (outputs | inputs)[tensor.value], path)
    for given in manifest.inputs:
        sizes = [size if isinstance(size, int) else 1 for size in given.shape]
        require_room(sizes, np.dtype(np.float32).itemsize, f"{path}: input {given.name!r}")
    try:
        onnx.checker.check_model(_with_weights_as_inputs(skeleton))
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error


def _require_type(tensor: Tensor, value: onnx.ValueInfoProto, path: Path) -> None:
    """What the metadata says of a value is what the graph declares, where it declares something."""
    declared = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim]
    same = not declared.HasField("shape") or (
        len(sizes) == len(tensor.shape)
        and all(a == b or a is None or not isinstance(b, int) for a, b in zip(sizes, tensor.shape, strict=True))
    )
    kind = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type).name if declared.elem_type else tensor.dtype
    if not same or kind != tensor.dtype:
        raise FileFormatError(
            f"{path} is damaged: its metadata says that {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, its "
            f"graph {kind} {sizes}; convert the model again"
        )


def _with_weights_as_inputs(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large weights, for ONNX's checker, which would look for them."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.graph.ClearField("initializer")
    for tensor in skeleton.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            model.graph.initializer.add().CopyFrom(tensor)
        elif all(tensor.name != value.name for value in skeleton.graph.input):
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model
