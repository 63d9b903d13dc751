"""The contract in the file: what an explainable ONNX file contains and how it is named. No other module knows.

An explainable file is an ordinary ONNX model (opset 18, IR 10). Its outputs are the model's own, one per tapped layer
under the layer's name, and ``grad/<name>`` for every layer and input that has a gradient; its inputs are the model's
own and ``seed/<output>``, the cotangent of that output's logits. Everything else stands in its metadata.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnxviz import wire
from onnxviz.errors import FileFormatError
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnx_ir as ir

FORMAT_VERSION = 1
OPSET, IR_VERSION = 18, 10
EMBEDDED_LIMIT = 2**31 - 2**24
"""A protobuf message is at most 2 GiB; above this, weights go to a file beside the model."""
_PREFIX = "onnxviz."

Dim = int | str | None


def seed_name(output: str) -> str:
    """The input that takes the cotangent of an output's logits."""
    return f"seed/{output}"


def grad_name(value: str) -> str:
    """The output that gives the gradient with respect to a layer's value or an input."""
    return f"grad/{value}"


@dataclass(frozen=True)
class Axes:
    """What the axes of a value mean; None or empty where it is not known."""

    batch: int | None = None
    channel: int | None = None
    spatial: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """What is known of an input, an output or a layer.

    Attributes:
        name: its public name.
        value: the value in the graph that holds it.
        dtype: numpy's name of its element type.
        shape: sizes; ``"N"`` where it is the batch, ``"k*N"`` where it is k times the batch, None where unknown.
        axes: what the axes mean.
    """

    name: str
    value: str
    dtype: str
    shape: tuple[Dim, ...]
    axes: Axes

    @property
    def per_sample(self) -> int | None:
        """How many entries of the batch axis one sample takes; None where there is no batch axis."""
        if self.axes.batch is None:
            return None
        size = self.shape[self.axes.batch]
        return int(size.split("*")[0]) if isinstance(size, str) and "*" in size else 1


@dataclass(frozen=True)
class Layer(Tensor):
    """A tapped layer.

    Attributes:
        type: the framework's name for the kind of layer.
        operator: the ONNX operator that computes its output.
        parameters: how many numbers it learned.
        has_gradient: whether ``grad/<name>`` exists.
        reason: why it has none.
    """

    type: str = ""
    operator: str = ""
    parameters: int = 0
    has_gradient: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Output(Tensor):
    """One of the model's own outputs.

    Attributes:
        logits: the value at which the gradient starts: the output itself, or what stands before its softmax.
        logits_shape, logits_axes: as ``shape`` and ``axes``, of the logits.
        activation: ``Softmax``, ``LogSoftmax`` or ``Sigmoid`` if the output is that of the logits.
        activation_axis: the axis of that softmax.
        has_gradient: whether ``seed/<name>`` exists.
    """

    logits: str = ""
    logits_shape: tuple[Dim, ...] = ()
    logits_axes: Axes = Axes()
    activation: str | None = None
    activation_axis: int | None = None
    has_gradient: bool = False


@dataclass(frozen=True)
class Input(Tensor):
    """One of the model's own inputs. ``image`` describes the preprocessing (:class:`onnxviz.ImageInput`)."""

    has_gradient: bool = False
    image: dict[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """All that the metadata says about a file.

    Attributes:
        framework, versions: where the model came from and what converted it.
        static_batch: the batch size if the file takes no other.
        inputs, outputs, layers: tables; layers stand in the order of their computation.
        classes: names of the classes, or None.
        activation_bytes: memory that all values of one sample take together.
        residuals: what the check at conversion measured, and the recipe of the inputs it was measured on.
        format_version: of the metadata.
    """

    framework: str
    versions: dict[str, str]
    static_batch: int | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    layers: tuple[Layer, ...]
    classes: tuple[str, ...] | None = None
    activation_bytes: int = 0
    residuals: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def metadata(self, *, only: tuple[str, ...] = ()) -> dict[str, str]:
        """The metadata entries of the file, or those of the named fields."""
        return {
            _PREFIX + key: json.dumps(value, separators=(",", ":"), allow_nan=False)
            for key, value in asdict(self).items()
            if not only or key in only
        }

    @classmethod
    def from_metadata(cls, entries: dict[str, str], path: Path) -> Manifest:
        """Read the metadata back; raises FileFormatError for a file that is not explainable or of another format."""
        found = {k.removeprefix(_PREFIX): v for k, v in entries.items() if k.startswith(_PREFIX)}
        if "format_version" not in found:
            raise FileFormatError(
                f"{path} is a plain ONNX file: it contains no layer outputs and no gradient graph. Convert it once with "
                f"onnxviz.convert({str(path)!r}, 'explainable.onnx') and load the result"
            )
        try:
            data = {key: json.loads(value) for key, value in found.items()}
            if data["format_version"] != FORMAT_VERSION:
                raise FileFormatError(
                    f"{path} has format version {data['format_version']!r}, this onnxviz reads {FORMAT_VERSION}: convert "
                    f"the model again, or install the onnxviz that wrote it (versions: {data.get('versions')})"
                )
            for key, kind in (("inputs", Input), ("outputs", Output), ("layers", Layer)):
                data[key] = tuple(_tensor(kind, row) for row in data[key])
            if data.get("classes") is not None:
                data["classes"] = tuple(data["classes"])
            return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"the onnxviz metadata of {path} is damaged ({error!r}); convert the model again") from error


