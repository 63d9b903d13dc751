"""The table of a file's layers: looked up by name or index, and the choice of a layer for a method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from onnxviz.display import table
from onnxviz.errors import LayerError, nearest
from onnxviz.manifest import Layer

_NOT_FOR_CAM = frozenset({
    "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Dropout", "Pad", "Reshape", "Flatten",
    "Transpose", "Squeeze", "Unsqueeze", "Slice", "ReduceMean", "Resize",
})  # fmt: skip


_HEAD = ("", "name", "type", "shape", "channel", "spatial", "parameters", "gradient")


class LayerTable(Sequence[Layer]):
    """Layers in the order of their computation; prints as a table."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        self._index = {layer.name: layer for layer in self._layers}

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Layer]: ...
    def __getitem__(self, key: int | str | slice) -> Layer | Sequence[Layer]:
        if isinstance(key, slice):
            return LayerTable(self._layers[key])
        if isinstance(key, int) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise LayerError(f"layer {key} is out of range: there are {len(self)} layers")
            return self._layers[key]
        if not isinstance(key, str) or key not in self._index:
            raise LayerError(f"there is no layer {key!r}{nearest(str(key), self._index) or '; ex.layers lists them'}")
        return self._index[key]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __contains__(self, key: object) -> bool:
        return key in self._index or key in self._layers

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for i, layer in enumerate(self._layers):
            axes = layer.axes
            yield (
                str(i), layer.name, layer.type, "×".join(str(d if d is not None else "?") for d in layer.shape),
                "–" if axes.channel is None else str(axes.channel), ",".join(map(str, axes.spatial)) or "–",
                f"{layer.parameters:,}", "yes" if layer.has_gradient else f"no: {layer.reason}",
            )  # fmt: skip

    def _repr_html_(self) -> str:
        return table(_HEAD, self._rows())

    def __repr__(self) -> str:
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def explainable(self, layer: str | int) -> Layer:
        """A layer that has a gradient."""
        chosen = self[layer]
        if not chosen.has_gradient:
            raise LayerError(f"layer {chosen.name!r} has no gradient: {chosen.reason}")
        return chosen

    def cam(self, layer: str | int) -> Layer:
        """A layer that a class activation map can be taken at.

        Args:
            layer: name, index, or ``"auto"``: the last with gradient and more than one place in space, before the
                spatial axes collapse, that is not pooling, dropout, padding or reshaping.
        """
        if isinstance(layer, str) and layer == "auto" and "auto" not in self._index:
            return self._auto()
        chosen = self.explainable(layer)
        if not _has_maps(chosen):
            raise LayerError(
                f"layer {chosen.name!r} (shape {list(chosen.shape)}) has no known channel and spatial axes, so no "
                f"class activation map can be taken there; the last that has: {self._auto().name!r}"
            )
        return chosen

    def _auto(self) -> Layer:
        fitting = [t for t in self._layers if t.has_gradient and _has_maps(t) and t.operator not in _NOT_FOR_CAM]
        if not any(t.has_gradient for t in self._layers):
            raise LayerError("this file contains no gradients: convert the model with gradient=True")
        if not fitting:
            raise LayerError(
                "no layer has channels, more than one place in space, and a gradient: a class activation map cannot be "
                "taken of this model. Use saliency or another gradient method"
            )
        last = fitting[-1]
        for inner in reversed(fitting[:-1]):  # the layer itself rather than the containers that end with it
            container = last.name.partition(":")[0]
            same = (inner.shape, inner.operator) == (last.shape, last.operator)
            if not (same and inner.name.startswith(f"{container}.")):
                break
            last = inner
        return last


def _has_maps(layer: Layer) -> bool:
    places = 1
    for axis in layer.axes.spatial:
        size = layer.shape[axis]
        places *= size if isinstance(size, int) else 2
    roles = {layer.axes.batch, layer.axes.channel, *layer.axes.spatial}
    return roles == set(range(len(layer.shape))) and places > 1
