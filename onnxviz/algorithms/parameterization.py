"""What the ascent moves: the pixels themselves, or their Fourier spectrum in colours of their own; and its units."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from onnxviz.algorithms.canvas import Add, Canvas, along, number
from onnxviz.errors import OptionError
from onnxviz.image import ImageInput
from onnxviz.manifest import Axes, Input

Images = npt.NDArray[np.float32]
Name = Literal["auto", "pixels", "fourier"]

GREY = 128.0
"""The middle of 0 … 255, around which images of files with an ImageInput are counted."""

PLAIN_LEVEL = 0.01
"""What counts as one grey level in an input of which nothing is known: a hundredth of a standardised input's spread."""

COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Red, green and blue of the principal colours of ImageNet's pictures, as long as they vary: lightness, blue to yellow,
green to magenta (measured by the authors of Olah 2017, doi:10.23915/distill.00007)."""


@dataclass(frozen=True)
class Units:
    """How the images of the ascent become the model's input: ``x = gain · image + offset``.

    Attributes:
        gain, offset: that broadcast over the input.
        level: one grey level.
        middle: the pixel value that an image of 0 stands for; 0 in the model's own units.
        limits: the smallest and the largest valid value, or None where they are not known.
        axes: of the input.
        colours: its channels, ``"RGB"``, ``"BGR"`` or ``"L"``, where they are known.
    """

    gain: Images
    offset: Images
    level: float
    middle: float
    limits: tuple[float, float] | None
    axes: Axes
    colours: str | None

    @classmethod
    def of(cls, tensor: Input) -> Units:
        """Grey levels around mid-grey where the file describes its pictures; else the model's own units."""
        if tensor.image is None:
            return cls(np.ones(1, np.float32), np.zeros(1, np.float32), PLAIN_LEVEL, 0.0, None, tensor.axes, None)
        image = ImageInput.from_dict(tensor.image)
        channel, spatial = (1, (2, 3)) if image.layout == "NCHW" else (3, (1, 2))
        shape = [1] * 4
        shape[channel] = len(image.channels)
        mean, std = np.reshape(image.mean, shape), np.reshape(image.std, shape)
        gain, offset = image.scale / std, (GREY * image.scale - mean) / std
        limits = (-GREY, 255 - GREY)
        axes = Axes(0, channel, spatial)
        return cls(gain.astype(np.float32), offset.astype(np.float32), 1.0, GREY, limits, axes, image.channels)

    def input(self, images: Images) -> Images:
        """As the model takes it."""
        return self.gain * images + self.offset

    def images(self, x: Images) -> Images:
        """From the model's input."""
        return (x - self.offset) / self.gain


class Parameterization(Protocol):
    """Numbers that stand for an image: what the ascent moves. The functions append to a graph."""

    @property
    def name(self) -> str:
        """As users call it."""

    @property
    def levels(self) -> float:
        """The step that serves by default, in grey levels."""

    @property
    def bounded(self) -> bool:
        """Whether numbers outside of the valid range must be brought back after a step."""

    @property
    def key(self) -> Hashable:
        """Equal for those that append the same."""

    def decode(self, add: Add, numbers: str) -> str:
        """The images."""

    def encode(self, add: Add, images: str) -> str:
        """The numbers of images; the inverse of :meth:`decode`."""

    def pull(self, add: Add, images: str, gradient: str) -> str:
        """The gradient with respect to the numbers of these images, from that with respect to the images."""


@dataclass(frozen=True)
class Pixels:
    """The image itself, held within ``limits`` after each step."""

    limits: tuple[float, float] | None
    name = "pixels"
    levels = 1.0

    @property
    def bounded(self) -> bool:
        """See :class:`Parameterization`."""
        return self.limits is not None

    @property
    def key(self) -> Hashable:
        """See :class:`Parameterization`."""
        return self

    def decode(self, add: Add, numbers: str) -> str:
        """See :class:`Parameterization`."""
        return numbers if self.limits is None else add("Clip", numbers, *map(number, self.limits))

    def encode(self, add: Add, images: str) -> str:  # noqa: ARG002 - the same everywhere
        """See :class:`Parameterization`."""
        return images

    def pull(self, add: Add, images: str, gradient: str) -> str:  # noqa: ARG002
        """See :class:`Parameterization`."""
        return gradient


