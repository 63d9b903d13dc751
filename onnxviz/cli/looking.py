"""``onnxviz features``, ``filters``, ``maximize`` and ``embed``: what units compute, hold and want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxviz.cli.shell import (
    HERE,
    AsJson,
    Destinations,
    Inputs,
    Model,
    Options,
    Provider,
    app,
    destination,
    literal,
    parsed,
    say,
)
from onnxviz.cli.sources import Sources, encoded
from onnxviz.errors import InputError, OptionError

if TYPE_CHECKING:
    from onnxviz import Explainer
    from onnxviz.plot.figure import Figure

READ = 16
"""How many inputs are read before they are computed together."""

Layer = Annotated[str, typer.Argument(help="Name of a layer, see `onnxviz layers`.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Of what is drawn at random.")]


@app.command()
def features(
    model: Model,
    inputs: Inputs,
    *,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="Repeatable.", show_default="the last with maps")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="How many channels a picture shows.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="A folder, or of one input a .png or .npz file.", show_default=HERE)
    ] = None,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Draw what layers make of inputs.

    Channels as a picture for each layer, or all values of one input in a .npz. Pictures are named INPUT.LAYER.png.

    \b
    onnxviz features net.onnx photo.jpg -l conv1
    onnxviz features net.onnx photo.jpg -l conv1 -l conv5 --out features.npz
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import numpy as np

    import onnxviz as ov

    rows = []
    with ov.load(model, providers=provider) as explainer:
        names = layer or [explainer.layers.cam("auto").name]
        sources = Sources(explainer, inputs, "features")
        destinations = Destinations(out, (".png", ".npz"), sources.paths)
        for path, x in sources:
            found = explainer.features(x, names)
            if out is not None and out.suffix == ".npz":
                files = [destinations.path(path, "npz")] * len(found)
                np.savez_compressed(files[0], allow_pickle=False, **found)
            else:
                files = [destinations.path(path, f"{name.replace('/', '_')}.png") for name in found]
                for file, (name, values) in zip(files, found.items(), strict=True):
                    _draw(explainer, name, values[0], most).savefig(file, dpi=110)
            for file, (name, values) in zip(files, found.items(), strict=True):
                rows.append({
                    "input": str(path), "layer": name, "file": str(file), "shape": values.shape,
                    "range": [float(values.min()), float(values.max())],
                })  # fmt: skip
    lines = [f"{r['file']}: {r['layer']} {'×'.join(map(str, r['shape']))} of {r['input']}" for r in rows]
    say(rows + sources.refused, "\n".join(lines), as_json=as_json)
    sources.finish()


def _draw(explainer: Explainer, name: str, values: Any, most: int) -> Figure:
    import onnxviz as ov

    channel = explainer.layers[name].axes.channel
    if values.ndim == 1:
        values, channel = values[None], 1
    return ov.plot.feature_maps(values, channel_axis=(channel or 1) - 1, most=most)


@app.command()
def filters(
    model: Model,
    layer: Layer,
    *,
    most: Annotated[int, typer.Option(min=1, help="How many units a picture shows.")] = 64,
    channel: Annotated[int | None, typer.Option(help="The input channel that is drawn alone.")] = None,
    colour: Annotated[bool, typer.Option("--colour", help="The three input channels as the colours they are.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder, or a .png or .npz file.", show_default=HERE)] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the kernels of a layer.

    \b
    onnxviz filters net.onnx conv1 --colour
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import numpy as np

    import onnxviz as ov

    with ov.load(model, providers="cpu") as explainer:
        kernels = explainer.filters(layer)
        image = getattr(explainer.inputs[0], "image", None) or {}
    file = destination(out, f"{model.stem}.{layer.replace('/', '_')}.filters.png", (".png", ".npz"))
    if file.suffix == ".npz":
        np.savez_compressed(file, allow_pickle=False, filters=kernels)
    else:
        shown = kernels[:, ::-1] if colour and image.get("channels") == "BGR" else kernels
        ov.plot.filters(shown, channel=channel, colour=colour, most=most).savefig(file, dpi=110)
    shape = "×".join(map(str, kernels.shape))
    say({"layer": layer, "file": str(file), "shape": kernels.shape}, f"{file}: {layer} {shape}", as_json=as_json)


@app.command()
def maximize(
    model: Model,
    target: Annotated[
        list[str], typer.Argument(help="Class, layer:channel, or layer:channel@y,x.", show_default=False)
    ],
    *,
    steps: Annotated[int, typer.Option(min=1, help="Of the ascent.")] = 200,
    regularizer: Annotated[
        list[str] | None,
        typer.Option("--regularizer", "-r", metavar="NAME:WEIGHT", help="tv:10, lp:6,10, l2:1, blur:1. Repeatable."),
    ] = None,
    option: Options = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="A folder, or a .png, .gif or .npz file.", show_default=HERE)] = None,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Draw what units want to see.

    The input that a class, a filter or a neuron responds to most, by gradient ascent.

    \b
    onnxviz maximize net.onnx flamingo conv5:42 --out units.png
    onnxviz maximize net.onnx 130 -r tv:0.1 -o scale=[0.9,1.1] -o rotation=5 --out flamingo.gif
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    options = parsed(option, ov.Explainer.maximize, ("steps", "regularizers", "seed"))
    file = destination(out, f"{model.stem}.maximize.png", (".png", ".gif", ".npz"))
    if file.suffix == ".gif":
        options.setdefault("snapshots", 30)
    with ov.load(model, providers=provider) as explainer:
        targets = [literal(one) if one.lstrip("-").isdigit() else one for one in target]
        found = explainer.maximize(
            targets, steps=steps, regularizers=[_regularizer(one) for one in regularizer or ()], seed=seed, **options
        )
    if file.suffix == ".gif":
        found.gif(file)
    else:
        found.save(file)
    result = {"file": str(file), "targets": found.targets, "score": found.score, "notes": list(found.notes)}
    say(result, f"{file}: {', '.join(map(found.title, range(len(found))))}", as_json=as_json)


def _regularizer(text: str) -> Any:
    """``tv:10`` and the like."""
    import onnxviz as ov

    known = {"tv": ov.TotalVariation, "lp": ov.LpNorm, "l2": ov.L2, "blur": ov.Blur}
    name, _, numbers = text.partition(":")
    values = [literal(number) for number in numbers.split(",")] if numbers else []
    if name not in known or not all(isinstance(value, int | float) for value in values):
        raise OptionError(f"a regularizer is one of {', '.join(known)} with numbers, such as tv:10; got {text!r}")
    try:
        return known[name](*values)
    except TypeError as error:
        raise OptionError(f"the regularizer {text!r} takes other numbers: {error}") from error


@app.command()
def embed(
    model: Model,
    inputs: Inputs,
    *,
    layer: Annotated[str, typer.Option("--layer", "-l", help="Of which layer, or logits.")] = "logits",
    method: Annotated[str, typer.Option("--method", "-m", help="pca or tsne.")] = "pca",
    option: Options = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="A folder, or a .png, .csv or .npz file.", show_default=HERE)] = None,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Draw inputs as points.

    They lie near each other where the network sees them alike, and are coloured by folder if there are several.

    \b
    onnxviz embed net.onnx cats/ dogs/ -m tsne -o perplexity=10
    onnxviz embed net.onnx 'photos/**/*.jpg' --layer conv5 --out points.csv
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    options = parsed(option, ov.Explainer.embed, ("method", "seed"))
    file = destination(out, f"{model.stem}.embed.png", (".png", ".csv", ".npz"))
    seen: list[Path] = []
    with ov.load(model, providers=provider) as explainer:
        sources = Sources(explainer, inputs, "read")
        found = explainer.embed(_batches(sources, seen), layer, method=method, seed=seed, **options)  # type: ignore[arg-type] # checked there
    folders = [path.parent.name for path in seen]
    labels = folders if len(set(folders)) > 1 else None
    _write(found, file, seen, labels)
    rows = [
        {"input": str(p), "folder": f, "point": point}
        for p, f, point in zip(seen, folders, found.points.tolist(), strict=True)
    ]
    result = {"file": str(file), "points": rows, "refused": sources.refused}
    say(result, f"{file}: {len(rows)} inputs at {layer!r}, by {method}", as_json=as_json)
    sources.finish()


def _batches(sources: Sources, seen: list[Path]) -> Iterator[Any]:
    """Arrays of some inputs each; ``seen`` gets the file of each sample."""
    import numpy as np

    some: list[Any] = []
    for path, x in sources:
        array = encoded(sources.explainer, x)
        if isinstance(array, dict):
            raise InputError(f"{str(path)!r}: embed reads pictures, .npy and .csv files")
        seen += [path] * len(array)
        if some and (len(some) == READ or array.shape[1:] != some[0].shape[1:]):
            yield np.concatenate(some)
            some = []
        some.append(array)
    if some:
        yield np.concatenate(some)


def _write(found: Any, file: Path, paths: list[Path], labels: list[str] | None) -> None:
    import csv

    import numpy as np

    if file.suffix == ".npz":
        np.savez_compressed(file, allow_pickle=False, points=found.points, inputs=np.array([str(p) for p in paths]))
    elif file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["input", *(f"component_{i + 1}" for i in range(found.points.shape[1]))])
            writer.writerows([str(path), *point] for path, point in zip(paths, found.points.tolist(), strict=True))
    else:
        found.plot(labels).savefig(file, dpi=110)
