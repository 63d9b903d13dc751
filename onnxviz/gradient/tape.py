"""Write nodes as if they were calls: ``op.Mul(dy, 2.0)`` appends a Mul node and returns its output value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from onnxviz.errors import ConversionError, OpenSizeError

Dim = int | str | None
Operand = ir.Value | float | Sequence[int] | None

OPSET = 18
ARGUMENT = "onnxviz.argument"
"""Key in the ``meta`` of a function's input: the value that the function is called with."""
_BOOL_RESULT = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "IsNaN"})
_INDEX_RESULT = frozenset({("Shape", 0), ("Size", 0), ("ArgMax", 0), ("NonZero", 0), ("MaxPool", 1)})


def dims(value: ir.Value) -> tuple[Dim, ...]:
    """The value's shape: an int where the size is fixed, a symbol or None where it is not."""
    if value.shape is None:
        raise ConversionError(f"the shape of {value.name!r} is not known, and a gradient through it needs it")
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def static_dims(value: ir.Value, start: int = 0, stop: int | None = None) -> list[int]:
    """The sizes of the axes from ``start`` on (before ``stop``), all of which must be fixed.

    Raises:
        OpenSizeError: one is not.
    """
    sizes = dims(value)[start:stop]
    if not all(isinstance(size, int) for size in sizes):
        value = value.meta.get(ARGUMENT, value)
        node = value.producer()
        raise OpenSizeError(
            f"{value.name!r} (from {node.op_type if node else 'an input'}) has shape {list(dims(value))}; a gradient "
            f"needs fixed sizes there, from axis {start} on"
        )
    return [int(size) for size in sizes if isinstance(size, int)]


def fixed(value: ir.Value, start: int = 0) -> bool:
    """Whether all sizes of the axes from ``start`` on are."""
    return all(isinstance(size, int) for size in dims(value)[start:])


def constant_ints(value: ir.Value) -> list[int] | None:
    """The content of a constant integer tensor (axes, sizes, pads); None if it is computed when the model runs."""
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(i) for i in tensor.numpy().reshape(-1)]


