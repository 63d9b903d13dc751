"""A file's weights, which its sessions share."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from onnxviz.engine.session import runtime
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnxruntime

SHARED_FROM = 2**20
"""Weights of at least this many bytes are shared between sessions."""


class Weights:
    """A file's weights, shared by all sessions made from it; those ``in_memory`` are not what the file has."""

    def __init__(
        self, arrays: Mapping[str, Array], folder: Path | None = None, in_memory: Container[str] = frozenset()
    ) -> None:
        self.arrays = arrays
        self.folder = folder
        self.in_memory = in_memory
        self.nbytes = sum(a.nbytes for a in arrays.values())
        self._values: dict[str, onnxruntime.OrtValue] = {}

    def lend(self, options: onnxruntime.SessionOptions, model: onnx.ModelProto, *, on_cpu: bool) -> None:
        """Give a session these weights: on the CPU it reads the largest where they lie, others it maps from the file.

        Only weights of matrix products and embeddings are shared: onnxruntime rewrites others in place at times (it
        transposes a constant rather than its partner), and would then compute with the shared, unchanged one. Weights
        that are in no file are all shared: they are those of a graph that runs once, as it stands.
        """
        names = [t.name for t in model.graph.initializer if t.name in self.arrays]
        if self.folder is None:
            # The first call tells where the tensors are, the second that the session may use them without a copy.
            options.add_external_initializers(names, [self._value(name) for name in names])
            self.share(options, names)
            return
        lent = self.lent(model) if on_cpu else set()
        self.share(options, lent)
        replaced = [name for name in names if name in self.in_memory and name not in lent]
        options.add_external_initializers(replaced, [self._value(name) for name in replaced])

    def lent(self, model: onnx.ModelProto) -> set[str]:
        """Those that sessions on the CPU share: what is large, and used by matrix products and embeddings alone."""
        fixed = _used_only(model.graph.node, {("Gemm", 0), ("Gemm", 1), ("Gather", 0)})
        return {name for name in fixed & self.arrays.keys() if self.arrays[name].nbytes >= SHARED_FROM}

    def share(self, options: onnxruntime.SessionOptions, names: Iterable[str]) -> None:
        """Let a session use these weights where they lie."""
        for name in names:
            options.add_initializer(name, self._value(name))

    def _value(self, name: str) -> onnxruntime.OrtValue:
        if name not in self._values:
            self._values[name] = runtime().OrtValue.ortvalue_from_numpy(self.arrays[name])
        return self._values[name]


def _used_only(nodes: Iterable[onnx.NodeProto], places: set[tuple[str, int]]) -> set[str]:
    """Names that are read nowhere but as these inputs of these operators."""
    inside: set[str] = set()
    outside: set[str] = set()
    for node in nodes:
        for index, name in enumerate(node.input):
            (inside if (node.op_type, index) in places else outside).add(name)
    return inside - outside
