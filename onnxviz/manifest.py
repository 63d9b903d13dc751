"""What an explainable file says about itself: the names in it, and its tables of inputs, outputs and layers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxviz.decoding import decoded
from onnxviz.errors import FileFormatError
from onnxviz.residuals import Residuals
from onnxviz.source import BATCH

FORMAT_VERSION = 1
"""Of the metadata and of what the graph promises with it (names, seeds, functions). It is raised when a file of today
could be misread: a field of a table gets another meaning, a name or another form, or one is added that readers must
know. Entries of the metadata that a reader does not know are left alone, so that a later onnxviz may add some."""
OPSET, IR_VERSION = 18, 10
PROJECT_DOMAIN = "onnxviz"
"""Of the file's functions that ONNX Runtime has no training operator for."""
_PREFIX = "onnxviz."

_PER_SAMPLE = re.compile(r"[1-9]\d{0,8}\*|[^*]*$")
"""How a symbolic size of a batch axis begins: with how many entries one sample takes, where these are several."""

Dim = int | str | None


def is_batch(size: Dim) -> bool:
    """Whether a size is the batch, or a multiple of it."""
    return isinstance(size, str) and size.split("*")[-1] == BATCH


def seed_name(output: str) -> str:
    """The input that takes the cotangent of an output's logits."""
    return f"seed/{output}"


OF_GRADIENT = "_of_gradient"
"""What symbols of gradients' sizes end in: a file's seed has a batch of its own by default."""


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
        if "export" in found:
            raise FileFormatError(
                f"{path} is a plain ONNX file, exported for other runtimes: run it with onnxruntime, or load the "
                "explainable file that it was exported from"
            )
        if "format_version" not in found:
            raise FileFormatError(
                f"{path} is a plain ONNX file: it contains no layer outputs and no gradient graph. Convert it once "
                f"with onnxviz.convert({str(path)!r}, 'explainable.onnx') and load the result"
            )
        if found["format_version"] != str(FORMAT_VERSION):
            raise FileFormatError(
                f"{path} has format version {found['format_version'][:20]}, this onnxviz reads {FORMAT_VERSION}: "
                f"convert the model again, or install the onnxviz that wrote it "
                f"(versions: {found.get('versions', '')[:200]})"
            )
        known = {each.name for each in fields(cls)} - ({"residuals"} if draft else set())
        if missing := known - found.keys() - {"sizes", "caveats"}:
            raise FileFormatError(
                f"the onnxviz metadata of {path} is damaged, without {sorted(missing)}: convert again"
            )
        try:
            data = {k: json.loads(v, parse_constant=_number, parse_float=_number) for k, v in found.items()}
            manifest: Manifest = decoded(cls, {key: data[key] for key in known & data.keys()})
            _require_sense(manifest)
            if not draft:
                decoded(Residuals, manifest.residuals)
        except (TypeError, ValueError, RecursionError) as error:
            raise FileFormatError(
                f"the onnxviz metadata of {path} is damaged ({error}); convert the model again"
            ) from error
        return manifest


def _number(text: str) -> float:
    """A float of JSON, which has no NaN and no infinity; ValueError for others."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _require_sense(manifest: Manifest) -> None:
    """ValueError where tables contradict themselves or one another."""
    for table in (manifest.inputs, manifest.outputs, manifest.layers):
        if len({t.name for t in table}) < len(table):
            raise ValueError("two rows of a table have one name")
        for tensor in table:
            _require_axes(tensor.name, tensor.shape, tensor.axes, manifest.static_batch)
    for output in manifest.outputs:
        _require_axes(output.name, output.logits_shape, output.logits_axes, manifest.static_batch)
        if output.activation not in (None, "Softmax", "LogSoftmax", "Sigmoid"):
            raise ValueError(f"the output {output.name!r} has the unknown activation {output.activation!r}")
        if output.activation_axis is not None and not -len(output.shape) <= output.activation_axis < len(output.shape):
            raise ValueError(f"the output {output.name!r} has no axis {output.activation_axis}")
    if not (manifest.inputs and manifest.outputs):
        raise ValueError("it has no inputs or no outputs")
    batches = {1, None} | {t.shape[0] for t in manifest.inputs if t.shape}
    if manifest.static_batch not in batches:
        raise ValueError(f"no input takes {manifest.static_batch} samples")
    if manifest.activation_bytes < 0:
        raise ValueError("a number of bytes is negative")
    symbols = {size for tensor in manifest.inputs for size in tensor.shape}
    if not symbols.issuperset(manifest.sizes) or any(size < 1 for size in manifest.sizes.values()):
        raise ValueError(f"the sizes {manifest.sizes} are of no input")
    counts = {o.shape[o.axes.channel] for o in manifest.outputs if o.axes.channel is not None}
    if manifest.classes is not None and counts and len(manifest.classes) not in counts:
        raise ValueError(f"{len(manifest.classes)} names for {counts} classes")


def _require_axes(name: str, shape: Sequence[Dim], axes: Axes, static_batch: int | None) -> None:
    roles = [axis for axis in (axes.batch, axes.channel, *axes.spatial) if axis is not None]
    if len(set(roles)) < len(roles) or any(not 0 <= axis < len(shape) for axis in roles):
        raise ValueError(f"{name!r} of {len(shape)} axes cannot have {axes}")
    size = shape[axes.batch] if axes.batch is not None else BATCH
    if any(isinstance(d, int) and not 0 <= d < 2**31 for d in shape) or (
        isinstance(size, str) and not _PER_SAMPLE.match(size)
    ):
        raise ValueError(f"{name!r} has the impossible shape {shape}")
    if static_batch is None and not is_batch(size):
        raise ValueError(f"the batch of {name!r} has the fixed size {size}")
