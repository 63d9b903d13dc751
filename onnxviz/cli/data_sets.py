"""``onnxviz explain … --out maps.zarr``: inputs of any number into one sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onnxviz.cli.shell import say
from onnxviz.cli.sources import target_of

if TYPE_CHECKING:
    from onnxviz import Explainer

SINKS = (".zarr", ".parquet")
"""What their names end with."""

OF_DATA_SETS = ("ex", "method", "target", "of", "output", "batch_size", "workers", "resume", "progress")
"""The arguments of :func:`onnxviz.explain_dataset` that the command gives; the others are options."""


def stored(
    explainer: Explainer,
    inputs: Sequence[str],
    out: Path,
    target: Sequence[str] | None,
    asked: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Explain what the arguments name into a data set; exit with 1 if something was skipped.

    Args:
        explainer: of the file.
        inputs: files, folders and globs, or one .zarr array.
        out: the sink.
        target: classes, by index or name.
        asked: further arguments of :func:`onnxviz.explain_dataset`.
        as_json: print JSON.
    """
    from onnxviz.dataset.explaining import explain_dataset
    from onnxviz.dataset.files import found

    source = inputs[0] if len(inputs) == 1 else found(inputs)
    done = explain_dataset(source, out, ex=explainer, target=target_of(explainer, target), **asked)
    row = {
        "sink": str(done.path), "samples": done.samples, "explained": done.explained, "resumed": done.resumed,
        "refused": [{"input": one.name, "error": one.reason} for one in done.skipped], "seconds": done.seconds,
        "samples_per_second": done.samples_per_second,
    }  # fmt: skip
    say(row, str(done), as_json=as_json)
    if done.skipped:
        typer.echo(f"onnxviz: {len(done.skipped)} of {done.samples} inputs could not be explained", err=True)
        raise typer.Exit(1)
