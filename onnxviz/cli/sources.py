"""From the arguments of a command to inputs, targets and what is drawn behind maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onnxviz.cli.shell import line, progress
from onnxviz.dataset.files import found, is_picture_file, stored
from onnxviz.errors import InputError

if TYPE_CHECKING:
    from onnxviz import Explainer


class Sources:
    """Every input with its path; what cannot be read is said on stderr and left out.

    Attributes:
        refused: the inputs that were left out, with the reason, as rows of a result.
    """

    def __init__(self, explainer: Explainer, inputs: Iterable[str], description: str) -> None:
        self.explainer, self.paths, self.description = explainer, found(inputs), description
        self.refused: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[tuple[Path, Any]]:
        if any(map(is_picture_file, self.paths)):
            self.explainer.image_input  # noqa: B018 - refuses, once, where the file does not say how they are prepared
        for path in progress(self.paths, self.description):
            try:
                x = read(self.explainer, path)
            except InputError as error:
                self.refused.append({"input": str(path), "error": str(error)})
                line(f"onnxviz: {error}", err=True)
            else:
                yield path, x

    def finish(self) -> None:
        """Exit with 1 if something was left out."""
        if self.refused:
            typer.echo(f"onnxviz: {len(self.refused)} of {len(self.paths)} inputs could not be read", err=True)
            raise typer.Exit(1)


def read(explainer: Explainer, path: Path) -> Any:
    """One file as an input: a picture as pixels, anything else as :func:`onnxviz.dataset.files.stored` has it.

    Raises:
        InputError: the file cannot be read, or does not hold what the model takes.
    """
    from onnxviz.engine.inputs import as_feeds
    from onnxviz.image import read_pixels

    if is_picture_file(path):
        return read_pixels(path)
    x = stored(path, explainer.inputs[0])
    as_feeds(x, explainer.engine.bundle.manifest)
    return x


def encoded(explainer: Explainer, x: Any) -> Any:
    """Pixels as the network takes them; anything else as it is."""
    import numpy as np

    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        return x
    return np.concatenate([explainer.read_image(one) for one in (x if x.ndim == 4 else [x])])


def target_of(explainer: Explainer, names: Sequence[str] | None) -> Any:
    """Classes by index or name: None is the top-1, several are several maps.

    Raises:
        TargetError: no class, or more than one, has that name.
    """
    if not names:
        return None
    from onnxviz.engine.targets import class_index

    indices = [int(n) if n.lstrip("-").isdigit() else class_index(n, explainer.classes) for n in names]
    return indices[0] if len(indices) == 1 else [indices]


def behind(explainer: Explainer, x: Any) -> Any:
    """What a plot of arrays lies over: their pictures, or series (N, C, T); None where a result has its own."""
    import numpy as np

    tensor = explainer.inputs[0]
    if isinstance(x, dict) or x.dtype == np.uint8 or tensor.axes.channel is None:
        return None
    if len(tensor.axes.spatial) == 1 and x.ndim == 3:
        return np.moveaxis(x, tensor.axes.channel, 1)
    if len(tensor.axes.spatial) == 2 and getattr(tensor, "image", None):
        return explainer.image_input.pixels(x)
    return None