def _tensor(kind: type[Tensor], row: dict[str, Any]) -> Any:
    row = dict(row)
    for key in ("axes", "logits_axes"):
        if key in row:
            row[key] = Axes(row[key]["batch"], row[key]["channel"], tuple(row[key]["spatial"]))
    for key in ("shape", "logits_shape"):
        if key in row:
            row[key] = tuple(row[key])
    return kind(**row)


@dataclass(frozen=True)
class Bundle:
    """An explainable file, opened: its graph without the weights, its metadata, and its weights mapped from disk."""

    path: Path
    skeleton: onnx.ModelProto
    manifest: Manifest
    regions: dict[str, wire.Region]

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The large weights as read-only arrays backed by the file."""
        files = {region.file for region in self.regions.values()}
        maps = {file: np.memmap(file, mode="r", dtype=np.uint8) for file in files}
        return {name: _view(maps[region.file], region) for name, region in self.regions.items()}

    @property
    def weight_bytes(self) -> int:
        """Size of the large weights."""
        return sum(region.length for region in self.regions.values())


def read(path: str | os.PathLike[str]) -> Bundle:
    """Open an explainable file; raises FileFormatError if it is not one."""
    file = Path(path)
    if not file.is_file():
        raise FileFormatError(f"there is no file {file}" if not file.exists() else f"{file} is not a file")
    skeleton, regions = wire.read_skeleton(file)
    manifest = Manifest.from_metadata({p.key: p.value for p in skeleton.metadata_props}, file)
    regions |= {
        tensor.name: _external(tensor, file)
        for tensor in skeleton.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.name not in regions
    }
    _validate(skeleton, manifest, file)
    return Bundle(file, skeleton, manifest, regions)


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to; on success it takes the place of ``path``, else it is removed.

    Data files written beside the staged model belong to it by name and are removed with it.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise FileFormatError(f"cannot write {final}: there is no folder {final.parent}")
    old_data = _data_files(final)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as folder:
        draft = Path(folder) / final.name
        yield draft
        for data in _data_files(draft):
            os.replace(data, final.parent / data.name)
        os.replace(draft, final)
    for data in old_data - _data_files_in_use(final):
        data.unlink()


def write(
    path: Path, model: ir.Model, manifest: Manifest, *, external_data: bool | None = None
) -> None:
    """Write the model and its metadata, flushed to disk.

    Args:
        path: where to; use :func:`staged`.
        model: the finished graph.
        manifest: its metadata. ``residuals`` may be added later by :func:`add_residuals`.
        external_data: weights in ``<name>.<hash>.data`` beside the file; by default only above 2 GiB.
    """
    import onnx_ir

    graph = model.graph
    large = {
        name: value
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > wire.SMALL
    }
    weights = [(name, value.const_value) for name, value in large.items() if value.const_value is not None]
    for name in large:
        del graph.initializers[name]
    try:
        skeleton = onnx_ir.to_proto(model)
    finally:
        for value in large.values():
            graph.register_initializer(value)
    if external_data is None:
        external_data = sum(tensor.nbytes for _, tensor in weights) > EMBEDDED_LIMIT
    if external_data:
        skeleton.graph.initializer.extend(_write_data(path, weights))
        weights = []
    with path.open("wb") as file:
        wire.write(file, skeleton, weights)
        file.write(_metadata_bytes(manifest.metadata(only=tuple(f.name for f in fields(Manifest) if f.name != "residuals"))))
        _flush(file)


def add_residuals(path: Path, manifest: Manifest) -> None:
    """Append what the check measured to a file that :func:`write` wrote."""
    with path.open("ab") as file:
        file.write(_metadata_bytes(manifest.metadata(only=("residuals",))))
        _flush(file)


def _metadata_bytes(entries: dict[str, str]) -> bytes:
    model = onnx.ModelProto()
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


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
        proto = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=[int(d) for d in tensor.shape])
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", str(offset)), ("length", str(tensor.nbytes))):
            proto.external_data.add(key=key, value=value)
        protos.append(proto)
    return protos


def _data_files(path: Path) -> set[Path]:
    return set(path.parent.glob(f"{path.stem}.????????????????.data"))


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
    file = path.parent / location
    if not file.is_file():
        raise FileFormatError(f"{path} needs the weights file {location!r} beside it, which is missing")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries["length"])
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path}: where weight {tensor.name!r} lies is not stated ({entries})") from error
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
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
    """The graph has what the metadata promises."""
    outputs = {value.name for value in skeleton.graph.output}
    inputs = {value.name for value in skeleton.graph.input}
    wanted = {t.value for t in (*manifest.layers, *manifest.outputs)}
    wanted |= {grad_name(t.value) for t in (*manifest.layers, *manifest.inputs) if t.has_gradient}
    needed = {t.name for t in manifest.inputs} | {seed_name(o.name) for o in manifest.outputs if o.has_gradient}
    if missing := sorted(wanted - outputs) + sorted(needed - inputs):
        raise FileFormatError(f"{path} lacks {missing[0]!r}, which its metadata promises; convert the model again")
