"""What the axes of each value mean, propagated from the operators that know: convolutions, pools, matrix products.

A network may mix layouts (an NHWC input before NCHW convolutions; ConvNeXt's norms), so roles are found per value and
never guessed from a rank. A role that no operator implies stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from onnxviz.gradient.tape import constant_ints
from onnxviz.graph.symbols import Symbols
from onnxviz.manifest import Axes, is_batch

Role = str | None
Roles = list[Role]
BATCH_ROLE, CHANNEL = "batch", "channel"

_SPATIAL = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth",
})  # fmt: skip
_SAME = frozenset({
    "Pad", "Slice", "Concat", "Split", "Resize", "Upsample", "Tile", "Expand", "LayerNormalization", "Dropout", "Cast",
    "Softmax", "LogSoftmax", "CumSum", "LpNormalization", "MeanVarianceNormalization",
})  # fmt: skip


class AxisRoles:
    """Finds the roles of all values of a graph (shapes must be known).

    Args:
        graph: the forward graph.
        static_batch: the batch size where it is fixed; a first axis of that size is then taken for the batch.
        symbols: what open sizes were in several runs, by which products of them are compared.
    """

    def __init__(self, graph: ir.Graph, static_batch: int | None = None, symbols: Symbols | None = None) -> None:
        self.symbols = symbols or Symbols([], {}, (2, 3))
        self.roles: dict[ir.Value, Roles] = {}
        for value in [*graph.inputs, *(y for n in graph for y in n.outputs)]:
            if value.shape is not None:
                sizes = list(value.shape)
                self.roles[value] = [None if isinstance(d, int) or not is_batch(d.value) else BATCH_ROLE for d in sizes]
                if static_batch is not None and sizes and sizes[0] == static_batch:
                    self.roles[value][0] = BATCH_ROLE
        for _ in range(8):
            before = sum(role is not None for roles in self.roles.values() for role in roles)
            for node in graph:
                self._visit(node)
            for node in reversed(graph):
                self._visit(node)
            if sum(role is not None for roles in self.roles.values() for role in roles) == before:
                break

    def of(self, value: ir.Value) -> Axes:
        """The roles of one value's axes."""
        roles = self.roles.get(value, [])
        spatial = sorted((r, i) for i, r in enumerate(roles) if r and r.startswith("spatial"))
        return Axes(
            roles.index(BATCH_ROLE) if roles.count(BATCH_ROLE) == 1 else None,
            roles.index(CHANNEL) if roles.count(CHANNEL) == 1 else None,
            tuple(i for _, i in spatial),
        )

    # ----- one node -----

    def _visit(self, node: ir.Node) -> None:
        x, y = (node.inputs[0] if node.inputs else None), node.outputs[0]
        if x is None or y not in self.roles:
            return
        handler = getattr(self, f"_{node.op_type.lower()}", None)
        if node.domain == "" and node.op_type in _SPATIAL:
            rank = len(self.roles[y])
            layout: Roles = [BATCH_ROLE, CHANNEL, *(f"spatial{i}" for i in range(rank - 2))]
            self._learn(y, layout)
            self._learn(x, layout)
        elif node.op_type in {"Squeeze", "Unsqueeze"} and len(node.inputs) > 1:
            self._unit_axes(node, x, y)
        elif node.op_type in {"Reshape", "Flatten", "Squeeze"}:
            self._reshape(x, y)
        elif handler is not None and node.domain == "":
            handler(node, x, y)
        elif node.op_type in _SAME or node.op_type.startswith("Reduce"):
            for result in node.outputs:
                self._match(x, result)
            for operand in node.inputs[1:] if node.op_type == "Concat" else ():
                self._match(operand, y)
        else:
            for operand in node.inputs:
                self._match(operand, y)

    def _learn(self, value: ir.Value | None, roles: Sequence[Role]) -> None:
        if value in self.roles and len(self.roles[value]) == len(roles):
            mine = self.roles[value]
            for i, role in enumerate(roles):
                if mine[i] is None and role is not None and role not in mine:
                    mine[i] = role

    def _match(self, x: ir.Value | None, y: ir.Value) -> None:
        """x and y are aligned from the right, as in broadcasting; an axis of size 1 that is stretched tells nothing."""
        if x not in self.roles or y not in self.roles or x.shape is None or y.shape is None:
            return
        rank = min(len(x.shape), len(y.shape))
        if rank == 0 or len(x.shape) > len(y.shape):
            return
        lead = len(y.shape) - rank
        pairs = [(i, lead + i) for i in range(rank)]
        keep = [(i, j) for i, j in pairs if x.shape[i] == y.shape[j] or x.shape[i] != 1]
        self._transfer(x, y, keep)

    def _transfer(self, x: ir.Value, y: ir.Value, pairs: Iterable[tuple[int, int]]) -> None:
        """Axis i of x is axis j of y, for each pair."""
        pairs = list(pairs)
        down: Roles = [None] * len(self.roles[y])
        up: Roles = [None] * len(self.roles[x])
        for i, j in pairs:
            down[j], up[i] = self.roles[x][i], self.roles[y][j]
        self._learn(y, down)
        self._learn(x, up)

    def _transpose(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        rank = len(self.roles[y])
        perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(rank)[::-1]
        self._transfer(x, y, [(axis, j) for j, axis in enumerate(perm)])

    def _gemm(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        self._learn(y, [BATCH_ROLE, CHANNEL])
        if "transA" not in node.attributes or not node.attributes["transA"].as_int():
            self._learn(x, [BATCH_ROLE, CHANNEL])

    def _matmul(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        weight = node.inputs[1]
        rank = len(self.roles[y])
        if x not in self.roles or len(self.roles[x]) != rank or weight is None:
            return
        self._transfer(x, y, [(i, i) for i in range(rank - 1)])
        if weight not in self.roles and weight.shape is not None and len(weight.shape) == 2:  # learned weights
            self._learn(y, [*[None] * (rank - 1), CHANNEL])
            self._learn(x, [*[None] * (rank - 1), CHANNEL])

    def _gather(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        indices = node.inputs[1]
        if x not in self.roles or indices is None or indices.shape is None:
            if x.is_initializer() and indices in self.roles:  # an embedding: (N, L) → (N, L, channels)
                self._learn(y, [*self.roles[indices], CHANNEL])
            return
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        axis %= len(self.roles[x])
        shift = len(indices.shape) - 1
        keep = [(i, i if i < axis else i + shift) for i in range(len(self.roles[x])) if i != axis or shift == 0]
        self._transfer(x, y, keep)

    def _reducemean(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        if x not in self.roles:
            return
        rank = len(self.roles[x])
        axes = self._reduced(node, rank)
        keepdims = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
        kept = [i for i in range(rank) if keepdims or i not in axes]
        if len(kept) == len(self.roles[y]):
            self._transfer(x, y, [(i, j) for j, i in enumerate(kept)])

    _reducesum = _reducemax = _reducemin = _reducel2 = _reduceprod = _reducemean

    def _reduced(self, node: ir.Node, rank: int) -> set[int]:
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            tensor = ir.convenience.get_const_tensor(node.inputs[1])
            return {int(a) % rank for a in tensor.numpy()} if tensor is not None else set()
        return {a % rank for a in node.attributes["axes"].as_ints()} if "axes" in node.attributes else set(range(rank))

    def _unit_axes(self, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
        """All axes but those that come or go."""
        wide = y if node.op_type == "Unsqueeze" else x
        units = constant_ints(node.inputs[1]) if node.inputs[1] is not None else None
        if x in self.roles and wide in self.roles and units is not None:
            rank = len(self.roles[wide])
            kept = [i for i in range(rank) if i not in {axis % rank for axis in units}]
            self._transfer(x, y, enumerate(kept) if wide is y else [(i, j) for j, i in enumerate(kept)])

    def _reshape(self, x: ir.Value, y: ir.Value) -> None:
        """Axes that pass a reshape whole keep their role, as does the only one of size 1; others lose it."""
        if x not in self.roles or y not in self.roles or x.shape is None or y.shape is None:
            return
        before, after = [self.symbols.in_each_run(d) for d in x.shape], [self.symbols.in_each_run(d) for d in y.shape]
        if () not in before + after:
            units = [[i for i, size in enumerate(sizes) if set(size) == {1}] for sizes in (before, after)]
            same = list(zip(*units, strict=True)) if len(units[0]) == len(units[1]) == 1 else []
            self._transfer(x, y, [*_whole_axes(before, after), *same])


def _whole_axes(before: Sequence[tuple[int, ...]], after: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Pairs of axes that a reshape leaves as they are: matched in groups of equal product, sizes of 1 left aside."""
    left = [(i, size) for i, size in enumerate(before) if set(size) != {1}]
    right = [(j, size) for j, size in enumerate(after) if set(size) != {1}]
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, second, a, b = i, j, left[i][1], right[j][1]
        while a != b:
            if a < b and i + 1 < len(left):
                i += 1
                a = _times(a, left[i][1])
            elif b < a and j + 1 < len(right):
                j += 1
                b = _times(b, right[j][1])
            else:
                return pairs
        if i == first and j == second:
            pairs.append((left[i][0], right[j][0]))
        i, j = i + 1, j + 1
    return pairs


def _times(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(m * n for m, n in zip(a, b, strict=True))
