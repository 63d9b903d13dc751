"""What notebooks show of results: tables and pictures in HTML, in which all text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from onnxviz.manifest import Axes
from onnxviz.source import Array

if TYPE_CHECKING:
    from onnxviz.bundle import Bundle

LAYERS, CHANNELS = 6, 8
"""How many layers, and channels of each, feature maps show."""


def size(count: int) -> str:
    """Bytes in words: ``4.7 MiB``, ``33.2 KiB``."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """A table, which scrolls by itself where it is long."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)] if head else [_row("td", row) for row in rows]
    heading = f"<strong>{escape(title)}</strong>" if title else ""
    return f'{heading}<div style="max-height: 28em; overflow: auto"><table>{"".join(lines)}</table></div>'


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join([f'<{tag} style=text-align:left>{escape(cell)}</{tag}>' for cell in cells])}</tr>"


def card(bundle: Bundle) -> str:
    """What an explainable file contains, in a few lines."""
    from onnxviz.report.model import card as rows

    return table((), rows(bundle), title=bundle.path.name)


class Features(dict[str, Array]):
    """Outputs of layers by name: a dict, of which a notebook shows the first sample's feature maps.

    Args:
        values: name → array.
        axes: name → what its axes mean.
    """

    def __init__(self, values: Mapping[str, Array], axes: Mapping[str, Axes]) -> None:
        super().__init__(values)
        self.axes = dict(axes)

    def _repr_html_(self) -> str:
        parts = [_feature_maps(name, values, self.axes[name]) for name, values in list(self.items())[:LAYERS]]
        if len(self) > LAYERS:
            parts.append(f"<p>… and {len(self) - LAYERS} more layers</p>")
        return "".join(parts)


def _feature_maps(name: str, values: Array, axes: Axes) -> str:
    """A line of text, and a picture of the channels where the layer has such."""
    shape = " × ".join(map(str, values.shape))
    ends = f", {values.min():.4g} … {values.max():.4g}" if values.size else ""
    text = f"{name}: {shape}{ends}"
    drawable = axes.batch == 0 and axes.channel is not None and 1 <= len(axes.spatial) <= 3
    if not drawable or values.ndim != 2 + len(axes.spatial) or not np.isfinite(values).all() or not values.size:
        return f"<p><code>{escape(text)}</code></p>"
    from onnxviz.plot import feature_maps

    assert axes.channel is not None
    figure = feature_maps(values[0], channel_axis=axes.channel - 1, most=CHANNELS, columns=4)
    picture = base64.b64encode(figure._repr_png_()).decode()
    shown = f"{text}; channels of the first sample"
    return f'<p><code>{escape(text)}</code></p><img alt="{escape(shown)}" src="data:image/png;base64,{picture}">'
