"""``onnxviz bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onnxviz.cli.shell import AsJson, Model, Options, Provider, app, parsed, say
from onnxviz.cli.sources import encoded, read


@app.command()
def bench(
    model: Model,
    input: Annotated[
        Path | None,
        typer.Argument(help="A picture, .npy or .csv.", show_default="numbers like those of the conversion"),
    ] = None,
    *,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Repeatable.", show_default="saliency and grad_cam")
    ] = None,
    option: Options = None,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="How many samples at once.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each method.")] = 5.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Of onnxruntime.")] = None,
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Time explanations on this machine.

    Medians and quartiles, images per second, and how many times longer than a forward pass.

    \b
    onnxviz bench net.onnx --batch 8
    onnxviz bench net.onnx photo.jpg -m integrated_gradients -o n_steps=20 --provider cuda
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import numpy as np

    import onnxviz as ov
    from onnxviz.check.draws import redrawn

    results, options = [], parsed(option, ov.Explainer.benchmark, ("seconds",))
    with ov.load(model, providers=provider, threads=threads) as explainer:
        if input is None:
            batched = [t.name for t in explainer.inputs if t.axes.batch == 0]
            x = redrawn(explainer.residuals["recipe"], 0, batch, batched)
        else:
            given = encoded(explainer, read(explainer, input))
            inputs = given if isinstance(given, dict) else {explainer.inputs[0].name: given}
            x = {name: np.resize(one, (batch, *one.shape[1:])) for name, one in inputs.items()}
        for name in method or ("saliency", "grad_cam"):
            found = explainer.benchmark(x, name, seconds=seconds, **options)
            results.append({
                **asdict(found), "milliseconds": asdict(found.milliseconds),
                "images_per_second": asdict(found.images_per_second), "over_forward": asdict(found.over_forward),
            })  # fmt: skip
            if not as_json:
                typer.echo(str(found))
    if as_json:
        say(results, "", as_json=True)
