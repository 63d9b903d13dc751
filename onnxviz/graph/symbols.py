"""Names for the sizes that a model leaves open, and for those that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.manifest import is_batch
from onnxviz.source import BATCH, Array, Feeds

Dim = int | str
Sizes = tuple[int, ...]
_STRIDES = (2, 4, 8, 16, 32, 64, 128)


def usual_names(count: int) -> list[str]:
    """What the open axes of an input are called where they have no names."""
    image = ["depth", "height", "width"]
    return ["length"] if count == 1 else image[-count:] if count in (2, 3) else [f"size_{i}" for i in range(count)]


class Symbols:
    """The open sizes of a graph's inputs, and what they were in each run.

    Args:
        inputs: of the graph; a size that is no number is open, but for the batch.
        example: the arrays of the first runs.
        batches: the batch size of each of them.
    """

    def __init__(self, inputs: Iterable[ir.Value], example: Feeds, batches: Sequence[int]) -> None:
        self.axes: dict[str, dict[int, str]] = {}
        """Input → axis → symbol."""
        self.sizes: dict[str, int] = {}
        """Symbol → size in the example."""
        for value in inputs:
            opened = {
                axis: size.value
                for axis, size in enumerate(value.shape or ())
                if not isinstance(size, int) and not (axis == 0 and size.value == BATCH)
            }
            for (axis, declared), usual in zip(opened.items(), usual_names(len(opened)), strict=True):
                self._open(value.name or "", axis, declared, usual, example[value.name or ""].shape[axis])
        self.batches = batches
        self.runs: dict[str, Sizes] = {name: (size,) * len(batches) for name, size in self.sizes.items()}
        """Symbol → size in each run."""
        self._named: dict[str, Sizes] = {}
        self._names: dict[Sizes, str] = {}

    def _open(self, name: str, axis: int, declared: str | None, usual: str, size: int) -> None:
        """Two axes share a symbol if they are called alike and have the same size."""
        symbol = declared if declared and declared.isidentifier() and declared != BATCH else usual
        while self.sizes.get(symbol, size) != size:
            symbol += "_"
        self.sizes[symbol] = size
        self.axes.setdefault(name, {})[axis] = symbol

    def resize(self, feeds: Feeds, sizes: Mapping[str, int]) -> dict[str, Array]:
        """The arrays with other open sizes: elements repeat, or are left out."""
        result = dict(feeds)
        for name, axes in self.axes.items():
            for axis, symbol in axes.items():
                kept = np.arange(sizes[symbol]) % feeds[name].shape[axis]
                result[name] = np.take(result[name], kept, axis=axis)
        return result

    def tried(self, *runs: Feeds) -> None:
        """Take note of further runs, at the first batch size."""
        places = {symbol: (name, axis) for name, axes in self.axes.items() for axis, symbol in axes.items()}
        self.batches = (*self.batches, *(self.batches[0] for _ in runs))
        for symbol, (name, axis) in places.items():
            self.runs[symbol] += tuple(run[name].shape[axis] for run in runs)

    def in_each_run(self, size: int | ir.SymbolicDim) -> Sizes:
        """What a size of a value was in each run; empty if that is not known."""
        if isinstance(size, int):
            return (size,) * len(self.batches)
        if is_batch(size.value):
            scale = int(str(size.value).rpartition("*")[0] or 1)
            return tuple(scale * batch for batch in self.batches)
        return self.runs.get(str(size.value), self._named.get(str(size.value), ()))

    def dim(self, sizes: Sizes) -> Dim:
        """The size as a function of the batch and of the open sizes, from its values in all runs.

        A number if it is the same in all runs, ``"N"`` or ``"k*N"`` if it grows with the batch alone, else an
        expression or a name of its own; equal names mean equal sizes.
        """
        if len(set(sizes)) == 1:
            return sizes[0]
        per_sample = sizes[0] // self.batches[0]
        if all(size == per_sample * batch for size, batch in zip(sizes, self.batches, strict=True)):
            return BATCH if per_sample == 1 else f"{per_sample}*{BATCH}"
        if sizes not in self._names:
            name = self._expression(sizes) or f"size_{len(self._names)}"
            self._names[sizes] = name
            self._named[name] = sizes
        return self._names[sizes]

    def _expression(self, sizes: Sizes) -> str | None:
        """How the size follows from one symbol, where that is simple: it is what held in the runs, and a label."""
        for symbol, given in self.runs.items():
            pairs = list(zip(sizes, given, strict=True))
            if sizes == given:
                return symbol
            if len({a - b for a, b in pairs}) == 1:
                return f"{symbol}{sizes[0] - given[0]:+d}"
            if sizes[0] % given[0] == 0 and len({a / b for a, b in pairs}) == 1:
                return f"{sizes[0] // given[0]}*{symbol}"
        for symbol, given in self.runs.items():
            for k in _STRIDES:
                floor, ceil = tuple(size // k for size in given), tuple(-(-size // k) for size in given)
                if sizes in (floor, ceil):
                    how = "floor" if sizes == floor else "ceil"
                    return f"{symbol}/{k}" if floor == ceil else f"{how}({symbol}/{k})"
        return None
