"""A picture in tiles of a network that takes one size only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxviz.algorithms.canvas import Add, Canvas, padded, piece, total
from onnxviz.source import Array

CHOSEN, RETURNS = "tiles/chosen", "tiles/returns"
"""(R,) the tiles of one run; (tiles,) for each tile its row in that run, R where it is not in it."""


@dataclass(frozen=True)
class Tiles:
    """Windows of a picture, around the edges where need be; what they say is joined as the mean at each place.

    Attributes:
        canvas: of the picture.
        windows: the network's size along each spatial axis; None where it takes the picture's.
    """

    canvas: Canvas
    windows: tuple[int | None, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """How many there are along each spatial axis."""
        return tuple(
            1 if window is None else -(-n // window) for n, window in zip(self.canvas.space, self.windows, strict=True)
        )

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(self.rows)

    @property
    def window(self) -> Canvas:
        """The canvas of one tile."""
        sizes = (n if window is None else window for n, window in zip(self.canvas.space, self.windows, strict=True))
        return Canvas(self.canvas.rest, tuple(sizes), self.canvas.order)

    def runs(self, most: int, static: int | None) -> Iterator[dict[str, Array]]:
        """What the graph is fed in each of the runs that all tiles take.

        Args:
            most: how many tiles a run may take.
            static: how many it must take, if the file says so.
        """
        size = static or min(most, self.count)
        for start in range(0, self.count, size):
            end = min(start + size, self.count)
            rows = np.minimum(np.arange(start, start + (static or end - start)), self.count - 1)
            returns = np.full(self.count, len(rows))
            returns[start:end] = np.arange(end - start)
            yield {CHOSEN: rows, RETURNS: returns}

    def cut(self, add: Add, picture: str) -> str:
        """Append the tiles of one run, (R, …), of a picture (1, …)."""
        rank, shape = len(self.canvas.order), list(self.canvas.shape)
        for axis, n, rows, window in self._cuts():
            around, rest = divmod(rows * window, n)
            whole = [picture] * around + ([piece(add, picture, axis, 0, rest)] if rest else [])
            shape[axis - 1 : axis] = [rows, window]
            apart = add("Reshape", add("Concat", *whole, axis=axis), np.array([-1, *shape]))
            ahead = add("Transpose", apart, perm=[0, axis, *range(1, axis), *range(axis + 1, rank + 1)])
            del shape[axis - 1]
            picture = add("Reshape", ahead, np.array([-1, *shape]))
        return add("Gather", picture, CHOSEN, axis=0)

    def join(self, add: Add, tiles: str) -> str:
        """Append the picture (1, …) of the means of what the tiles of one run say, (R, …); the others say 0."""
        picture, shape = self.returned(add, tiles), list(self.window.shape)
        for axis, n, rows, window in reversed(self._cuts()):
            apart = add("Reshape", picture, np.array([-1, rows, *shape]))
            back = add("Transpose", apart, perm=[0, *range(2, axis + 1), 1, *range(axis + 1, len(shape) + 2)])
            shape[axis - 1] = rows * window
            whole = add("Reshape", back, np.array([-1, *shape]))
            around, rest = divmod(rows * window, n)
            parts = [piece(add, whole, axis, k * n, (k + 1) * n) for k in range(around)]
            if rest:
                parts.append(padded(add, piece(add, whole, axis, around * n, around * n + rest), axis, (0, n - rest)))
            shape[axis - 1] = n
            count = around + (np.arange(n) < rest)
            picture = add("Div", total(add, parts), count.astype(np.float32).reshape(-1, *[1] * (len(shape) - axis)))
        return picture

    def _cuts(self) -> list[tuple[int, int, int, int]]:
        """Of each axis that is cut: its number and size, how many tiles there are along it, and theirs."""
        cuts = zip(self.canvas.axes, self.canvas.space, self.rows, self.windows, strict=True)
        return [(axis, n, rows, window) for axis, n, rows, window in cuts if window is not None]

    def returned(self, add: Add, rows: str) -> str:
        """Append what the rows of one run say as a table of all tiles; 0 for those that are not in it."""
        return add("Gather", padded(add, rows, 0, (0, 1)), RETURNS, axis=0)
