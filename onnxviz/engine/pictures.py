"""Pictures given where an input is expected: prepared as the file says, and maps laid over them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxviz.errors import InputError
from onnxviz.explanation import Explanation
from onnxviz.image import ImageInput, Pixels, is_picture, read_pixels
from onnxviz.image.geometry import WHOLE
from onnxviz.manifest import Input
from onnxviz.source import Array


@dataclass(frozen=True)
class Pictures:
    """Pictures that a user gave as an input.

    Attributes:
        image_input: how they are prepared.
        pixels: of each.
        listed: whether they came as a list: then each has a result of its own, for sizes may differ.
    """

    image_input: ImageInput
    pixels: Sequence[Pixels]
    listed: bool

    @property
    def x(self) -> Array:
        """As the network takes them."""
        return self.image_input.encode(np.stack([self.image_input.fit(one) for one in self.pixels]))

    def placed(self, result: Any) -> Any:
        """Maps at the pictures' own size, laid where the network saw what they tell of; a list for pictures of a list.

        What has not the network's size, such as the gradient of a layer, keeps its size.
        """
        if isinstance(result, list):  # of layers
            return [self.placed(one) for one in result]
        if "batch" not in result.axes or result.shape[result.axes.index("batch")] != len(self.pixels):
            return result
        if not self.listed:
            return self._placed(result, self.pixels)
        return [self._placed(_sample(result, i, len(self.pixels)), [one]) for i, one in enumerate(self.pixels)]

    def _placed(self, explanation: Explanation, pixels: Sequence[Pixels]) -> Explanation:
        roles = dict(zip(reversed(explanation.axes), reversed(explanation.shape), strict=True))
        space = explanation.spatial_axes
        if tuple(explanation.shape[axis] for axis in space) != self.image_input.size:
            return explanation
        if roles.get("channel", len(self.image_input.channels)) != len(self.image_input.channels):
            return explanation
        height, width = pixels[0].shape[:2]
        view = self.image_input.view((height, width))
        notes = explanation.notes
        if view.part != WHOLE:
            rows, columns = view.covered
            seen = f"rows {rows.start} … {rows.stop - 1} and columns {columns.start} … {columns.stop - 1}"
            whole = f"{height} × {width}"
            notes = (*notes, f"the network saw {seen} of the picture ({whole}); outside of them the values are 0")
        return replace(
            explanation, values=view.place(explanation.values, space), image=np.stack(pixels), covered=view.part,
            notes=notes,
        )  # fmt: skip


def pictures_of(value: Any, tensor: Input) -> Pictures | None:
    """The pictures, if the value of an input is one, a list of them, or an array (N, h, w, c) of pixels.

    Where the file says nothing of pictures, arrays are taken for what they are.

    Raises:
        InputError: it is a picture, and the file does not say how it is prepared; or it cannot be read.
    """
    listed = isinstance(value, list) and bool(value)
    stacked = isinstance(value, np.ndarray) and value.dtype in (np.uint8, np.uint16) and value.ndim == 4
    several = value if listed or stacked else [value]
    if not all(is_picture(one) for one in several):
        return None
    if tensor.image is None or not np.issubdtype(np.dtype(tensor.dtype), np.floating):
        if all(isinstance(one, np.ndarray) for one in several) or tensor.dtype == "object":
            return None
        raise InputError(
            f"input {tensor.name!r} was given as a picture, and this file does not say how pictures are prepared: give "
            "convert(…, input=onnxviz.ImageInput(…)), or an array as the model takes it"
        )
    pixels = [read_pixels(one) for one in several]
    return Pictures(ImageInput.from_dict(tensor.image), pixels, listed)


def _sample(explanation: Explanation, index: int, count: int) -> Explanation:
    """One sample of a batch, as a batch of one."""

    def own(value: Any, *, axis: int = 0) -> Any:
        array = isinstance(value, np.ndarray) and value.ndim > axis and value.shape[axis] == count
        return value.take([index], axis) if array else value

    target = explanation.target
    weighting = target is not None and target.dtype.kind == "f" and target.ndim == 1  # one for all samples
    options: Mapping[str, Any] = {name: own(value) for name, value in explanation.options.items()}
    return replace(
        explanation, values=own(explanation.values, axis=explanation.axes.index("batch")),
        target=target if weighting else own(target), score=own(explanation.score), options=options,
    )  # fmt: skip
