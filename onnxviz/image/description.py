"""How a network wants its pictures, and the way of a picture there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import as_array, checked
from onnxviz.errors import InputError, OptionError, nearest
from onnxviz.image.fields import MOST_PIXELS, height_and_width, number, per_channel, resize_to
from onnxviz.image.geometry import View
from onnxviz.image.reading import Array, Picture, Pixels, read_pixels

LAYOUTS = ("NCHW", "NHWC")
CHANNELS = ("RGB", "BGR", "L")
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "area": 4, "hamming": 5}
"""Pillow's filters by name; ``"area"`` is its box filter."""


@dataclass(frozen=True)
class _Steps:
    """What becomes of one picture: a part is cut out, resized, and ``size`` cut out of that.

    ``part`` is (top, left, height, width) in pixels of the picture, ``resized`` (height, width), ``corner`` the (top,
    left) of what the network sees in that.
    """

    part: tuple[int, int, int, int]
    resized: tuple[int, int]
    corner: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ImageInput:
    """How a network wants its pictures: ``x = (pixel · scale − mean) / std`` on pixels 0 … 255.

    Attributes:
        size: the input's (height, width) in pixels; one number means a square.
        layout: ``"NCHW"`` or ``"NHWC"``.
        mean: subtracted; one number, or one per channel in the order of ``channels``.
        std: divided by, likewise; never 0.
        scale: multiplied first; 1/255 for networks trained on 0 … 1.
        channels: ``"RGB"``, ``"BGR"`` (Caffe) or ``"L"``, one channel of luma (ITU-R BT.601).
        resize: None resizes to ``size``, whatever the picture's proportions. A number resizes the short side to that
            many pixels and keeps the proportions, (height, width) resizes to these; of both, at least ``size``, the
            centre of ``size`` is taken: the usual ImageNet evaluation.
        interpolation: Pillow's filter: ``"bicubic"``, ``"bilinear"``, ``"nearest"``, ``"area"`` (its box filter),
            ``"lanczos"`` or ``"hamming"``. All but nearest average over what they shrink.
        crop: None, or how much is cut out before it is resized to ``size``: this share, 0 … 1, of the largest centred
            part with the proportions of ``size`` (EfficientNet's evaluation). Either ``crop`` or ``resize``.

    Raises:
        OptionError: a field has an impossible value.
    """

    size: int | tuple[int, int]
    layout: str = "NCHW"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    channels: str = "RGB"
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bicubic"
    crop: float | None = None

    def __post_init__(self) -> None:
        known = (("layout", LAYOUTS), ("channels", CHANNELS), ("interpolation", INTERPOLATIONS))
        for name, values in known:
            if not isinstance(value := getattr(self, name), str) or value not in values:
                raise OptionError(f"ImageInput.{name} is one of {', '.join(values)}; got {value!r}")
        set_field = object.__setattr__
        set_field(self, "size", height_and_width("ImageInput.size", self.size))
        set_field(self, "resize", resize_to(self.resize, self._size))
        for name in ("mean", "std"):
            set_field(self, name, per_channel(f"ImageInput.{name}", getattr(self, name), len(self.channels)))
        set_field(self, "scale", number("ImageInput.scale", self.scale))
        if self.scale == 0 or 0 in self._std:
            raise OptionError(f"ImageInput.scale and std must not be 0; got scale={self.scale}, std={self.std}")
        if self.crop is not None:
            set_field(self, "crop", number("ImageInput.crop", self.crop))
            if not 0 < self.crop <= 1 or self.resize is not None:
                raise OptionError(
                    f"ImageInput.crop is a share, 0 … 1, and goes without resize; got {self.crop}, resize={self.resize}"
                )

    @classmethod
    @checked
    def preset(cls, name: str, size: int | tuple[int, int] | None = None, **changes: Any) -> ImageInput:
        """A usual preparation by name: see :data:`onnxviz.image.presets.PRESETS`.

        ``"keras-tf"``, ``"keras-torch"`` and ``"keras-caffe"`` are the modes of Keras Applications, ``"keras-raw"`` is
        for those of its networks that prepare pixels themselves; ``"torchvision"`` is ImageNet as torchvision evaluates
        it, ``"efficientnet-lite"`` as EfficientNet-Lite does.

        Args:
            name: of the preset.
            size: of the network's input; None is 224. What is resized or cropped follows.
            changes: other values for fields, such as ``layout="NCHW"``.

        Raises:
            OptionError: an unknown name or field, or an impossible value.
        """
        from onnxviz.image.presets import fields_of

        return cls.from_dict(fields_of(name, size) | changes)

    @classmethod
    def from_processor(cls, processor: Any, **changes: Any) -> ImageInput:
        """From an image processor of ``transformers``, which is not imported.

        Where a crop leaves an odd number of pixels, its corner is rounded as torchvision does: half of these times one
        pixel beside the processor's.

        Args:
            processor: the object, its dict, or the path of its ``preprocessor_config.json`` or of the folder with it.
            changes: other values for fields.

        Raises:
            OptionError: it prepares pictures in a way that no ImageInput can describe, such as padding.
            InputError: the file cannot be read.
        """
        from onnxviz.image.processors import fields_of

        return cls.from_dict(fields_of(processor) | changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as what JSON can hold; :meth:`from_dict` reads it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    @checked
    def from_dict(cls, description: Mapping[str, Any]) -> ImageInput:
        """The inverse of :meth:`to_dict`.

        Raises:
            OptionError: a field is missing, unknown, or has an impossible value.
        """
        known = [field.name for field in fields(cls)]
        for name in description:
            if name not in known:
                raise OptionError(f"ImageInput has no field {name!r}{nearest(name, known)}")
        if "size" not in description:
            raise OptionError(f"the description of an ImageInput lacks 'size'; it has {sorted(description)}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in description.items()}
        return cls(**values)

    def read(self, picture: Picture) -> Array:
        """The array that the network takes for one picture: float32 (1, C, H, W), or (1, H, W, C) for NHWC.

        ``picture`` is what :func:`onnxviz.image.read_pixels` takes: a path, an image of Pillow, or pixels.

        Raises:
            InputError: the file or array is not a picture.
        """
        return self.encode(self.fit(read_pixels(picture)))

    def fit(self, pixels: Pixels) -> Pixels:
        """Pixels of any size (h, w, 3) at the network's size (H, W, 3): cut out and resized."""
        from PIL import Image

        pixels = read_pixels(as_array(pixels, "pixels"))
        steps, (height, width) = self._steps(pixels.shape[:2]), self._size
        if steps == _Steps((0, 0, height, width), (height, width)):
            return pixels
        if math.prod(steps.resized) > MOST_PIXELS:
            raise InputError(
                f"a picture of {pixels.shape[0]} × {pixels.shape[1]} pixels would be resized to {steps.resized[0]} × "
                f"{steps.resized[1]}: at most {MOST_PIXELS} pixels are made of one"
            )
        top, left, h, w = steps.part
        part = Image.fromarray(np.ascontiguousarray(pixels[top : top + h, left : left + w]))
        resized = part.resize(steps.resized[::-1], Image.Resampling(INTERPOLATIONS[self.interpolation]))
        top, left = steps.corner
        return np.asarray(resized)[top : top + height, left : left + width]

    def view(self, picture: tuple[int, int]) -> View:
        """Which part of a picture of this (height, width) the network sees, and what lays its places over it."""
        picture = height_and_width("picture", picture)
        steps = self._steps(picture)
        starts, ends = [], []
        for axis, (n, seen) in enumerate(zip(picture, self._size, strict=True)):
            factor = steps.part[2 + axis] / steps.resized[axis]
            start = steps.part[axis] + steps.corner[axis] * factor
            starts.append(start / n)
            ends.append((start + seen * factor) / n)
        return View(picture, (starts[0], starts[1], ends[0], ends[1]))

    def _steps(self, picture: tuple[int, ...]) -> _Steps:
        (height, width), (h, w) = self._size, picture
        if self.crop is not None:  # rounded as EfficientNet's evaluation does
            ratio = self.crop * min(h / height, w / width)
            part = [max(math.floor(ratio * n + 1e-6), 1) for n in self._size]
            return _Steps(((h - part[0] + 1) // 2, (w - part[1] + 1) // 2, part[0], part[1]), self._size)
        if self.resize is None:
            return _Steps((0, 0, h, w), self._size)
        if isinstance(self.resize, tuple):
            resized = self.resize
        else:  # rounded as torchvision does, as is the corner
            short = min(h, w)
            resized = (self.resize * h // short, self.resize * w // short)
        return _Steps((0, 0, h, w), resized, (round((resized[0] - height) / 2), round((resized[1] - width) / 2)))

    def encode(self, pixels: Pixels) -> Array:
        """RGB pixels (H, W, 3) or (N, H, W, 3) that already have the network's size, as its input array.

        The inverse of :meth:`pixels`.

        Raises:
            InputError: not uint8, or not of this size.
        """
        batch = as_array(pixels, "pixels")
        batch = batch[None] if batch.ndim == 3 else batch
        if batch.dtype != np.uint8 or batch.shape[1:] != (*self._size, 3):
            height, width = self._size
            raise InputError(
                f"encode takes uint8 RGB pixels ({height}, {width}, 3) or (N, {height}, {width}, 3); "
                f"got {batch.dtype} {np.shape(pixels)}; fit() brings a picture to this size"
            )
        x = np.moveaxis(_from_rgb(batch, self.channels), -1, 1).astype(np.float32, order="C")  # planes: long rows
        x *= np.float32(self.scale)
        x -= self._mean[:, None, None]
        x /= self._std[:, None, None]
        return x if self.layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def pixels(self, x: npt.ArrayLike) -> Pixels:
        """What the network saw: RGB pixels (N, H, W, 3) of an input array, rounded and kept within 0 … 255.

        Raises:
            InputError: ``x`` has not this layout and number of channels.
        """
        x = as_array(x, "x")
        channel_axis = 1 if self.layout == "NCHW" else 3
        if x.ndim != 4 or x.shape[channel_axis] != len(self.channels) or x.dtype.kind not in "fiub":
            raise InputError(
                f"expected input images, numbers {self.layout} with {len(self.channels)} channels; got {x.dtype} "
                f"{x.shape}"
            )
        x = np.moveaxis(x, channel_axis, -1)
        pixels = np.clip(np.rint((x * self._std + self._mean) / self.scale), 0, 255).astype(np.uint8)
        return _to_rgb(pixels, self.channels)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number that a picture can hold once it is prepared."""
        ends = np.stack([(end * self.scale - self._mean) / self._std for end in (0, 255)])
        return float(ends.min()), float(ends.max())

    @property
    def _size(self) -> tuple[int, int]:
        assert isinstance(self.size, tuple)
        return self.size

    @property
    def _mean(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.mean, np.float32)

    @property
    def _std(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.std, np.float32)


def _from_rgb(pixels: Pixels, channels: str) -> Pixels:
    """RGB pixels (N, H, W, 3) in the network's channel order (N, H, W, C)."""
    if channels == "L":
        luma = pixels @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
        return np.rint(luma)[..., None].astype(np.uint8)
    return pixels[..., ::-1] if channels == "BGR" else pixels


def _to_rgb(pixels: Pixels, channels: str) -> Pixels:
    if channels == "L":
        return np.repeat(pixels, 3, axis=-1)
    return np.ascontiguousarray(pixels[..., ::-1]) if channels == "BGR" else pixels
