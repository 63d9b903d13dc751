"""What all commands share: the program, its options, its errors and how it prints."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from onnxviz import __version__
from onnxviz.errors import OnnxvizError, OptionError, nearest, printable

T = TypeVar("T")

Model = Annotated[Path, typer.Argument(help="An explainable file, written by `onnxviz convert`.", show_default=False)]
Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, .npy or .npz arrays, .csv series: files, folders, or globs in quotes.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Provider = Annotated[
    str | None, typer.Option(help="cpu, cuda, or a name of onnxruntime's.", show_default="cuda where there is one")
]
HERE = "the current folder"
"""Where results go by default."""
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
            typer.echo(printable(f"onnxviz: {_told(error)}"), err=True)
            raise typer.Exit(1) from error


def _told(error: Exception) -> str:
    """Its message; of what the system refuses, the file and why."""
    system = isinstance(error, OSError) and error.filename is not None
    return f"{error.filename}: {error.strerror}" if system else str(error)  # type: ignore[attr-defined]


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
    """The program: warnings, and what is no refusal of onnxviz, are a line each, unless ``--debug`` asks for more."""
    if "--debug" not in sys.argv:
        sys.excepthook, warnings.showwarning = _unexpected, _warned
    typer.main.get_command(app)(prog_name="onnxviz")


def _unexpected(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    told = printable(f"onnxviz: unexpected {kind.__name__}: {error}")
    typer.echo(f"{told}\n(--debug shows where it came from)", err=True)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    line(f"onnxviz: warning: {message}", err=True)


def say(result: Any, text: str, *, as_json: bool) -> None:
    """Print a result: as JSON, or as text."""
    told = json.dumps(result, indent=2, default=_plain, ensure_ascii=False) if as_json else text
    typer.echo(printable(told))


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

    tqdm.write(printable(text), file=sys.stderr if err else sys.stdout)


def parsed(options: Iterable[str] | None, call: Callable[..., Any], given: Collection[str] = ()) -> dict[str, Any]:
    """``name=value`` pairs; values are JSON where they can be read so (``[0.9,1.1]``, ``true``), else text.

    Args:
        options: the pairs.
        call: what takes them as keyword arguments.
        given: those of its arguments that the command gives it.

    Raises:
        BadParameter: no pair, or an argument that the command gives.
        OptionError: ``call`` has no such argument.
    """
    arguments = inspect.signature(call).parameters
    free = {name for name, one in arguments.items() if one.kind is one.KEYWORD_ONLY} - set(given)
    any_name = any(one.kind is one.VAR_KEYWORD for one in arguments.values())
    found: dict[str, Any] = {}
    for option in options or ():
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--option")
        name = name.replace("-", "_")
        if name in arguments.keys() - free:
            raise typer.BadParameter(f"{name!r} is said by the command itself, see --help", param_hint="--option")
        if name not in free and not any_name:
            raise OptionError(f"there is no option {name!r}; options: {', '.join(sorted(free))}{nearest(name, free)}")
        found[name] = literal(value)
    return found


def literal(text: str) -> Any:
    """A value as JSON reads it, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Destinations:
    """Where results go: a file for each, also for inputs of the same name in several folders.

    Args:
        out: a folder; or, of a single input, a file.
        suffixes: of files.
        inputs: what there are results of.

    Raises:
        OptionError: ``out`` is a file, and there are several inputs.
    """

    def __init__(self, out: Path | None, suffixes: tuple[str, ...], inputs: Collection[Path]) -> None:
        self.out, self.suffixes, self.labels = out, suffixes, _labels(inputs)
        self.files: set[Path] = set()
        if out is not None and out.suffix in suffixes and len(inputs) > 1:
            raise self._clash(out)

    def path(self, source: Path, ending: str) -> Path:
        """Of one result; OptionError where there is one already."""
        file = destination(self.out, f"{self.labels[source]}.{ending}", self.suffixes)
        if file in self.files:
            raise self._clash(file)
        self.files.add(file)
        return file

    @staticmethod
    def _clash(file: Path) -> OptionError:
        return OptionError(f"two results would go to {file}: give --out a folder")


def _labels(paths: Collection[Path]) -> dict[Path, str]:
    """The stems of files; of those that share one the whole name, after as many of its folders as it takes."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.stem, []).append(path)
    found: dict[Path, str] = {}
    for stem, group in groups.items():
        parts = [path.relative_to(path.anchor).parts for path in group]
        longer = (["_".join(one[-n:]) for one in parts] for n in range(1, max(map(len, parts)) + 1))
        names = next((some for some in longer if len(set(some)) == len(some)), [stem] * len(group))
        found |= dict(zip(group, names if len(group) > 1 else [stem], strict=True))
    return found


def destination(out: Path | None, name: str, suffixes: tuple[str, ...]) -> Path:
    """Where a result goes: ``out`` itself if it has one of the suffixes, else ``name`` in the folder ``out``.

    Folders that are not there are made.
    """
    if out is not None and out.suffix in suffixes:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out
    if out is not None and out.suffix and not out.is_dir():
        *others, last = suffixes
        raise OptionError(
            f"--out is a folder, or a file that ends with {', '.join(others)} or {last}; got {str(out)!r}"
        )
    folder = out or Path()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
