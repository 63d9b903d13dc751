"""An explainable file opened: what it contains, and its sessions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from onnxviz.bundle import read
from onnxviz.display import card
from onnxviz.engine.chunks import check_batch_size
from onnxviz.engine.core import Engine
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.session import Providers
from onnxviz.errors import InputError
from onnxviz.manifest import Output, Tensor
from onnxviz.source import Array

if TYPE_CHECKING:
    from onnxviz.image import ImageInput


class Opened:
    """What the public :class:`~onnxviz.Explainer` knows of its file."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        providers: Providers = None,
        precision: str = "float32",
        batch_size: int | Literal["auto"] = "auto",
        max_sessions: int = 8,
        threads: int | None = None,
        optimize: bool | Sequence[str] = True,
        cache: bool | str | os.PathLike[str] = False,
    ) -> None:
        self._bundle = read(path)
        self._engine = Engine(
            self._bundle, providers=providers, precision=precision, max_sessions=max_sessions, threads=threads,
            batch_size=batch_size, optimize=optimize, cache=_folder(cache, self._bundle.path),
        )  # fmt: skip
        self.layers = LayerTable(self._bundle.manifest.layers)

    @property
    def engine(self) -> Engine:
        """What computes; for code that asks questions of its own."""
        return self._engine

    # ----- what is in the file -----

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._bundle.path

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The model's inputs: name, dtype, shape, axes."""
        return self._bundle.manifest.inputs

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The model's outputs: name, shape, and where the gradient starts (``logits``)."""
        return self._bundle.manifest.outputs

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if they were given at conversion."""
        return self._bundle.manifest.classes

    @property
    def residuals(self) -> dict[str, Any]:
        """How far the file was from the original model at conversion.

        ``"outputs"`` and ``"layers"``: name → largest difference, relative to the largest absolute value.
        ``"gradient"``: the same of the gradient, with its median and cosine. ``"recipe"``: how the inputs were drawn.
        """
        return self._bundle.manifest.residuals

    @property
    def metadata(self) -> dict[str, Any]:
        """Where the file came from: framework, versions, static batch, format version."""
        m = self._bundle.manifest
        return {
            "framework": m.framework, "versions": m.versions, "static_batch": m.static_batch,
            "format_version": m.format_version,
        }  # fmt: skip

    @property
    def image_input(self) -> ImageInput:
        """The preprocessing that the file carries; raises InputError if it carries none."""
        from onnxviz.image import ImageInput

        for tensor in self._bundle.manifest.inputs:
            if tensor.image is not None:
                return ImageInput.from_dict(tensor.image)
        raise InputError("this file does not say how images are prepared: give convert(…, input=onnxviz.ImageInput(…))")

    def read_image(self, picture: Any) -> Array:
        """A picture (a path, an image of Pillow, or uint8 pixels) as the model takes it, a batch of one."""
        return self.image_input.read(picture)

    # ----- life -----

    @property
    def batch_size(self) -> int | Literal["auto"]:
        """Samples per run; may be set."""
        return self._engine.chunks.batch_size

    @batch_size.setter
    def batch_size(self, value: int | Literal["auto"]) -> None:
        check_batch_size(value)
        self._engine.chunks.batch_size = value

    def memory(self) -> dict[str, int]:
        """Bytes of weights, held once for all sessions, and how many sessions are kept of how many at most."""
        return self._engine.memory()

    def close(self) -> None:
        """Release sessions and weights; later calls raise ProviderError."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        return card(self._bundle)

    def __repr__(self) -> str:
        m = self._bundle.manifest
        with_gradient = sum(t.has_gradient for t in self.layers)
        return (
            f"Explainer({str(self._bundle.path)!r}: {m.framework}, {len(self.layers)} layers, {with_gradient} with "
            f"gradient, inputs {', '.join(f'{t.name}{list(t.shape)}' for t in m.inputs)})"
        )


def _folder(cache: bool | str | os.PathLike[str], path: Path) -> Path | None:  # noqa: FBT001 - the argument of load()
    """The folder that ``cache`` means for the file."""
    if isinstance(cache, bool | np.bool_):
        return path.with_name(f"{path.name}.cache") if cache else None
    return Path(cache)
