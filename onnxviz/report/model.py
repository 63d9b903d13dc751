"""What an explainable file says of its network, in words: the model card and the tables below it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnxviz
from onnxviz.bundle import Bundle
from onnxviz.check.difference import COSINE, EVERYWHERE, MEDIAN
from onnxviz.display import size
from onnxviz.manifest import Layer, Manifest, Tensor

FRAMEWORKS = {"pytorch": "PyTorch", "keras": "Keras", "onnx": "ONNX"}
Rows = list[tuple[str, str]]


def card(bundle: Bundle) -> Rows:
    """The network in a few lines: label and text."""
    manifest = bundle.manifest
    gradients = sum(layer.has_gradient for layer in manifest.layers)
    rows = [
        ("Source", FRAMEWORKS.get(manifest.framework, manifest.framework)),
        ("Inputs", "; ".join(map(described, manifest.inputs))),
        ("Outputs", "; ".join(f"{described(o)}{_before(o.activation)}" for o in manifest.outputs)),
        ("Parameters", f"{sum(layer.parameters for layer in manifest.layers):,}"),
        ("Classes", "not named" if manifest.classes is None else f"{len(manifest.classes):,}, named"),
        ("Layers", f"{len(manifest.layers)}, {gradients} with gradient"),
        ("File", f"{size(file_bytes(bundle))}, opset {opset(bundle)}, IR {bundle.skeleton.ir_version}"),
    ]
    if manifest.static_batch is not None:
        rows.append(("Batch", f"always {manifest.static_batch}"))
    return rows


def facts(bundle: Bundle) -> Rows:
    """The few numbers that stand first."""
    told, residuals = dict(card(bundle)), bundle.manifest.residuals
    values = [*residuals.get("outputs", {}).values(), *residuals.get("layers", {}).values()]
    return [
        *((name, told[name]) for name in ("Source", "Parameters")),
        ("File", size(file_bytes(bundle))),
        ("Largest difference at conversion", f"{max(values, default=0.0):.0e}"),
    ]


def preparation(manifest: Manifest) -> Rows:
    """How pictures become inputs; empty where the file does not say."""
    image = next((t.image for t in manifest.inputs if t.image is not None), None)
    return [] if image is None else [(name, _told(value)) for name, value in image.items() if value is not None]


def layer_rows(manifest: Manifest) -> list[list[str]]:
    """Name, type, shape, parameters, gradient, and how far each layer was from the original at conversion."""
    measured = manifest.residuals.get("layers", {})
    return [
        [
            layer.name, layer.type, _shape(layer), f"{layer.parameters:,}" if layer.parameters else "–",
            "yes" if layer.has_gradient else f"no: {layer.reason}",
            f"{measured[layer.name]:.1e}" if layer.name in measured else "–",
        ]
        for layer in manifest.layers
    ]  # fmt: skip


def exactness(manifest: Manifest) -> list[list[str]]:
    """What the check at conversion measured, what, largest and median difference, cosine; and what it lets pass."""
    residuals = manifest.residuals
    rows = [[f"output {name}", f"{value:.1e}", "–", "–"] for name, value in residuals.get("outputs", {}).items()]
    if layers := residuals.get("layers"):
        worst = max(layers, key=lambda name: layers[name])
        rows.append([f"layers; the largest is at {worst}", f"{layers[worst]:.1e}", "–", "–"])
    if gradient := residuals.get("gradient"):
        rows.append([
            f"gradient, against {gradient.get('by', 'the original')}",
            *(_measured(gradient, name) for name in ("max", "median", "cosine")),
        ])  # fmt: skip
    return [*rows, ["bar", f"{EVERYWHERE:.0e}", f"{MEDIAN:.0e}", str(COSINE)]]


def versions(manifest: Manifest, runtime: str) -> list[list[str]]:
    """Package, its version at conversion, and here."""
    here = {"onnxviz": onnxviz.__version__, "onnxruntime": runtime, "Python": platform.python_version()}
    names = sorted({*manifest.versions, *here, "numpy"}, key=str.casefold)
    return [[name, manifest.versions.get(name, "–"), here.get(name) or _installed(name)] for name in names]


def described(tensor: Tensor) -> str:
    """Name, type and shape of an input or output."""
    return f"{tensor.name} {tensor.dtype} {_shape(tensor)}"


def file_bytes(bundle: Bundle) -> int:
    """Of the file, and of the weights beside it."""
    files = {bundle.path, *(region.file for region in bundle.regions.values())}
    return sum(file.stat().st_size for file in files)


def opset(bundle: Bundle) -> int:
    """Of ONNX's own operators."""
    return next(int(one.version) for one in bundle.skeleton.opset_import if one.domain in {"", "ai.onnx"})


def _shape(tensor: Tensor | Layer) -> str:
    return " × ".join("?" if size is None else str(size) for size in tensor.shape)


def _before(activation: str | None) -> str:
    return "" if activation is None else f", explained before its {activation}"


def _measured(gradient: dict[str, Any], name: str) -> str:
    value = gradient.get(name)
    if not isinstance(value, int | float):
        return "–"
    return f"{value:.6f}" if name == "cosine" else f"{value:.1e}"


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, dict.fromkeys(value))) if len(set(value)) == 1 else ", ".join(map(_told, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "–"
