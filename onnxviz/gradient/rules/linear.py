"""Convolutions and matrix products. Convolutions' weights are constants: they get no gradient."""

from __future__ import annotations

import string

import onnx_ir as ir

from onnxviz.gradient.registry import Gradients, unsupported, vjp
from onnxviz.gradient.tape import Ops, dims, static_dims


def explicit_pads(y: ir.Value, pads: list[int] | None, auto_pad: str, n: int) -> list[int]:
    """The pads of a window operator over ``n`` axes; automatic ones have been made explicit before."""
    if auto_pad != "NOTSET":
        raise unsupported(y, f"needs explicit pads, not auto_pad={auto_pad!r}: normalise the graph first")
    return pads or [0] * 2 * n


@vjp("Conv")
def conv(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None = None,
    *,
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Gradients:
    """y = w ⋆ x + b: dx is dy through the transposed convolution with the same w."""
    kernel = kernel_shape or static_dims(w, 2)
    n = len(kernel)
    return op.ConvGrad(
        dy,
        x,
        w,
        strides=strides or [1] * n,
        pads=explicit_pads(y, pads, auto_pad, n),
        dilations=dilations or [1] * n,
        group=group,
        kernel_shape=kernel,
    )


@vjp("ConvTranspose")
def conv_transpose(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None = None,
    *,
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
) -> Gradients:
    """y is x through the transpose of a convolution, so dx is dy through that convolution."""
    kernel = kernel_shape or static_dims(w, 2)
    n = len(kernel)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    pads = explicit_pads(y, pads, auto_pad, n)
    if output_shape is not None:  # it takes the place of pads, of which the larger half lies before the image
        full = [
            (size - 1) * s + d * (k - 1) + 1 + extra
            for size, s, d, k, extra in zip(
                static_dims(x, 2), strides, dilations, kernel, output_padding or [0] * n, strict=True
            )
        ]
        surplus = [have - want for have, want in zip(full, output_shape[-n:], strict=True)]
        pads = [s - s // 2 for s in surplus] + [s // 2 for s in surplus]
    return op.Conv(dy, w, strides=strides, pads=pads, dilations=dilations, group=group)


@vjp("Gemm")
def gemm(
    op: Ops,
    dy: ir.Value,
    y: ir.Value,
    a: ir.Value,
    b: ir.Value,
    c: ir.Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Gradients:
    """y = α·A·B + β·C with A = aᵀ or a, B = bᵀ or b: dA = α·dy·Bᵀ, dB = α·Aᵀ·dy, dC = β·dy. No b is transposed."""
    da = (
        op.Gemm(b, dy, alpha=alpha, transA=transB, transB=1)
        if transA
        else op.Gemm(dy, b, alpha=alpha, transB=1 - transB)
    )
    db = (
        op.Gemm(dy, a, alpha=alpha, transA=1, transB=transA)
        if transB
        else op.Gemm(a, dy, alpha=alpha, transA=1 - transA)
    )
    dc = None if c is None else op.unbroadcast(dy if beta == 1.0 else op.Mul(dy, beta), c, y)
    return da, db, dc


@vjp("MatMul")
def matmul(op: Ops, dy: ir.Value, y: ir.Value, a: ir.Value, b: ir.Value) -> Gradients:
    """y = a·b: da = dy·bᵀ, db = aᵀ·dy, summed over batch axes that were broadcast.

    Where b is one matrix the rows of all batch axes are one Gemm, which reads b transposed instead of copying it.
    """
    rank_a, rank_b = len(dims(a)), len(dims(b))
    if rank_a >= 2 and rank_b == 2:
        rows, columns = static_dims(b)
        flat_dy, flat_a = (dy, a) if rank_a == 2 else (op.Reshape(dy, [-1, columns]), op.Reshape(a, [-1, rows]))
        da = op.Gemm(flat_dy, b, transB=1)
        return da if rank_a == 2 else op.reshape_like(da, a), op.Gemm(flat_a, flat_dy, transA=1)
    row = op.Unsqueeze(a, [0]) if rank_a == 1 else a
    column = op.Unsqueeze(b, [1]) if rank_b == 1 else b
    inner = [-1] * (rank_b == 1) + [-2] * (rank_a == 1)
    full_dy = op.Unsqueeze(dy, inner) if inner else dy
    batch = list(dims(y))[: len(dims(y)) - 2 + len(inner)]
    da = op.MatMul(full_dy, _transposed(op, column, max(rank_b, 2)))
    db = op.MatMul(_transposed(op, row, max(rank_a, 2)), full_dy)
    da = op.sum_to(op.Squeeze(da, [-2]) if rank_a == 1 else da, [*batch, *dims(a)[-2:]], a)
    db = op.sum_to(op.Squeeze(db, [-1]) if rank_b == 1 else db, [*batch, *dims(b)[-2:]], b)
    return da, db


def _transposed(op: Ops, matrix: ir.Value, rank: int) -> ir.Value:
    """The last two axes swapped."""
    return op.Transpose(matrix, perm=[*range(rank - 2), rank - 1, rank - 2])


@vjp("Einsum")
def einsum(op: Ops, dy: ir.Value, y: ir.Value, *xs: ir.Value, equation: str) -> Gradients:
    """Each input's gradient is the product of dy and the other inputs, summed to that input's labels."""
    labels, result = _labels(equation, [len(dims(x)) for x in xs])
    if any(len(set(term)) < len(term) for term in [*labels, result]):
        raise unsupported(y, f"does not support repeated labels in one term (equation {equation!r})")
    gradients = []
    for i, x in enumerate(xs):
        others = [j for j in range(len(xs)) if j != i]
        terms = [result, *(labels[j] for j in others)]
        operands = [dy, *(xs[j] for j in others)]
        if alone := [axis for axis, label in enumerate(labels[i]) if not any(label in term for term in terms)]:
            # A label that only this input has was summed over: ones spread the gradient along it again.
            terms.append("".join(labels[i][axis] for axis in alone))
            operands.append(op.Expand(op.number(1.0, x), op.Gather(op.shape_of(x), alone)))
        gradients.append(op.Einsum(*operands, equation=f"{','.join(terms)}->{labels[i]}"))
    return gradients


def _labels(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The labels of each term and of the result; the axes that an ellipsis stands for get labels of their own."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        result = "..." * ("..." in left) + "".join(sorted(each for each in set(letters) if letters.count(each) == 1))
    unused = "".join(letter for letter in string.ascii_letters if letter not in equation)
    hidden = [rank - len(term.replace("...", "")) for rank, term in zip(ranks, terms, strict=True)]
    terms = [term.replace("...", unused[-n:] if n else "") for term, n in zip(terms, hidden, strict=True)]
    return terms, result.replace("...", unused[-max(hidden) :] if max(hidden) else "")
