"""Write an exported file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxviz
from onnxviz import wire
from onnxviz.bundle import EMBEDDED_LIMIT, staged
from onnxviz.display import size
from onnxviz.engine.core import Engine
from onnxviz.engine.targets import Of
from onnxviz.errors import OptionError
from onnxviz.export.drawing import drawn
from onnxviz.export.plain import plain
from onnxviz.export.plan import Architect, Plan, planned
from onnxviz.files import accessing
from onnxviz.manifest import Layer
from onnxviz.source import Array

METADATA = "onnxviz.export"
"""The metadata key of an exported file; its value is JSON."""


@dataclass(frozen=True, repr=False)
class Exported:
    """A file that was written; prints as one line.

    Attributes:
        path: where it lies.
        bytes: its size.
        inputs: name → type and shape, as text; sizes that are free have names.
        outputs: likewise.
        details: what stands in the metadata: method, layer, target, options, preparation of pictures, versions.
    """

    path: Path
    bytes: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    details: dict[str, Any]

    def __repr__(self) -> str:
        what = self.details["method"] or "prediction"
        layer = f" at {self.details['layer']}" if self.details["layer"] else ""
        ends = (", ".join(f"{name} {kind}" for name, kind in side.items()) for side in (self.inputs, self.outputs))
        return f"{self.path}: {what}{layer}, {size(self.bytes)}; {' → '.join(ends)}"


def export(
    engine: Engine,
    path: str | os.PathLike[str],
    method: str | None,
    target: Any,
    *,
    layers: Sequence[str | int],
    pixels: bool,
    normalize: bool,
    precision: str,
    of: Of,
    output: str | None,
    options: Mapping[str, Any],
) -> Exported:
    """Write a plain file; arguments and errors are those of :meth:`onnxviz.Explainer.export`."""
    if precision not in {"float32", "float16"}:
        raise OptionError(f"precision={precision!r}: expected 'float32' or 'float16'")
    final = Path(path)
    if final.resolve() == engine.bundle.path.resolve():
        raise OptionError(f"{final} is the explainable file itself: export to another path")
    architect = Architect(engine)
    plan = planned(
        architect, method, target, of=of, output=output, layers=layers, pixels=pixels, normalize=normalize,
        options=options,
    )  # fmt: skip
    drawing = drawn(architect, plan)
    engine.bundle.require_unchanged()
    half = precision == "float16"
    model, weights = plain(drawing.sketch, engine.bundle, drawing.names, drawing.shapes, half=half)
    details = _details(architect, plan, of, precision)
    model.producer_name, model.producer_version = "onnxviz", onnxviz.__version__
    model.metadata_props.add(key=METADATA, value=json.dumps(details, ensure_ascii=False, allow_nan=False))
    _require_room(final, model, weights, precision)
    with staged(final) as draft:
        _write(draft, model, weights)
        onnx.checker.check_model(draft)
    return Exported(final, final.stat().st_size, _described(model.graph.input), _described(model.graph.output), details)


def _details(architect: Architect, plan: Plan, of: Of, precision: str) -> dict[str, Any]:
    """What the file says of itself."""
    manifest, at = architect.bundle.manifest, plan.at
    return {
        "method": plan.method,
        "layer": at.name if isinstance(at, Layer) else None,
        "target": _told(plan.target),
        "of": of if plan.asked else None,
        "output": plan.output.name,
        "options": {name: _told(value) for name, value in plan.options.items() if name != "layer"},
        "layers": [layer.name for layer in plan.layers],
        "normalize": plan.normalize,
        "precision": precision,
        "pixels": plan.pixels is not None,
        "image": None if plan.image is None else plan.image.image,
        "classes": None if manifest.classes is None else list(manifest.classes),
        "framework": manifest.framework,
        "versions": {**manifest.versions, "onnxviz": onnxviz.__version__},
        "caveats": list(manifest.caveats),
    }


def _told(value: Any) -> Any:
    """An option as JSON can hold it; of arrays the shape."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else f"array of shape {list(array.shape)}"


def _require_room(path: Path, model: onnx.ModelProto, weights: Mapping[str, Array], precision: str) -> None:
    size = model.ByteSize() + sum(array.nbytes for array in weights.values())
    if size > EMBEDDED_LIMIT:
        half = "precision='float16' halves it" if precision == "float32" else "the model is too large"
        raise OptionError(
            f"{path} would take {size / 2**30:.1f} GiB, and a file that runs everywhere holds 2 GiB at most: {half}"
        )


def _write(path: Path, model: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    import onnx_ir as ir

    with accessing(path.name, "write"), path.open("wb") as file:
        wire.write(file, model, [(name, ir.tensor(array, name=name)) for name, array in weights.items()])
        file.flush()
        os.fsync(file.fileno())


def _described(values: Sequence[onnx.ValueInfoProto]) -> dict[str, str]:
    """Name → type and shape, such as ``float32[N, 3, 224, 224]``."""
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        sizes = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim]
        found[value.name] = f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name}[{', '.join(sizes)}]"
    return found
