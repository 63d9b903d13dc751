"""Pictures, from files and arrays of any kind, as RGB pixels."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import as_array
from onnxviz.errors import InputError
from onnxviz.files import require_no_pipe

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
Picture = str | os.PathLike[str] | Array


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether it is one picture: a path, an image of Pillow, or an array (h, w) or (h, w, c) of 8 or 16 bits."""
    if isinstance(value, np.ndarray):
        return value.dtype in (np.uint8, np.uint16) and value.ndim in (2, 3)
    return isinstance(value, str | os.PathLike) or _is_pillow(value)


def read_pixels(picture: Picture) -> Pixels:
    """A picture as RGB pixels (height, width, 3), uint8.

    Files, and images of Pillow: whatever Pillow decodes, of animations the first frame. EXIF orientation is applied;
    palettes and other colour spaces become RGB (CMYK without its colour profile). Arrays: (h, w), (h, w, 1), (h, w, 3)
    RGB or (h, w, 4) RGBA. In all, grey is repeated into three channels, transparency is laid over white, and 16 bits
    become 8 (of files in colour the higher 8, as Pillow reads them).

    Raises:
        InputError: not a readable picture, damaged or cut off, or neither of 8 nor of 16 bits.
    """
    if isinstance(picture, str | os.PathLike):
        source, pixels = repr(str(picture)), _decode(picture)
    elif _is_pillow(picture):
        source, pixels = "the image", _stored(picture, "the image")
    else:
        source, pixels = "the array", as_array(picture, "the picture")
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


def _is_pillow(value: object) -> bool:
    """Told by name, so that Pillow is imported only where there are pictures."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def _decode(path: str | os.PathLike[str]) -> Array:
    """The pixels of a file as they are stored, in RGB(A) order."""
    from PIL import Image, UnidentifiedImageError

    name = repr(os.fspath(path))
    try:
        require_no_pipe(Path(path))
        with Image.open(path) as image:
            return _stored(image, name)
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture that Pillow can decode") from error
    except OSError as error:
        if error.strerror:
            raise InputError(f"cannot read the picture {name}: {error.strerror}") from error
        raise InputError(f"the picture {name} is damaged or cut off: {error}") from error
    except (SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the picture {name} is damaged: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the picture {name} is too large: {error}") from error


def _stored(image: Any, name: str) -> Array:
    """An image of Pillow, turned upright, as an array of grey, RGB or RGBA."""
    from PIL import ImageOps

    upright: Image = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # whole numbers of more than 8 bits
        values = np.asarray(upright)
        if values.min(initial=0) < 0 or values.max(initial=0) > np.iinfo(np.uint16).max:
            raise InputError(f"{name} has pixels from {values.min()} to {values.max()}; expected 8 or 16 bits")
        return values.astype(np.uint16)
    if upright.mode == "F":
        raise InputError(f"{name} has floating-point pixels; expected 8 or 16 bits")
    if upright.has_transparency_data:
        return np.asarray(upright.convert("RGBA"))
    return np.asarray(upright if upright.mode in {"L", "RGB"} else upright.convert("RGB"))
