"""What the ascent moves: the pixels themselves, or their Fourier spectrum in colours of their own; and its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

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
    """Numbers that stand for an image: what the ascent moves."""

    @property
    def name(self) -> str:
        """As users call it."""

    @property
    def levels(self) -> float:
        """The step that serves by default, in grey levels."""

    @property
    def bounded(self) -> bool:
        """Whether numbers outside of the valid range must be brought back after a step."""

    def decode(self, numbers: Images) -> Images:
        """The images."""

    def encode(self, images: Images) -> Images:
        """The numbers of images; the inverse of :meth:`decode`."""

    def pull(self, images: Images, gradient: Images) -> Images:
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

    def decode(self, numbers: Images) -> Images:
        """See :class:`Parameterization`."""
        return numbers if self.limits is None else np.clip(numbers, *self.limits)

    def encode(self, images: Images) -> Images:
        """See :class:`Parameterization`."""
        return images

    def pull(self, images: Images, gradient: Images) -> Images:  # noqa: ARG002 - the same everywhere
        """See :class:`Parameterization`."""
        return gradient


class Fourier:
    """The spectrum, its frequencies scaled as in natural images (1/f), in colours that vary on their own.

    Olah 2017 (doi:10.23915/distill.00007, section "preconditioning"): the same ascent in other coordinates, in which no
    frequency and no colour is favoured. The transform is Hartley's, real and its own inverse, so that the coordinates
    are as many as the pixels. Values come into ``limits`` by a tanh.

    Args:
        shape: of the images (N, …).
        axes: what their axes mean.
        colours: the order of three colour channels; others are moved each on its own.
        limits: smallest and largest value of an image; None leaves them open.
    """

    name = "fourier"
    levels = 0.5  # most of a step goes into low frequencies, where it is seen
    bounded = False

    def __init__(
        self, shape: Sequence[int], axes: Axes, colours: str | None, limits: tuple[float, float] | None
    ) -> None:
        self.spatial, self.channel, self.limits = axes.spatial, axes.channel, limits
        frequencies = np.meshgrid(*(np.fft.fftfreq(shape[axis]) for axis in axes.spatial), indexing="ij")
        lowest = 1 / max(shape[axis] for axis in axes.spatial)
        scale = 1 / np.maximum(np.sqrt(sum(f * f for f in frequencies)), lowest)
        scale /= np.sqrt((scale**2).mean())
        self.scale = scale.reshape([n if i in axes.spatial else 1 for i, n in enumerate(shape)]).astype(np.float32)
        self.mix = None
        if colours in ("RGB", "BGR") and axes.channel is not None:
            rows = COLOURS if colours == "RGB" else COLOURS[::-1]
            self.mix = (rows / np.sqrt((rows**2).sum(1).mean())).astype(np.float32)

    def decode(self, numbers: Images) -> Images:
        """See :class:`Parameterization`."""
        images = self._mixed(self._hartley(self.scale * numbers), self.mix)
        if self.limits is None:
            return images
        middle, half = self._range(self.limits)
        bounded: Images = middle + half * np.tanh(images / half)
        return bounded

    def encode(self, images: Images) -> Images:
        """See :class:`Parameterization`. Values at the limits, which a tanh never reaches, are drawn in a little."""
        if self.limits is not None:
            middle, half = self._range(self.limits)
            images = half * np.arctanh(np.clip((images - middle) / half, -0.99, 0.99))
        mix = None if self.mix is None else np.linalg.inv(self.mix)
        numbers: Images = self._hartley(self._mixed(images, mix)) / self.scale
        return numbers

    def pull(self, images: Images, gradient: Images) -> Images:
        """See :class:`Parameterization`."""
        if self.limits is not None:
            middle, half = self._range(self.limits)
            inside = (images - middle) / half
            gradient = gradient * (1 - inside * inside)
        mix = None if self.mix is None else self.mix.T
        pulled: Images = self.scale * self._hartley(self._mixed(gradient, mix))
        return pulled

    def _hartley(self, values: Images) -> Images:
        spectrum = np.fft.fftn(values, axes=self.spatial, norm="ortho")
        return (spectrum.real - spectrum.imag).astype(np.float32, copy=False)

    def _mixed(self, images: Images, mix: Images | None) -> Images:
        """Each pixel's channels times a matrix."""
        if mix is None:
            return images
        assert self.channel is not None
        mixed = np.moveaxis(images, self.channel, -1) @ mix.T
        return np.ascontiguousarray(np.moveaxis(mixed, -1, self.channel))

    @staticmethod
    def _range(limits: tuple[float, float]) -> tuple[np.float32, np.float32]:
        return np.float32((limits[0] + limits[1]) / 2), np.float32((limits[1] - limits[0]) / 2)


def parameterization_of(
    name: str, units: Units, shape: Sequence[int], limits: tuple[float, float] | None
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
    return Fourier(shape, units.axes, units.colours, limits)
