"""The figures that plots return."""

from __future__ import annotations

import io

import matplotlib.figure

DPI = 72
"""Of a figure in a notebook, as notebooks draw pyplot's."""


class Figure(matplotlib.figure.Figure):
    """matplotlib's, which a notebook shows also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=DPI)
        return stream.getvalue()
