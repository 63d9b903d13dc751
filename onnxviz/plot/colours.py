"""Numbers to colours. Nothing is rescaled in secret: a :class:`Scale` says which number each colour stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from onnxviz.errors import OptionError

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

SEQUENTIAL = "viridis"
"""For values of one sign: even steps of lightness, readable with any colour vision and in grey."""
HEAT = "inferno"
"""The same for maps over pictures: black at zero, so that the picture stays visible where the map has nothing."""
DIVERGING = "RdBu_r"
"""For values of both signs, white at zero; red against blue is told apart with any colour vision."""
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Told apart with any colour vision (Petroff 2021, arXiv:2107.02270)."""
MODES = ("blend", "multiply")


@dataclass(frozen=True)
class Scale:
    """The colour map and the numbers at its ends."""

    low: float
    high: float
    cmap: str

    def fitted(self, values: Array) -> Scale:
        """The same kind of scale, with its ends where these values have theirs."""
        high = float(np.abs(values).max()) or 1.0
        return replace(self, low=-high if self.low < 0 else 0.0, high=high)

    @property
    def mappable(self) -> ScalarMappable:
        """What a colour bar is drawn from, and what turns values into RGBA."""
        return ScalarMappable(Normalize(self.low, self.high), self.cmap)

    def paint(self, values: Array) -> npt.NDArray[np.float64]:
        """Colours (h, w, 3), 0 … 1, of values (h, w)."""
        return np.asarray(self.mappable.to_rgba(values))[..., :3]


def scale_of(values: Array, *, cmap: str | None = None, sequential: str = SEQUENTIAL) -> Scale:
    """0 … max where no value is negative, else −m … m with m = max abs, so that zero is in the middle.

    ``cmap`` None takes ``sequential`` for the first and :data:`DIVERGING` for the second.

    Raises:
        OptionError: matplotlib does not know ``cmap``.
    """
    if cmap is not None and cmap not in mpl.colormaps:
        raise OptionError(f"cmap {cmap!r} is not a colour map of matplotlib")
    signed = bool((values < 0).any())
    return Scale(-1.0 if signed else 0.0, 1.0, cmap or (DIVERGING if signed else sequential)).fitted(values)


@dataclass(frozen=True)
class Style:
    """How a map is laid over a picture.

    Attributes:
        mode: ``"blend"`` mixes the picture in grey with the map's colours, so that all colour is the map's;
            ``"multiply"`` darkens the picture where the map is low: picture · s, where s goes from 0 at the map's
            lower percentile of ``clip`` to 1 at its upper one.
        alpha: the share of the colours in a blend, 0 … 1.
        clip: the two percentiles for ``"multiply"``. The default drops the noise floor and the few extreme pixels
            that gradients have.
        cmap: a colour map's name; None chooses by the sign of the values, see :func:`scale_of`.

    Raises:
        OptionError: an impossible value.
    """

    mode: str = "blend"
    alpha: float = 0.5
    clip: tuple[float, float] = (10, 90)
    cmap: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise OptionError(f"mode is one of {', '.join(MODES)}; got {self.mode!r}")
        if not 0 <= self.alpha <= 1:
            raise OptionError(f"alpha lies within 0 … 1; got {self.alpha!r}")
        if len(self.clip) != 2 or not 0 <= self.clip[0] < self.clip[1] <= 100:
            raise OptionError(f"clip is two rising percentiles within 0 … 100; got {self.clip!r}")

    def lay(self, values: Array, image: Pixels) -> Pixels:
        """A map (H, W) laid over a picture (H, W, 3) of the same size."""
        if self.mode == "multiply":
            low, high = self.limits(values)
            share = np.clip((values - low) / (high - low or 1.0), 0, 1)[..., None]
            mixed = image * share
        else:
            grey = image @ np.array([0.299, 0.587, 0.114])  # luma, ITU-R BT.601
            mixed = (1 - self.alpha) * grey[..., None] + self.alpha * 255 * self.scale(values).paint(values)
        return np.rint(mixed).astype(np.uint8)

    def scale(self, values: Array) -> Scale:
        """The colours of a map's numbers."""
        return scale_of(values, cmap=self.cmap, sequential=HEAT)

    def limits(self, values: Array) -> tuple[float, float]:
        """The values at the two percentiles of ``clip``."""
        low, high = np.percentile(values, self.clip)
        return float(low), float(high)
