"""What all commands share: the program, its options, its errors and how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from onnxviz import __version__
from onnxviz.errors import OnnxvizError, OptionError

T = TypeVar("T")

Model = Annotated[Path, typer.Argument(help="An explainable file, written by `onnxviz convert`.", show_default=False)]
Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, .npy or .npz arrays, .csv series: files, folders, or globs in quotes.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Provider = Annotated[str | None, typer.Option(help="cpu, cuda or onnxruntime's name; cuda where there is one.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="Of the method, e.g. -o n_steps=20. Repeatable."),
]


class Commands(TyperGroup):
    """Turns refusals into messages, and lets ``--debug`` stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move ``--debug`` to the front, where the group looks for its options."""
        others = [arg for arg in args if arg != "--debug"]
        return super().parse_args(ctx, others if len(others) == len(args) else ["--debug", *others])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises Exit(1) in place of what onnxviz refuses, unless debugging."""
        try:
            return super().invoke(ctx)
        except (OnnxvizError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"onnxviz: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    name="onnxviz",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.",
)


def _version(value: bool) -> None:  # noqa: FBT001 - typer's way to call it
    if value:
        typer.echo(f"onnxviz {__version__}")
        raise typer.Exit


@app.callback()
def onnxviz(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Explain trained networks from one ONNX file.

    \b
    onnxviz convert model.keras net.onnx --preset keras-tf --classes names.txt
    onnxviz explain net.onnx photo.jpg
    onnxviz compare net.onnx photo.jpg --target tabby --target tiger
    """  # noqa: D301 - typer keeps the lines after its backspace as they are


def main() -> None:
    """The program: what is no refusal of onnxviz ends in one line too, unless ``--debug`` asks for more."""
    if "--debug" not in sys.argv:
        sys.excepthook = _unexpected
    typer.main.get_command(app)(prog_name="onnxviz")


def _unexpected(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    typer.echo(f"onnxviz: unexpected {kind.__name__}: {error}\n(--debug shows where it came from)", err=True)


def say(result: Any, text: str, *, as_json: bool) -> None:
    """Print a result: as JSON, or as text."""
    typer.echo(json.dumps(result, indent=2, default=_plain, ensure_ascii=False) if as_json else text)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)


def progress(items: Iterable[T], description: str) -> Iterable[T]:
    """The items, with a bar on a terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=description, disable=None, leave=False)
    return bar


def line(text: str, *, err: bool = False) -> None:
    """Print a line while a bar shows: above it."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr if err else sys.stdout)


def parsed(options: Iterable[str] | None) -> dict[str, Any]:
    """``name=value`` pairs; values are JSON where they can be read so (``[0.9,1.1]``, ``true``), else text."""
    found: dict[str, Any] = {}
    for option in options or ():
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--option")
        found[name.replace("-", "_")] = literal(value)
    return found


def literal(text: str) -> Any:
    """A value as JSON reads it, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def destination(out: Path | None, name: str, suffixes: tuple[str, ...]) -> Path:
    """Where a result goes: ``out`` itself if it has one of the suffixes, else ``name`` in the folder ``out``."""
    if out is not None and out.suffix in suffixes:
        return out
    if out is not None and out.suffix and not out.is_dir():
        raise OptionError(f"--out is a folder, or a file that ends with {' or '.join(suffixes)}; got {str(out)!r}")
    folder = out or Path()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
