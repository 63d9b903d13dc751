"""``onnxviz report`` and ``export``: what is handed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxviz.cli.explaining import CHOSEN, ModelOutput, Of, Targets
from onnxviz.cli.shell import AsJson, Inputs, Model, Options, Provider, app, parsed, say
from onnxviz.cli.sources import Sources, target_of
from onnxviz.errors import OptionError

if TYPE_CHECKING:
    from onnxviz import Explainer
    from onnxviz.report import Report
    from onnxviz.report.samples import Sample

PAGE = ".html"
"""What a report's name ends with."""


@app.command()
def report(
    model: Model,
    inputs: Inputs,
    *,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Repeatable.", show_default="four usual ones")
    ] = None,
    target: Targets = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the most probable classes, without --target.")] = 3,
    percentile: Annotated[
        float, typer.Option(help="Of a map's absolute values, where its colours end; 100 is the largest.")
    ] = 99.0,
    of: Of = "logits",
    model_output: ModelOutput = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Write a page about a network and some inputs.

    One HTML file that needs nothing else: maps of several methods and classes to choose from, with a slider between
    input and map; the model card, its layers, how exact the file is, and versions.

    \b
    onnxviz report net.onnx photo.jpg
    onnxviz report net.onnx photos/ -m grad_cam -m saliency -t tabby -t tiger --out cats.html
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    with ov.load(model, providers=provider) as explainer:
        asked: dict[str, Any] = {
            "methods": None if method is None else {name: {} for name in method}, "k": top, "percentile": percentile,
            "of": of, "output": model_output,
        }  # fmt: skip
        reported(explainer, inputs, out, target, as_json=as_json, **asked)


def reported(
    explainer: Explainer, inputs: Sequence[str], out: Path, target: Sequence[str] | None, *, as_json: bool, **asked: Any
) -> None:
    """Write a report of what the arguments name; ``asked`` are the fields of :class:`onnxviz.report.Asked`."""
    from onnxviz.report import Asked, write

    if out.suffix.lower() != PAGE:
        raise OptionError(f"--out is a file that ends with {PAGE}; got {str(out)!r}")
    sources = Sources(explainer, inputs, "report")
    written = write(explainer, _samples(explainer, sources), out, Asked(target=target_of(explainer, target), **asked))
    say(_row(written, sources.refused), repr(written), as_json=as_json)
    sources.finish()


def _samples(explainer: Explainer, sources: Sources) -> Iterator[Sample]:
    from onnxviz.report.samples import samples_of

    for path, x in sources:
        yield from samples_of(explainer.engine.bundle.manifest, x, path.name)


def _row(written: Report, refused: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "file": str(written.path), "bytes": written.bytes, "inputs": written.inputs, "methods": written.methods,
        "left_out": written.left_out, "refused": refused,
    }  # fmt: skip


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The plain .onnx file.", show_default=False)],
    *,
    method: Annotated[
        str, typer.Option("--method", "-m", help="A gradient or gradient-based CAM; none for the prediction alone.")
    ] = "grad_cam",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="Class, by index or name; `input` makes it an input.",
            show_default="the most probable",
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="Where the map is.", show_default=CHOSEN)] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layers", help="Layers whose values are further outputs. Repeatable.")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Take uint8 pixels of the network's size, and prepare them inside.")
    ] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide each map by its largest value.")] = False,
    precision: Annotated[Literal["float32", "float16"], typer.Option(help="float16 halves the file.")] = "float32",
    option: Options = None,
    of: Of = "logits",
    model_output: ModelOutput = None,
    as_json: AsJson = False,
) -> None:
    """Export a plain file that explains.

    Standard operators alone, for browsers, phones and servers: an image in, prediction and map out.

    \b
    onnxviz export net.onnx cam.onnx
    onnxviz export net.onnx cam.onnx --target input --pixels --normalize
    onnxviz export net.onnx half.onnx -m saliency --precision float16
    onnxviz export net.onnx features.onnx -m none --layers conv1 --layers conv5
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    given = ("layers", "pixels", "normalize", "precision", "of", "output")
    options = parsed(option, ov.Explainer.export, given) | ({} if layer is None else {"layer": layer})
    with ov.load(model, providers="cpu") as explainer:
        chosen = "input" if target == ["input"] else target_of(explainer, target)
        found = explainer.export(
            out, None if method == "none" else method, chosen, layers=layers or (), pixels=pixels, normalize=normalize,
            precision=precision, of=of, output=model_output, **options,
        )  # fmt: skip
    row = {
        "file": str(found.path), "bytes": found.bytes, "inputs": found.inputs, "outputs": found.outputs,
        "details": {name: value for name, value in found.details.items() if name != "classes"},
    }  # fmt: skip
    say(row, repr(found), as_json=as_json)
