"""What an ascent changes: the input of one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxviz.algorithms.parameterization import Images, Units
from onnxviz.algorithms.question import Question
from onnxviz.engine.core import Engine
from onnxviz.engine.inputs import array, as_feeds
from onnxviz.errors import OptionError
from onnxviz.image import ImageInput
from onnxviz.manifest import Input
from onnxviz.source import Array

Clip = bool | tuple[float, float]


@dataclass(frozen=True)
class Subject:
    """The input that is changed, of one file."""

    engine: Engine
    tensor: Input
    units: Units

    @classmethod
    def of(cls, engine: Engine) -> Subject:
        """The first input that has a gradient.

        Raises:
            LayerError: no input has one.
        """
        tensor = Question(engine, None, None, None, "logits").input()
        return cls(engine, tensor, Units.of(tensor))

    @property
    def image_input(self) -> ImageInput | None:
        """How the file prepares pictures, if it says so."""
        return None if self.tensor.image is None else ImageInput.from_dict(self.tensor.image)

    def limits(self, clip: Clip) -> tuple[float, float] | None:
        """The bounds of the images, from pixels 0 … 255 or the model's units to those of the ascent."""
        if isinstance(clip, bool):
            return self.units.limits if clip else None
        if len(clip) != 2 or not clip[0] < clip[1]:
            raise OptionError(f"clip={clip!r}: expected True, False or (low, high)")
        shift = self.units.middle
        return clip[0] - shift, clip[1] - shift

    def shape(self, size: Sequence[int] | None) -> tuple[int, ...]:
        """Of one image, with a batch of 1: the file's sizes; where it leaves them open ``size``, or the example's."""
        spatial, sizes = self.units.axes.spatial, self.engine.bundle.manifest.sizes
        if size is not None and len(size) != len(spatial):
            raise OptionError(f"size={size!r}: expected a size for each of the {len(spatial)} spatial axes")
        wanted = dict(zip(spatial, size or (), strict=False))
        shape = []
        for axis, declared in enumerate(self.tensor.shape):
            known = sizes.get(declared) if isinstance(declared, str) else declared
            n = wanted.get(axis, 1 if axis == (self.tensor.axes.batch or 0) else known)
            if n is None:
                raise OptionError(
                    f"input {self.tensor.name!r} has no fixed sizes ({list(self.tensor.shape)}): give size=…"
                )
            shape.append(n)
        return tuple(shape)

    def feeds(self, x: Images, inputs: Mapping[str, Any] | None) -> dict[str, Array]:
        """All inputs of the model, checked: x, and those that are held fixed, repeated for each sample."""
        held = {name: array(value) for name, value in (inputs or {}).items()}
        one = {name: np.repeat(v, len(x), 0) if v.ndim and len(v) == 1 else v for name, v in held.items()}
        return as_feeds({self.tensor.name: x, **one}, self.engine.bundle.manifest)[0]
