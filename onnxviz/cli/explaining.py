"""``onnxviz explain`` and ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxviz.cli.data_sets import OF_DATA_SETS, SINKS, stored
from onnxviz.cli.shell import HERE, AsJson, Destinations, Inputs, Model, Options, Provider, app, line, parsed, say
from onnxviz.cli.sources import Sources, behind, encoded, target_of
from onnxviz.errors import InputError, LayerError, OptionError

if TYPE_CHECKING:
    from onnxviz import Explainer, Explanation

Targets = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help="Class, by index or name. Repeatable.", show_default="the most probable"),
]
Percentile = Annotated[
    float | None,
    typer.Option(
        help="Divide each map by this percentile of its absolute values and clip it, such as 99.5: a few "
        "extreme pixels then do not darken the rest."
    ),
]
Of = Annotated[Literal["logits", "probability"], typer.Option(help="The score that is explained.")]
ModelOutput = Annotated[str | None, typer.Option(help="Which output, where the model has several.")]
FILES = (".png", ".npz")
"""What files of single results end with."""

View = Literal["plot", "overlay"]
CHOSEN = "the last that fits"
"""The layer, unless one is named."""


@app.command()
def explain(
    model: Model,
    inputs: Inputs,
    *,
    method: Annotated[str, typer.Option("--method", "-m", help="One of those of `onnxviz methods`.")] = "grad_cam",
    target: Targets = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "-l", help="Where, of methods that need one. Repeatable.", show_default=CHOSEN),
    ] = None,
    option: Options = None,
    of: Of = "logits",
    model_output: ModelOutput = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder; of one input a .png or .npz file; of all a .html page, or a .zarr or .parquet data set.",
            show_default=HERE,
        ),
    ] = None,
    suffix: Annotated[Literal["png", "npz"], typer.Option("--format", help="Of the files in the folder.")] = "png",
    view: Annotated[
        View, typer.Option(help="A .png is a plot with titles and scale, or the map over the picture at its own size.")
    ] = "plot",
    percentile: Percentile = None,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Of a data set: samples in a chunk.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Of a data set: threads that read.")] = 2,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Of a data set: go on with the one that is there, or begin anew.")
    ] = True,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Explain what a network sees.

    Pictures need a file that says how they are prepared (convert … --preset); maps have the picture's own size. A .csv
    is a series, its columns are channels; a .npy is what the model takes. Results are named INPUT.METHOD.png.

    A data set (--out maps.zarr) takes any number of inputs, and the same command goes on where it was ended. Its maps
    have the network's size; -o dtype=float16 halves it, -o top=5 keeps the most probable classes. What cannot be read
    is skipped, listed there and here, and makes the exit code 1.

    \b
    onnxviz explain net.onnx photo.jpg
    onnxviz explain net.onnx photo.jpg -m integrated_gradients -o n_steps=20 -t tabby -t 285 --out maps.npz
    onnxviz explain net.onnx photos/ 'more/*.png' --view overlay --out maps/
    onnxviz explain wave.onnx signal.csv -m saliency
    onnxviz explain net.onnx photos/ -m layer_cam -l conv3 -l conv5 --out maps.html
    onnxviz explain net.onnx 'photos/**/*.jpg' -m saliency --out maps.zarr
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov
    from onnxviz.cli.exporting import PAGE, reported

    data_set = out is not None and out.suffix in SINKS
    call, given = (ov.explain_dataset, OF_DATA_SETS) if data_set else (ov.Explainer.explain, ("of", "output"))
    options = parsed(option, call, given) | ({} if not layer else {"layer": layer if len(layer) > 1 else layer[0]})
    with ov.load(model, providers=provider) as explainer:
        if out is not None and out.suffix == PAGE:
            ends = {} if percentile is None else {"percentile": percentile}
            asked = {"methods": {method: options}, "of": of, "output": model_output, **ends}
            reported(explainer, inputs, out, target, as_json=as_json, **asked)
            return
        if out is not None and data_set:
            for name, there in (("percentile", percentile), ("view", view != "plot"), ("format", suffix != "png")):
                if there:
                    raise OptionError(f"--{name} is for pictures: a data set keeps the maps as the method defines them")
            more = {"batch_size": batch, "workers": workers, "resume": resume, "progress": not as_json}
            asked = {"method": method, "of": of, "output": model_output, **more, **options}
            stored(explainer, inputs, out, target, asked, as_json=as_json)
            return
        sources = Sources(explainer, inputs, method)
        chosen, written = target_of(explainer, target), _Written(Destinations(out, FILES, sources.paths))
        for path, x in sources:
            found = explainer.explain(x, method, chosen, of=of, output=model_output, **options)
            for raw in found if isinstance(found, list) else [found]:
                several = f".{raw.layer}" if isinstance(found, list) else ""
                file = written.files.path(path, f"{method}{several}.{suffix}".replace("/", "_"))
                one = _clipped(raw, percentile, drawn=file.suffix != ".npz")
                _save(one, file, None if file.suffix == ".npz" else behind(explainer, x), view)
                written.add(path, file, one, as_json=as_json)
        if as_json:
            say(written.rows + sources.refused, "", as_json=True)
        sources.finish()


class _Written:
    """What was written, and where the next file goes."""

    def __init__(self, files: Destinations) -> None:
        self.files = files
        self.rows: list[dict[str, Any]] = []

    def add(self, source: Path, file: Path, explanation: Explanation, *, as_json: bool) -> None:
        """Keep, or print, what was found."""
        count = (1, 1) if explanation.target is None else (*explanation.target.shape, 1)[:2]
        titles = [[explanation.title(n, t) for t in range(count[1])] for n in range(min(count[0], 4))]
        self.rows.append({
            "input": str(source), "file": str(file), "method": explanation.method, "layer": explanation.layer,
            "target": explanation.target, "score": explanation.score, "titles": titles,
            "shape": explanation.shape, "range": [float(explanation.values.min()), float(explanation.values.max())],
            "provider": explanation.provider, "notes": list(explanation.notes),
        })  # fmt: skip
        if not as_json:
            at = "" if explanation.layer is None else f" at {explanation.layer}"
            line(f"{file}: {', '.join(title for row in titles for title in row)}{at}")


def _clipped(explanation: Explanation, percentile: float | None, *, drawn: bool) -> Explanation:
    """Divided by the percentile, if there is one; what is drawn sums the channels, so that comes first."""
    if percentile is None:
        return explanation
    axes = explanation.axes
    if drawn and "spatial" in axes and "channel" in axes:
        summed = explanation.values.sum(axis=tuple(i for i, role in enumerate(axes) if role == "channel"))
        explanation = replace(explanation, values=summed, axes=tuple(role for role in axes if role != "channel"))
    return explanation.normalize(percentile)


def _save(explanation: Explanation, file: Path, image: Any, view: View) -> None:
    if file.suffix == ".npz" or view == "plot":
        explanation.save(file, image)
        return
    import numpy as np
    from PIL import Image

    laid = explanation.overlay(image)
    rows = laid if "target" in explanation.axes else laid[:, None]
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(file)


@app.command()
def compare(
    model: Model,
    inputs: Inputs,
    *,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Repeatable.", show_default="four usual ones")
    ] = None,
    target: Targets = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the most probable classes, without --target.")] = 3,
    layer: Annotated[str, typer.Option("--layer", "-l", help="Of the methods that take one.")] = "auto",
    percentile: Percentile = None,
    out: Annotated[Path | None, typer.Option(help="A folder, or of one input a .png file.", show_default=HERE)] = None,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Draw sheets of methods × classes.

    Each map lies over what the network saw of a picture. Sheets are named INPUT.compare.png.

    \b
    onnxviz compare net.onnx photo.jpg --percentile 99
    onnxviz compare net.onnx photo.jpg -m saliency -m grad_cam -t tabby -t 'golden retriever' --out sheet.png
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    with ov.load(model, providers=provider) as explainer:
        if len(explainer.inputs[0].axes.spatial) != 2:
            raise InputError(
                f"compare draws pictures, and input {explainer.inputs[0].name!r} has shape "
                f"{list(explainer.inputs[0].shape)}: `onnxviz report` compares methods on series, `onnxviz explain` "
                "draws one"
            )
        sources = Sources(explainer, inputs, "compare")
        written = _Written(Destinations(out, (".png",), sources.paths))
        for path, given in sources:
            x = encoded(explainer, given)
            classes = target_of(explainer, target)
            if classes is None:
                classes = [[index for index, _, _ in explainer.top(x, top)[0]]]
            maps = _maps(explainer, x, method, classes, layer)
            maps = {name: _clipped(one, percentile, drawn=True) for name, one in maps.items()}
            file = written.files.path(path, "compare.png")
            ov.plot.compare(maps, behind(explainer, x), stack=True).savefig(file, dpi=110)
            for one in maps.values():
                written.add(path, file, one, as_json=True)
            if not as_json:
                line(f"{file}: {', '.join(maps)} × {', '.join(t for row in written.rows[-1]['titles'] for t in row)}")
        if as_json:
            say(written.rows + sources.refused, "", as_json=True)
        sources.finish()


def _maps(
    explainer: Explainer, x: Any, methods: Sequence[str] | None, classes: Any, layer: str
) -> dict[str, Explanation]:
    """The maps by method; those that were not asked for by name are left out where the model has no answer."""
    from onnxviz.algorithms.registry import METHODS
    from onnxviz.report.answers import USUAL

    maps = {}
    for method in methods or USUAL:
        cam = method in METHODS and METHODS[method].options.get("layer") == "auto"
        try:
            options: dict[str, Any] = {"layer": layer} if cam else {}
            maps[method] = explainer.explain(x, method, classes, **options)
        except LayerError as error:
            if methods:
                raise
            line(f"onnxviz: without {method}: {error}", err=True)
    return maps


@app.command()
def methods(*, as_json: AsJson = False) -> None:
    """List the methods with their options.

    \b
    onnxviz methods
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    found = ov.methods()
    lines = [
        f"{m.name}\n    {' '.join(m.summary.split())}\n    "
        + (", ".join(f"{name}={value}" for name, value in m.options.items()) or "no options")
        for m in found
    ]
    say(
        [{"name": m.name, "summary": m.summary, "options": m.options} for m in found], "\n".join(lines), as_json=as_json
    )
