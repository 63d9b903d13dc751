"""What an explainable file says about itself: the names in it, and its tables of inputs, outputs and layers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxviz.errors import FileFormatError
from onnxviz.source import BATCH

FORMAT_VERSION = 1
OPSET, IR_VERSION = 18, 10
PROJECT_DOMAIN = "onnxviz"
"""Of the file's functions that ONNX Runtime has no training operator for."""
_PREFIX = "onnxviz."

Dim = int | str | None


def is_batch(size: Dim) -> bool:
    """Whether a size is the batch, or a multiple of it."""
    return isinstance(size, str) and size.split("*")[-1] == BATCH


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
        has_gradient: whether ``grad/<name>`` exists; of an output, whether ``seed/<name>`` does.
    """

    name: str
    value: str
    dtype: str
    shape: tuple[Dim, ...]
    axes: Axes
    has_gradient: bool = False

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
        reason: why it has no gradient.
    """

    type: str = ""
    operator: str = ""
    parameters: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Output(Tensor):
    """One of the model's own outputs.

    Attributes:
        logits: the value at which the gradient starts: the output itself, or what stands before its softmax.
        logits_shape, logits_axes: as ``shape`` and ``axes``, of the logits.
        activation: ``Softmax``, ``LogSoftmax`` or ``Sigmoid`` if the output is that of the logits.
        activation_axis: the axis of that softmax.
    """

    logits: str = ""
    logits_shape: tuple[Dim, ...] = ()
    logits_axes: Axes = Axes()
    activation: str | None = None
    activation_axis: int | None = None


@dataclass(frozen=True)
class Input(Tensor):
    """One of the model's own inputs. ``image`` describes the preprocessing (:class:`onnxviz.ImageInput`)."""

    image: dict[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """All that the metadata says about a file.

    Attributes:
        framework, versions: where the model came from and what converted it.
        static_batch: the batch size if the file takes no other.
        inputs, outputs, layers: tables; layers stand in the order of their computation.
        classes: names of the classes, or None.
        activation_bytes: memory that all values of one sample take together, at the example's size.
        sizes: the open sizes of the inputs other than the batch: symbol → what it was in the example.
        caveats: sentences that belong to every result.
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
    sizes: dict[str, int] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    residuals: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def times_the_example(self, shapes: Mapping[str, Sequence[int]]) -> float:
        """How much larger than the example inputs of these shapes are, beside their number of samples."""
        found = {size: shapes[t.name][axis] for t in self.inputs for axis, size in enumerate(t.shape)}
        return math.prod(found[symbol] / size for symbol, size in self.sizes.items())

    def metadata(self, *, only: tuple[str, ...] = ()) -> dict[str, str]:
        """The metadata entries of the file, or those of the named fields."""
        return {
            _PREFIX + key: json.dumps(value, separators=(",", ":"), allow_nan=False)
            for key, value in asdict(self).items()
            if not only or key in only
        }

    @classmethod
    def from_metadata(cls, entries: dict[str, str], path: Path, *, draft: bool = False) -> Manifest:
        """Read the metadata back; raises FileFormatError for a file that is not explainable or of another format."""
        found = {k.removeprefix(_PREFIX): v for k, v in entries.items() if isinstance(k, str) and k.startswith(_PREFIX)}
        if "format_version" not in found:
            raise FileFormatError(
                f"{path} is a plain ONNX file: it contains no layer outputs and no gradient graph. Convert it once "
                f"with onnxviz.convert({str(path)!r}, 'explainable.onnx') and load the result"
            )
        if found["format_version"] != str(FORMAT_VERSION):
            raise FileFormatError(
                f"{path} has format version {found['format_version']}, this onnxviz reads {FORMAT_VERSION}: convert "
                f"the model again, or install the onnxviz that wrote it (versions: {found.get('versions')})"
            )
        try:
            data = {key: json.loads(value) for key, value in found.items()}
            if draft:
                data.setdefault("residuals", {})
            for key, kind in (("inputs", Input), ("outputs", Output), ("layers", Layer)):
                data[key] = tuple(_tensor(kind, row) for row in data[key])
            if data.get("classes") is not None:
                data["classes"] = tuple(data["classes"])
            data["sizes"], data["caveats"] = data.get("sizes", {}), tuple(data.get("caveats", ()))
            return cls(**{f.name: data[f.name] for f in fields(cls)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(
                f"the onnxviz metadata of {path} is damaged ({error!r}); convert the model again"
            ) from error


def _tensor(kind: type[Tensor], row: dict[str, Any]) -> Any:
    row = dict(row)
    for key in ("axes", "logits_axes"):
        if key in row:
            row[key] = Axes(row[key]["batch"], row[key]["channel"], tuple(row[key]["spatial"]))
    for key in ("shape", "logits_shape"):
        if key in row:
            row[key] = tuple(row[key])
    return kind(**row)
