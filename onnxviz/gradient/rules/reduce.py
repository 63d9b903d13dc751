"""Reductions. Rules see dy and y with the reduced axes kept as size 1; axes come as an input (opset 18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, constant_ints, dims

Reduction = Callable[[Ops, ir.Value, ir.Value, ir.Value, Sequence[int]], ir.Value]


def reduction(*op_types: str) -> Callable[[Reduction], Reduction]:
    """Register ``rule(op, dy, y, x, axes)``."""

    def register(rule: Reduction) -> Reduction:
        @vjp(*op_types)
        def reduce(
            op: Ops,
            dy: ir.Value,
            y: ir.Value,
            x: ir.Value,
            axes: ir.Value | None = None,
            *,
            keepdims: int = 1,
            noop_with_empty_axes: int = 0,
        ) -> Gradients:
            reduced = _reduced_axes(y, x, axes)
            if not reduced and noop_with_empty_axes:
                return dy
            reduced = reduced or list(range(len(dims(x))))
            if not keepdims:
                dy, y = op.Unsqueeze(dy, reduced), op.Unsqueeze(y, reduced)
            return rule(op, dy, y, x, reduced)

        return rule

    return register


def _reduced_axes(y: ir.Value, x: ir.Value, axes: ir.Value | None) -> list[int]:
    if axes is None:
        return []
    given = constant_ints(axes)
    if given is None:
        raise unsupported(y, f"needs constant axes, but {axes.name!r} is computed when the model runs")
    return sorted(axis % len(dims(x)) for axis in given)


@reduction("ReduceSum")
def reduce_sum(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """dx = dy at each summand."""
    return op.expand_along(dy, x, axes)


@reduction("ReduceMean")
def reduce_mean(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """dx = dy/n at each of the n elements."""
    return op.expand_along(op.Div(dy, op.count(x, axes, dy)), x, axes)


@reduction("ReduceMax", "ReduceMin")
def reduce_extremum(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """dy goes to the element that is y; several that are share it equally, as in PyTorch's amax and TensorFlow."""
    taken = op.cast_like(op.Equal(x, y), y)
    return op.Mul(taken, op.Div(dy, op.ReduceSum(taken, list(axes), keepdims=1)))


@reduction("ReduceL1")
def reduce_l1(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """y = Σ |x|: dx = sign(x)·dy."""
    return op.Mul(op.Sign(x), dy)


@reduction("ReduceL2")
def reduce_l2(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """y = √Σ x²: dx = x/y·dy, 0 where y is 0."""
    return op.Mul(x, op.ratio(dy, y))


@reduction("ReduceSumSquare")
def reduce_sum_square(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """y = Σ x²: dx = 2x·dy."""
    return op.Mul(op.Mul(x, 2.0), dy)


@reduction("ReduceProd")
def reduce_prod(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """dx = dy·(the product of the others): y/x where no element is 0; beside one 0 only that one has a gradient."""
    is_zero, zero = op.Equal(x, 0.0), op.number(0.0, x)
    factors = op.Where(is_zero, op.number(1.0, x), x)
    zeros = op.ReduceSum(op.cast_like(is_zero, x), list(axes), keepdims=1)
    whole = op.Mul(dy, op.ReduceProd(factors, list(axes), keepdims=1))
    at_zero = op.Where(op.Equal(zeros, 1.0), whole, zero)
    return op.Where(is_zero, at_zero, op.Where(op.Equal(zeros, 0.0), op.Div(whole, factors), zero))


@reduction("ReduceLogSum")
def reduce_log_sum(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """y = log Σ x: dx = dy/Σ x."""
    return op.expand_along(op.Div(dy, op.ReduceSum(x, list(axes), keepdims=1)), x, axes)


@reduction("ReduceLogSumExp")
def reduce_log_sum_exp(op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    """y = log Σ exp(x): dx = exp(x − y)·dy."""
    return op.Mul(op.Exp(op.Sub(x, y)), dy)


@vjp("CumSum")
def cum_sum(
    op: Ops, dy: ir.Value, y: ir.Value, x: ir.Value, axis: ir.Value, *, exclusive: int = 0, reverse: int = 0
) -> Gradients:
    """Each element is in the sums from it on: dy is summed up from the other end."""
    return op.CumSum(dy, axis, exclusive=exclusive, reverse=1 - reverse)
