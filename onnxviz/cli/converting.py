"""``onnxviz convert``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxviz.cli.shell import AsJson, app, literal, say
from onnxviz.dataset.files import load
from onnxviz.errors import InputError, OptionError, nearest

if TYPE_CHECKING:
    from onnxviz import ImageInput


CONFIG: dict[str, tuple[tuple[type, ...], str]] = {
    "image": ((dict,), 'a table of fields, such as preset = "torchvision"'),
    "classes": ((list, str), "a list of names, or the path of a file with them"),
    "layers": ((list,), "a list of names or patterns"),
}
"""What a configuration says: key → kinds of values, and what they are."""


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help=".keras, .h5, .pt2 or .onnx", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The explainable .onnx file.", show_default=False)],
    *,
    preset: Annotated[
        str | None,
        typer.Option(
            help="keras-tf, keras-torch, keras-caffe, keras-raw, torchvision or efficientnet-lite.",
        ),
    ] = None,
    processor: Annotated[Path | None, typer.Option(help="preprocessor_config.json of a transformers model.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            "-i",
            metavar="FIELD=VALUE",
            help="A field of onnxviz.ImageInput: size=224, resize=256, mean=[0.5,0.5,0.5]. Repeatable.",
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names: a line for each, or JSON (list, or index to name).")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML or JSON with `image` (a table of fields; may name a preset), `classes`, `layers`."),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="Names or patterns to tap. Repeatable.", show_default="all")
    ] = None,
    example: Annotated[
        Path | None, typer.Option(help="Inputs as .npy, or .npz by name.", show_default="drawn at random")
    ] = None,
    gradient: Annotated[
        Literal["all", "available", "none"],
        typer.Option(help="Refuse what has no gradient, leave it out, or build none."),
    ] = "all",
    open_sizes: Annotated[
        bool, typer.Option("--open-sizes", help="Leave the sizes of pictures or series open.")
    ] = False,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Run code in a Keras or .pt2 file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Convert a model into an explainable file.

    Done once; the file is checked against the model before it is written.

    \b
    onnxviz convert vgg16.keras vgg16.onnx --preset keras-caffe --classes imagenet.txt
    onnxviz convert net.onnx explainable.onnx --preset torchvision -i size=299
    onnxviz convert vit.pt2 vit.onnx --processor preprocessor_config.json
    onnxviz convert net.onnx explainable.onnx --config net.toml

    \b
    net.toml:  classes = ["cat", "dog"]
               [image]
               preset = "torchvision"
               size = 224
    """  # noqa: D301 - typer keeps the lines after its backspace as they are
    import onnxviz as ov

    said = _config(config)
    fields = {**said.get("image", {}), **_pairs(image)}
    names = _classes(classes) if classes else said.get("classes")
    if isinstance(names, str):
        names = _classes(Path(config or "").parent / names)
    written = ov.convert(
        model,
        out,
        example=_example(example),
        layers=layers or said.get("layers"),
        input=_image(preset, processor, fields),
        classes=names,
        gradient="available" if gradient == "available" else gradient == "all",
        open_sizes=True if open_sizes else None,
        trust_code=trust_code,
        quiet=as_json,
    )
    if as_json:
        from onnxviz.cli.inspecting import contents

        say(contents(written), "", as_json=True)


def _image(preset: str | None, processor: Path | None, fields: dict[str, Any]) -> ImageInput | None:
    """The description of pictures that the options make together."""
    from onnxviz import ImageInput

    preset = fields.pop("preset", None) if preset is None else preset
    if preset is not None and processor is not None:
        raise OptionError("--preset and --processor both say how pictures become inputs: give one")
    if preset is not None:
        size = fields.pop("size", None)
        return ImageInput.preset(preset, tuple(size) if isinstance(size, list) else size, **fields)
    if processor is not None:
        return ImageInput.from_processor(processor, **fields)
    return ImageInput.from_dict(fields) if fields else None


def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    text = _text(path)
    try:
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(found, dict) or (unknown := sorted(found.keys() - CONFIG.keys())):
        name = "" if not isinstance(found, dict) else f"{unknown[0]!r}{nearest(unknown[0], CONFIG)}"
        raise OptionError(f"{str(path)!r} has the keys {', '.join(CONFIG)}; got {name or 'no table'}")
    for key, (kinds, expected) in CONFIG.items():
        if not isinstance(value := found.get(key, kinds[0]()), kinds):
            raise OptionError(f"{str(path)!r}: {key} is {expected}; got {value!r}")
    return found


def _text(path: Path) -> str:
    from onnxviz.files import accessing, require_readable

    with accessing(path, "read"):
        content = require_readable(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is no text in UTF-8: {error}") from error


def _pairs(fields: list[str] | None) -> dict[str, Any]:
    found = {}
    for field in fields or ():
        name, equals, value = field.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{field!r} is not FIELD=VALUE", param_hint="--image")
        found[name] = literal(value)
    return found


def _classes(path: Path) -> list[str]:
    """Names by index: a line for each, or JSON: a list, or a dict from index to name (or a list that ends with it)."""
    text = _text(path)
    if path.suffix != ".json":
        return text.splitlines()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no JSON: {error}") from error
    if isinstance(names, dict):
        names = names.get("id2label", names)
        if sorted(map(str, range(len(names)))) != sorted(names):
            raise InputError(f"{str(path)!r} has a name for each index from 0 on; got {sorted(names)[:5]}, …")
        names = [names[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not all(names):
        raise InputError(f"{str(path)!r} is a list of names, or a table from index to name, none of them empty")
    return [str(name[-1] if isinstance(name, list) else name) for name in names]


def _example(path: Path | None) -> Any:
    return None if path is None else load(path)