class Fourier:
    """The spectrum, its frequencies scaled as in natural images (1/f), in colours that vary on their own.

    Olah 2017 (doi:10.23915/distill.00007, section "preconditioning"): the same ascent in other coordinates, in which no
    frequency and no colour is favoured. The transform is Hartley's, real and its own inverse, so that the coordinates
    are as many as the pixels. Values come into ``limits`` by a tanh.

    Args:
        canvas: of the images.
        colours: the order of three colour channels; others are moved each on its own.
        limits: smallest and largest value of an image; None leaves them open.
    """

    name = "fourier"
    levels = 0.5  # most of a step goes into low frequencies, where it is seen
    bounded = False

    def __init__(self, canvas: Canvas, colours: str | None, limits: tuple[float, float] | None) -> None:
        self.canvas, self.limits = canvas, limits
        frequencies = np.meshgrid(*map(np.fft.fftfreq, canvas.space), indexing="ij")
        lowest = 1 / max(canvas.space)
        scale = 1 / np.maximum(np.sqrt(sum(f * f for f in frequencies)), lowest)
        scale /= np.sqrt((scale**2).mean())
        self.scale = scale.astype(np.float32)
        self.mix = None
        if colours in ("RGB", "BGR") and canvas.rest == (3,):
            rows = COLOURS if colours == "RGB" else COLOURS[::-1]
            self.mix = (rows / np.sqrt((rows**2).sum(1).mean())).astype(np.float32)
        self.key: Hashable = (self.name, canvas, None if self.mix is None else colours, limits)

    def decode(self, add: Add, numbers: str) -> str:
        """See :class:`Parameterization`."""
        images = self._mixed(add, self._hartley(add, add("Mul", numbers, self.scale)), self.mix)
        if self.limits is None:
            return images
        middle, half = self._range(self.limits)
        bounded = add("Mul", add("Tanh", add("Div", images, half)), half)
        return add("Add", bounded, middle)

    def encode(self, add: Add, images: str) -> str:
        """See :class:`Parameterization`. Values at the limits, which a tanh never reaches, are drawn in a little."""
        if self.limits is not None:
            middle, half = self._range(self.limits)
            inside = add("Clip", add("Div", add("Sub", images, middle), half), number(-0.99), number(0.99))
            one = number(1)
            odds = add("Log", add("Div", add("Add", inside, one), add("Sub", one, inside)))  # artanh, which CUDA lacks
            images = add("Mul", odds, half / number(2))
        mix = None if self.mix is None else np.linalg.inv(self.mix)
        return add("Div", self._hartley(add, self._mixed(add, images, mix)), self.scale)

    def pull(self, add: Add, images: str, gradient: str) -> str:
        """See :class:`Parameterization`."""
        if self.limits is not None:
            middle, half = self._range(self.limits)
            inside = add("Div", add("Sub", images, middle), half)
            gradient = add("Mul", gradient, add("Sub", number(1), add("Mul", inside, inside)))
        mix = None if self.mix is None else np.ascontiguousarray(self.mix.T)
        return add("Mul", self._hartley(add, self._mixed(add, gradient, mix)), self.scale)

    def _hartley(self, add: Add, values: str) -> str:
        """Σ cas(θ)·value over all places, θ the sum of the axes' angles, as products with two matrices for each axis.

        cas θ = cos θ + sin θ (Bracewell 1983), and cas(θ + φ) = cos θ·cas φ + sin θ·cas(−φ): the first axis gives two
        spectra, at its frequencies φ and at their negatives, which the others carry on to the last.
        """
        rank = len(self.canvas.order)
        turned, mirrored = values, ""
        for axis, n in zip(self.canvas.axes, self.canvas.space, strict=True):
            angles = 2 * np.pi / n * (np.outer(np.arange(n), np.arange(n)) % n)
            cos, sin = ((f(angles) / math.sqrt(n)).astype(np.float32) for f in (np.cos, np.sin))
            by = partial(along, add, axis=axis, rank=rank)
            if mirrored:
                found = add("Add", by(turned, cos), by(mirrored, sin))
                other = "" if axis == rank - 1 else add("Sub", by(mirrored, cos), by(turned, sin))
            else:
                found = by(turned, cos + sin)
                other = "" if axis == rank - 1 else by(turned, cos - sin)
            turned, mirrored = found, other
        return turned

    def _mixed(self, add: Add, images: str, mix: Images | None) -> str:
        """Each pixel's channels times a matrix."""
        if mix is None:
            return images
        pixels = add("Reshape", images, np.array([0, 3, -1]))
        return add("Reshape", add("MatMul", mix, pixels), np.array([-1, *self.canvas.shape]))

    @staticmethod
    def _range(limits: tuple[float, float]) -> tuple[Images, Images]:
        return number((limits[0] + limits[1]) / 2), number((limits[1] - limits[0]) / 2)


def parameterization_of(
    name: str, units: Units, canvas: Canvas, limits: tuple[float, float] | None
) -> Parameterization:
    """The parameterization by its name; ``"auto"`` is ``"fourier"`` where the file describes its pictures.

    Raises:
        OptionError: an unknown name, or ``"fourier"`` of an input that has no spatial axes.
    """
    if name == "pixels" or (name == "auto" and units.colours is None):
        return Pixels(limits)
    if name not in ("auto", "fourier"):
        raise OptionError(f"parameterization={name!r}: expected 'auto', 'pixels' or 'fourier'")
    if not units.axes.spatial:
        raise OptionError("parameterization='fourier': the input has no (known) spatial axes; use 'pixels'")
    return Fourier(canvas, units.colours, limits)
