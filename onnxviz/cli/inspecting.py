"""``onnxviz info``, ``layers``, ``coverage`` and ``verify``."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxviz.cli.shell import AsJson, Model, Provider, app, say
from onnxviz.errors import CheckFailedError, LayerError


@app.command()
def info(model: Model, *, as_json: AsJson = False) -> None:
    """Say what a file contains.

    Where it came from, inputs, outputs, preprocessing, and how near it was to the model.

    \b
    onnxviz info net.onnx
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    said = contents(model)
    say(said, "\n".join(f"{name.replace('_', ' '):22}{_line(value)}" for name, value in said.items()), as_json=as_json)


def contents(model: Path) -> dict[str, Any]:
    """What an explainable file contains, in a few lines."""
    from onnxviz.bundle import read

    manifest = read(model).manifest
    explained = sum(layer.has_gradient for layer in manifest.layers)
    residuals = manifest.residuals
    image = next((t.image for t in manifest.inputs if t.image is not None), None)
    return {
        "file": str(model),
        "bytes": model.stat().st_size,
        "framework": manifest.framework,
        "versions": manifest.versions,
        "inputs": {t.name: {"dtype": t.dtype, "shape": t.shape} for t in manifest.inputs},
        "outputs": {t.name: {"dtype": t.dtype, "shape": t.shape, "logits": t.logits} for t in manifest.outputs},
        "layers": len(manifest.layers),
        "layers_with_gradient": explained,
        "classes": None if manifest.classes is None else len(manifest.classes),
        "image": image,
        "static_batch": manifest.static_batch,
        "notes": manifest.caveats,
        "residuals": {
            "values": max([*residuals["outputs"].values(), *residuals["layers"].values()], default=0.0),
            "gradient": {k: v for k, v in residuals.get("gradient", {}).items() if k != "stages"},
        },
    }


def _line(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_line(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join("?" if one is None else _line(one) for one in value) or "–"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def layers(
    model: Model,
    pattern: Annotated[str, typer.Argument(help="Of names, such as 'block5*'.")] = "*",
    *,
    as_json: AsJson = False,
) -> None:
    """List the layers of a file.

    Name, type, shape, channel and spatial axes, parameters, and whether there is a gradient.

    \b
    onnxviz layers net.onnx 'features.*'
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    from onnxviz.bundle import read
    from onnxviz.engine.layers import LayerTable

    every = read(model).manifest.layers
    table = LayerTable([layer for layer in every if fnmatchcase(layer.name, pattern)])
    if not table:
        raise LayerError(f"no layer of {len(every)} has a name like {pattern!r}")
    say([asdict(layer) for layer in table], repr(table), as_json=as_json)


@app.command()
def coverage(
    model: Annotated[
        Path | None, typer.Argument(help="An explainable file, or what convert takes; none lists the rules.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what of a model has a gradient.

    Its operators, the layers that can be explained, and why others cannot.

    \b
    onnxviz coverage model.onnx
    onnxviz coverage
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    found = ov.coverage() if model is None else ov.coverage(model)
    say(asdict(found), repr(found), as_json=as_json)


@app.command()
def verify(model: Model, *, provider: Provider = None, as_json: AsJson = False) -> None:
    """Verify a file where it runs.

    Its layers and its gradient are computed again, and compared with their digests from the conversion. The input is
    the seeded one that the metadata describe, so neither the model nor its framework is needed. The exit code is 1
    where something differs by more than the conversion itself would have let pass.

    \b
    onnxviz verify net.onnx --provider cuda
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    from onnxviz.check import verify as verified

    found = verified(model, providers=provider)
    largest = max(found.differences.values(), default=0.0)
    result = {"file": str(model), "provider": found.provider, "passed": not found.failed, **asdict(found)}
    text = f"{model}: {len(found.differences)} values and gradients on {found.provider} within {largest:.1e}"
    if as_json or not found.failed:
        say(result, text, as_json=as_json)
    if found.failed:
        first = found.failed[0]
        raise CheckFailedError(
            f"{model}: {len(found.failed)} of {len(found.differences)} values and gradients are not those of the "
            f"conversion; the first is {first!r}, by {found.differences[first]:.1e} of its largest value (bar "
            f"{found.bars[first]:.0e}). The file, or what runs it ({found.provider}), computes something else"
        )