class Ops:
    """Appends nodes to a graph; what rules and function bodies are written with.

    Any ONNX operator is a method: ``op.Conv(x, w, strides=[1, 1])``. Python numbers among the inputs become constants
    of the type of the first value among them, lists of ints become int64 constants. Operators with several outputs are
    written ``op.several("Split", 3, x)``. Operators of a domain of their own (training ops, pooling gradients) are
    found in ``library``, whose functions travel with the model.
    """

    def __init__(self, graph: ir.Graph, library: Library | None = None, prefix: str = "") -> None:
        self.graph = graph
        self.prefix = prefix
        self.library = library
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        self._count = 0

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def emit(*inputs: Operand, **attributes: Any) -> ir.Value:
            return self.emit(op_type, inputs, attributes)[0]

        return emit

    def several(self, op_type: str, outputs: int, *inputs: Operand, **attributes: Any) -> list[ir.Value]:
        """As the method of that name, with so many outputs."""
        return self.emit(op_type, inputs, attributes, outputs)

    def emit(
        self, op_type: str, inputs: Sequence[Operand], attributes: dict[str, Any], outputs: int = 1
    ) -> list[ir.Value]:
        """Append one node and return its outputs."""
        values = self._operands(op_type, inputs)
        domain, overload = "", ""
        if self.library is not None and op_type in self.library:
            domain, overload = self.library.require(op_type, values, attributes)
        node = ir.Node(
            domain,
            op_type,
            values,
            [ir.convenience.convert_attribute(k, v) for k, v in attributes.items() if v is not None],
            overload=overload,
            num_outputs=outputs,
            name=self._unique(op_type),
        )
        for i, value in enumerate(node.outputs):
            value.name = f"{node.name}:{i}" if outputs > 1 else node.name
            if (dtype := _result_type(op_type, i, values, attributes)) is not None:
                value.dtype = dtype
        self.graph.append(node)
        return list(node.outputs)

    def constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """An initializer with this content; equal contents share one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            value = ir.Value(name=self._unique("const"), const_value=ir.tensor(array))
            value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def number(self, value: float, like: ir.Value) -> ir.Value:
        """A scalar of the type of ``like``."""
        dtype = (like.dtype or ir.DataType.FLOAT).numpy()
        return self.constant(np.asarray(value, dtype))

    def cast_like(self, x: ir.Value, like: ir.Value) -> ir.Value:
        """x in the type of ``like``."""
        return x if x.dtype == like.dtype else self.Cast(x, to=like.dtype or ir.DataType.FLOAT)

    # ----- what many rules need -----

    def computed(self, y: ir.Value) -> ir.Value:
        """The output y of a node of the forward pass, which is asked for if it was left out (ONNX's empty name)."""
        y.name = y.name or self._unique("output")
        return y

    def shape_of(self, x: ir.Value) -> ir.Value:
        """The shape of x as an int64 tensor; a constant where all sizes are fixed."""
        if x.shape is not None and fixed(x):
            return self.constant(np.array(dims(x), np.int64))
        return self.Shape(x)

    def arranged(self, x: ir.Value, sizes: Sequence[int | ir.Value]) -> ir.Value:
        """x reshaped to sizes as :meth:`size` gives them; one that is computed is left to the rest."""
        computed = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
        if len(computed) == 1 and -1 not in sizes and 0 not in sizes:
            return self.Reshape(x, [size if isinstance(size, int) else -1 for size in sizes])
        return self.Reshape(x, self.joined(sizes))

    def joined(self, sizes: Sequence[int | ir.Value]) -> ir.Value:
        """Sizes as :meth:`size` gives them as one int64 tensor."""
        fixed_sizes = [size for size in sizes if isinstance(size, int)]
        if len(fixed_sizes) == len(sizes):
            return self.constant(np.array(fixed_sizes, np.int64))
        parts = [self.constant(np.array([size], np.int64)) if isinstance(size, int) else size for size in sizes]
        return self.Concat(*parts, axis=0)

    def size(self, x: ir.Value, axis: int) -> int | ir.Value:
        """The size of x along an axis: a number where it is fixed, else an int64 tensor of rank 1."""
        known = dims(x)[axis]
        return known if isinstance(known, int) else self.Shape(x, start=axis, end=axis + 1)

    def margins(self, x: ir.Value, rank: int, along: Mapping[int, tuple[int, int]]) -> ir.Value:
        """x with zeros before and after it along axes, or without what is there where a number is negative."""
        sides = [[along.get(axis, (0, 0))[side] for axis in range(rank)] for side in (0, 1)]
        return self.Pad(x, sides[0] + sides[1])  # of all axes: onnxruntime moves Transposes as if it were so

    def reshape_like(self, dy: ir.Value, x: ir.Value) -> ir.Value:
        """dy with the shape of x; with a constant target where at most one size of x is not fixed."""
        sizes = dims(x)
        if sum(not isinstance(size, int) for size in sizes) <= 1 and 0 not in sizes:
            return self.Reshape(dy, [size if isinstance(size, int) else -1 for size in sizes])
        return self.Reshape(dy, self.Shape(x), allowzero=1)

    def expand_like(self, dy: ir.Value, x: ir.Value) -> ir.Value:
        """dy broadcast to the shape of x."""
        return self.Expand(dy, self.shape_of(x))

    def zeros_like(self, x: ir.Value) -> ir.Value:
        """Zeros of the shape and type of x."""
        return self.Expand(self.number(0.0, x), self.shape_of(x))

    def expand_along(self, dy: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """dy, which has size 1 along ``axes`` and else the sizes of x, repeated along them to the shape of x."""
        sizes = dims(x)
        if all(isinstance(sizes[axis], int) for axis in axes):
            target = [size if isinstance(size, int) else 1 for size in sizes]  # Expand leaves alone what asks for 1
            return self.Expand(dy, target)
        return self.expand_like(dy, x)

    def count(self, x: ir.Value, axes: Sequence[int], like: ir.Value) -> ir.Value:
        """The number of elements of x along ``axes``, as a scalar of the type of ``like``."""
        sizes = [dims(x)[axis] for axis in axes]
        fixed = [size for size in sizes if isinstance(size, int)]
        if len(fixed) == len(sizes):
            return self.number(float(np.prod(fixed)), like)
        return self.cast_like(self.ReduceProd(self.Gather(self.Shape(x), list(axes)), keepdims=0), like)

    def scatter_back(self, dy: ir.Value, positions: ir.Value, x: ir.Value) -> ir.Value:
        """Send dy back to where its elements were taken from.

        Args:
            dy: cotangent of a result that consists of elements of x.
            positions: int64, like dy: for each element its position in x, counted row-major. It is what the operator
                itself makes of ``op.positions(x)``.
            x: what the elements were taken from; those taken several times collect the sum.
        """
        if dy.dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}:  # onnxruntime's CPU kernel does not add these
            return self.cast_like(self.scatter_back(self.Cast(dy, to=ir.DataType.FLOAT), positions, x), x)
        zeros = self.Expand(self.number(0.0, dy), self.Reshape(self.Size(x), [1]))
        flat = self.ScatterElements(
            zeros, self.Reshape(positions, [-1]), self.Reshape(dy, [-1]), axis=0, reduction="add"
        )
        return self.Reshape(flat, self.shape_of(x))

    def positions(self, x: ir.Value) -> ir.Value:
        """0, 1, 2, … in the shape of x, int64."""
        zero, one = self.constant(np.array(0, np.int64)), self.constant(np.array(1, np.int64))
        return self.Reshape(self.Range(zero, self.Size(x), one), self.shape_of(x))

    def unbroadcast(self, dy: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
        """Sum dy, which has the shape of y, over the axes along which x was broadcast to y."""
        return self.sum_to(dy, dims(y), x)

    def sum_to(self, dy: ir.Value, have: Sequence[Dim], x: ir.Value) -> ir.Value:
        """Sum dy, which has the sizes ``have``, over the axes along which x was broadcast to them.

        Whether an axis was stretched is asked when the model runs where sizes are not fixed and carry different
        symbols.
        """
        want = dims(x)
        lead = len(have) - len(want)
        if lead:
            dy = self.ReduceSum(dy, list(range(lead)), keepdims=0)
        pairs = list(zip(have[lead:], want, strict=True))
        if any(not isinstance(w, int) and (h is None or h != w) for h, w in pairs):
            axes = self.Squeeze(self.NonZero(self.Not(self.Equal(self.Shape(x), self.Shape(dy)))), [0])
            return self.ReduceSum(dy, axes, keepdims=1, noop_with_empty_axes=1)
        stretched = [i for i, (h, w) in enumerate(pairs) if w == 1 and h != 1]
        return self.ReduceSum(dy, stretched, keepdims=1) if stretched else dy

    def ratio(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """a/b, and 0 where b is 0."""
        zero = self.Equal(b, 0.0)
        return self.Where(zero, self.number(0.0, a), self.Div(a, self.Where(zero, self.number(1.0, b), b)))

    # ----- inner workings -----

    def _operands(self, op_type: str, inputs: Sequence[Operand]) -> list[ir.Value | None]:
        like = next((x for x in inputs if isinstance(x, ir.Value)), None)
        values: list[ir.Value | None] = []
        for x in inputs:
            if x is None or isinstance(x, ir.Value):
                values.append(x)
            elif isinstance(x, (list, tuple)):
                values.append(self.constant(np.array(x, np.int64)))
            elif like is None:
                raise ConversionError(f"{op_type} was written with numbers alone: {inputs!r}")
            else:
                values.append(self.number(float(x), like))  # type: ignore[arg-type]
        while values and values[-1] is None:
            values.pop()
        return values

    def _unique(self, stem: str) -> str:
        self._count += 1
        return f"{self.prefix}{stem}_{self._count}"


class Library(Protocol):
    """The functions that a model carries: which operators they define, and which of them are in use."""

    def __contains__(self, op_type: str) -> bool:
        """Whether the operator is one of the library's."""
        ...

    def require(self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]) -> tuple[str, str]:
        """Make sure that the function for this call travels with the model; returns its domain and overload."""
        ...


def _result_type(
    op_type: str, output: int, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]
) -> ir.DataType | None:
    """The element type of an operator's output, as far as the rules' own constants need to know it."""
    if (op_type, output) in _INDEX_RESULT:
        return ir.DataType.INT64
    if op_type in _BOOL_RESULT:
        return ir.DataType.BOOL
    if op_type == "Cast":
        return ir.DataType(attributes["to"])
    skip = {"Where": 1, "CastLike": 1}.get(op_type, 0)
    return next((x.dtype for x in inputs[skip:] if x is not None), None)
