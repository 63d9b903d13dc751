"""Pictures, maps and curves as text that a page can hold.

A map travels as a small grey picture; the page gives it its colours, so that these and the opacity can be chosen there.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from onnxviz.image import Pixels
from onnxviz.source import Array

LONGEST_PICTURE = 800
"""Pixels of a picture's longer side: twice of what a phone shows."""
LONGEST_MAP = 320
"""Places of a map's longer side: what most networks see has fewer."""
LONGEST_SERIES = 2000
"""Places of a map along time."""
POINTS = 1000
"""Points of a curve."""
TINY = 128
"""Pixels of a picture's longer side, up to which each is kept as it is, and seen as one."""
QUALITY = 85
"""Of larger ones, as JPEG: no loss that is seen, at a tenth of the bytes."""
ZERO, LEVELS = 128, 127
"""Of a map with both signs: the grey of 0, and how many greys lie on either side."""
STEPS = 17
"""Colours of a table; between them the page mixes."""


def picture(pixels: Pixels) -> str:
    """RGB pixels (h, w, 3) as a data URI, made smaller where they are larger than a page shows."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONGEST_PICTURE, LONGEST_PICTURE), Image.Resampling.LANCZOS)
    if max(image.size) <= TINY:
        return _data_uri(image, "png", optimize=True)
    return _data_uri(image, "jpeg", quality=QUALITY, optimize=True, progressive=True)


def colour_map(values: Array, percentile: float | None) -> dict[str, Any]:
    """A map (h, w) or (t,) as a grey picture, and what its greys mean.

    Without negative values grey 0 is 0 and 255 is ``high``; else 128 is 0, 255 is ``high`` and 1 is −``high``.

    Args:
        values: numbers; those that are not finite become 0, and are counted.
        percentile: what ``high`` is of the absolute values; None is the largest.
    """
    finite = np.isfinite(values)
    values = np.where(finite, values, 0)
    rows = _fitted(np.atleast_2d(np.asarray(values, np.float32)), LONGEST_SERIES if values.ndim == 1 else LONGEST_MAP)
    signed = bool((values < 0).any())
    largest = float(np.abs(values).max())
    high = largest if percentile is None else float(np.percentile(np.abs(values), percentile)) or largest
    share = np.clip(rows / (high or 1.0), -1, 1)
    greys = np.rint(ZERO + LEVELS * share if signed else 255 * share).astype(np.uint8)
    image = _data_uri(Image.fromarray(greys), "png", optimize=True)
    lost = int(finite.size - finite.sum())
    return {"image": image, "signed": signed, "high": high, "largest": largest, "lost": lost}


def curve(values: Array) -> list[float]:
    """A series (t,) as at most :data:`POINTS` numbers of four digits: of longer ones each part's lowest and highest."""
    if len(values) > POINTS:
        parts = np.array_split(values, POINTS // 2)
        pairs = [sorted((part.min(), part.max()), reverse=bool(part[0] > part[-1])) for part in parts]
        values = np.ravel(pairs)
    return [float(f"{value:.4g}") for value in values]


def colour_tables() -> dict[str, list[list[float]]]:
    """The colours that maps may have, from grey 0 to 255: rows of red, green and blue, 0 … 1."""
    import matplotlib as mpl

    from onnxviz.plot.colours import DIVERGING, HEAT, SEQUENTIAL

    places = np.linspace(0, 1, STEPS)
    return {
        name: np.round(np.asarray(mpl.colormaps[name](places))[:, :3], 3).tolist()
        for name in (HEAT, SEQUENTIAL, "gray", DIVERGING)
    }


def _fitted(rows: Array, longest: int) -> Array:
    """The map at its size, or averaged to fewer places."""
    share = longest / max(rows.shape)
    if share >= 1:
        return rows
    height, width = (max(1, round(n * share)) for n in rows.shape)
    return np.asarray(Image.fromarray(rows).resize((width, height), Image.Resampling.BOX))


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
