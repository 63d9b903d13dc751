"""From picture files to the array that a network takes, and back to the pixels that it saw."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from onnxviz.errors import InputError, OptionError, nearest

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
Picture = str | os.PathLike[str] | Array

LAYOUTS = ("NCHW", "NHWC")
CHANNELS = ("RGB", "BGR", "L")
INTERPOLATIONS = ("bicubic", "bilinear", "area")


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
        resize: None stretches the whole picture to ``size``. A number resizes the short side to that many pixels,
            at least the larger of ``size``, and takes the centre of ``size``: the usual ImageNet evaluation.
        interpolation: ``"bicubic"``, ``"bilinear"`` or ``"area"``.

    Raises:
        OptionError: a field has an impossible value.
    """

    size: int | tuple[int, int]
    layout: str = "NCHW"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    channels: str = "RGB"
    resize: int | None = None
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name, known in (("layout", LAYOUTS), ("channels", CHANNELS), ("interpolation", INTERPOLATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"ImageInput.{name} is one of {', '.join(known)}; got {value!r}")
        size = _height_and_width("ImageInput.size", self.size)
        if self.resize is not None and not (_is_whole(self.resize) and self.resize >= max(size)):
            raise OptionError(f"ImageInput.resize is None or at least the larger side of {size}; got {self.resize!r}")
        set_field = object.__setattr__
        set_field(self, "size", size)
        for name in ("mean", "std"):
            set_field(self, name, _per_channel(f"ImageInput.{name}", getattr(self, name), len(self.channels)))
        set_field(self, "scale", _number("ImageInput.scale", self.scale))
        if self.scale == 0 or 0 in self._std:
            raise OptionError(f"ImageInput.scale and std must not be 0; got scale={self.scale}, std={self.std}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as what JSON can hold; :meth:`from_dict` reads it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
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

        ``picture`` is a file that OpenCV reads, or an array as :func:`read_pixels` takes it.

        Raises:
            InputError: the file or array is not a picture.
        """
        return self.encode(self.fit(read_pixels(picture)))

    def fit(self, pixels: Pixels) -> Pixels:
        """Pixels of any size (h, w, 3) at the network's size (H, W, 3), by ``resize`` and ``interpolation``."""
        height, width = self._size
        if self.resize is None:
            return _resize(pixels, height, width, self.interpolation)
        factor = self.resize / min(pixels.shape[:2])
        h, w = (round(n * factor) for n in pixels.shape[:2])
        pixels = _resize(pixels, h, w, self.interpolation)
        top, left = (h - height) // 2, (w - width) // 2
        return pixels[top : top + height, left : left + width]

    def encode(self, pixels: Pixels) -> Array:
        """RGB pixels (H, W, 3) or (N, H, W, 3) that already have the network's size, as its input array.

        The inverse of :meth:`pixels`.

        Raises:
            InputError: not uint8, or not of this size.
        """
        batch = np.asarray(pixels)
        batch = batch[None] if batch.ndim == 3 else batch
        if batch.dtype != np.uint8 or batch.shape[1:] != (*self._size, 3):
            height, width = self._size
            raise InputError(
                f"encode takes uint8 RGB pixels ({height}, {width}, 3) or (N, {height}, {width}, 3); "
                f"got {pixels.dtype} {pixels.shape}; fit() brings a picture to this size"
            )
        x = (_from_rgb(batch, self.channels).astype(np.float32) * self.scale - self._mean) / self._std
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self.layout == "NCHW" else x, dtype=np.float32)

    def pixels(self, x: npt.ArrayLike) -> Pixels:
        """What the network saw: RGB pixels (N, H, W, 3) of an input array, rounded and kept within 0 … 255.

        Raises:
            InputError: ``x`` has not this layout and number of channels.
        """
        x = np.asarray(x)
        channel_axis = 1 if self.layout == "NCHW" else 3
        if x.ndim != 4 or x.shape[channel_axis] != len(self.channels):
            raise InputError(f"expected {self.layout} with {len(self.channels)} channels; got shape {x.shape}")
        x = np.moveaxis(x, channel_axis, -1)
        pixels = np.clip(np.rint((x * self._std + self._mean) / self.scale), 0, 255).astype(np.uint8)
        return _to_rgb(pixels, self.channels)

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


def read_pixels(picture: Picture) -> Pixels:
    """A picture as RGB pixels (height, width, 3), uint8.

    Files: whatever OpenCV decodes; the EXIF orientation is applied (not to files with an alpha channel).
    Arrays: (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA. In both, grey is repeated into three channels,
    transparency is laid over white, and 16 bits are scaled to 8.

    Raises:
        InputError: not a readable picture, or neither uint8 nor uint16.
    """
    if isinstance(picture, str | os.PathLike):
        source, pixels = repr(str(picture)), _decode(Path(picture))
    else:
        source, pixels = "the array", np.asarray(picture)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)  # 65535 = 255 · 257
    if pixels.dtype != np.uint8:
        raise InputError(f"{source} has pixels of type {pixels.dtype}; expected uint8 or uint16")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in {1, 3, 4} or 0 in pixels.shape:
        raise InputError(f"{source} has shape {pixels.shape}; expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)")
    if pixels.shape[2] == 4:
        opacity = pixels[..., 3:] / 255
        pixels = np.rint(pixels[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def resize_linear(values: npt.ArrayLike, size: Sequence[int], axes: Sequence[int]) -> npt.NDArray[np.float32]:
    """Values at another ``size`` along ``axes``, linear in each: half-pixel centres, edges repeated, no antialiasing.

    The same as ONNX's ``Resize(mode="linear", coordinate_transformation_mode="half_pixel")``.
    """
    result = np.asarray(values, np.float32)
    for n, axis in zip(size, axes, strict=True):
        length = result.shape[axis]
        if n != length:
            centres = np.clip((np.arange(n) + 0.5) * length / n - 0.5, 0, length - 1)
            low = np.floor(centres).astype(int)
            high = np.minimum(low + 1, length - 1)
            part = (centres - low).astype(np.float32).reshape(-1, *[1] * (result.ndim - 1 - axis % result.ndim))
            result = np.take(result, low, axis) * (1 - part) + np.take(result, high, axis) * part
    return result


def _decode(path: Path) -> Array:
    """The pixels of a file as they are stored, in RGB(A) order."""
    import cv2

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"cannot read the picture {str(path)!r}: {error.strerror}") from error
    # IMREAD_UNCHANGED alone keeps the alpha channel, and alone ignores the EXIF orientation.
    pixels: Array | None = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if pixels is None:
        raise InputError(f"{str(path)!r} is not a picture that OpenCV can decode")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return pixels[..., [2, 1, 0, 3]]
    pixels = np.asarray(cv2.imdecode(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH))
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def _resize(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """OpenCV's resize, without aliasing.

    Its cubic and linear kernels do not widen when they shrink: what shrinks to less than half is averaged down to
    twice the size first.
    """
    import cv2

    kernel = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[interpolation]
    h, w = min(pixels.shape[0], 2 * height), min(pixels.shape[1], 2 * width)
    for size, method in (((w, h), cv2.INTER_AREA), ((width, height), kernel)):
        if pixels.shape[1::-1] != size:
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)
    return pixels


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


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _height_and_width(name: str, size: object) -> tuple[int, int]:
    sides = (size, size) if _is_whole(size) else size
    if isinstance(sides, Sequence) and len(sides) == 2 and all(_is_whole(n) and n > 0 for n in sides):
        return int(sides[0]), int(sides[1])
    raise OptionError(f"{name} is a positive number or (height, width); got {size!r}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise OptionError(f"{name} is a finite number; got {value!r}")
    return float(value)


def _per_channel(name: str, value: object, channels: int) -> tuple[float, ...]:
    """One number per channel, from as many or from one that holds for all."""
    values = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value,) * channels
    if len(values) != channels:
        raise OptionError(f"{name} has one number, or one for each of {channels} channels; got {value!r}")
    return tuple(_number(name, v) for v in values)
