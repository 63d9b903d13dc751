"""The figures that plots return."""

from __future__ import annotations

import io

import matplotlib.figure
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Text

from onnxviz.errors import printable

DPI = 72
"""Of a figure in a notebook, as notebooks draw pyplot's."""


LONGEST = 2000
"""How many letters of a text are drawn."""


class Figure(matplotlib.figure.Figure):
    """matplotlib's, which a notebook shows also where pyplot was never imported.

    Text stands in it as it is: names of layers and classes come from files, where ``$`` begins no formula.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw it."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            shown = printable(text.get_text())
            text.set_text(shown if len(shown) <= LONGEST else shown[:LONGEST] + "…")
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=DPI)
        return stream.getvalue()
