"""Attention as ONNX Runtime fuses it (its operator set's document ContribOperators.md), and what goes with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops, dims
from onnxviz.graph.decompositions.registry import NotDecomposed, constant, counted, covered, decomposition, size

_HIDDEN = -10000.0
"""What is added to the score of a masked position, unless ``mask_filter_value`` says otherwise."""


@decomposition("Attention")
def attention(
    op: Ops,
    x: ir.Value,
    weights: ir.Value,
    bias: ir.Value | None = None,
    mask: ir.Value | None = None,
    past: ir.Value | None = None,
    added: ir.Value | None = None,
    *,
    num_heads: int,
    unidirectional: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    mask_filter_value: float = _HIDDEN,
    scale: float | None = None,
    do_rotary: int = 0,
    past_present_share_buffer: int = 0,
    rotary_embedding_dim: int = 0,
) -> Sequence[ir.Value | None]:
    """Self-attention of x (N, L, C) with the projections in it; ``past`` and the second output are (2, N, H, L, D)."""
    covered({"do_rotary": do_rotary, "past_present_share_buffer": past_present_share_buffer})
    covered({"rotary_embedding_dim": rotary_embedding_dim})
    sizes = list(qkv_hidden_sizes or [constant(weights, "weights").shape[1] // 3] * 3)
    projected = op.MatMul(x, weights)
    if bias is not None:
        projected = op.Add(projected, bias)
    query, key, value = (_heads(op, part, num_heads) for part in op.several("Split", 3, projected, sizes, axis=-1))
    if past is not None:
        before = [op.Gather(past, op.constant(np.array(i)), axis=0) for i in (0, 1)]
        key, value = (op.Concat(old, new, axis=2) for old, new in zip(before, (key, value), strict=True))
    y = _attended(
        op,
        *(query, key, value),
        scale=scale or 1 / math.sqrt(sizes[0] // num_heads),
        added=[_mask(op, mask, key, mask_filter_value), added, _causal(op, query, key) if unidirectional else None],
    )
    return y, op.Concat(op.Unsqueeze(key, [0]), op.Unsqueeze(value, [0]), axis=0)


@decomposition("MultiHeadAttention")
def multi_head_attention(
    op: Ops,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    bias: ir.Value | None = None,
    mask: ir.Value | None = None,
    added: ir.Value | None = None,
    past_key: ir.Value | None = None,
    past_value: ir.Value | None = None,
    *,
    num_heads: int,
    unidirectional: int = 0,
    mask_filter_value: float = _HIDDEN,
    scale: float | None = None,
) -> Sequence[ir.Value | None]:
    """Attention of projected inputs: (N, L, C) each, or keys and values (N, H, L, D)."""
    parts = [query, key, value]
    if bias is not None:
        if any(len(dims(part)) != 3 for part in parts):
            raise NotDecomposed("has a bias for keys or values of rank 4")
        biases = op.several("Split", 3, bias, axis=0, num_outputs=3)
        parts = [_of_rank(op.Add(part, each), 3) for part, each in zip(parts, biases, strict=True)]
    q, k, v = (part if len(dims(part)) == 4 else _heads(op, part, num_heads) for part in parts)
    if past_key is not None and past_value is not None:
        k, v = op.Concat(past_key, k, axis=2), op.Concat(past_value, v, axis=2)
    added_scores = [_mask(op, mask, k, mask_filter_value), added, _causal(op, q, k) if unidirectional else None]
    return _attended(op, q, k, v, scale=scale, added=added_scores), k, v


def _of_rank(x: ir.Value, rank: int) -> ir.Value:
    x.shape = ir.Shape([None] * rank)
    return x


def _heads(op: Ops, x: ir.Value, count: int) -> ir.Value:
    """(N, L, H·D) → (N, H, L, D)."""
    return op.Transpose(op.Reshape(x, [0, 0, count, -1]), perm=[0, 2, 1, 3])


def _attended(
    op: Ops,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    *,
    scale: float | None,
    added: Sequence[ir.Value | None],
) -> ir.Value:
    """softmax(q·kᵀ·scale + added)·v of (N, H, L, D), as (N, L, H·D). The default scale is 1/√D."""
    products = op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2]))
    root = None if scale else op.Sqrt(op.cast_like(size(op, query, 3), query))
    scores = op.Mul(products, scale) if root is None else op.Div(products, root)
    for each in added:
        scores = scores if each is None else op.Add(scores, each)
    y = op.MatMul(op.Softmax(scores, axis=-1), value)
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1])


def _mask(op: Ops, mask: ir.Value | None, key: ir.Value, hidden: float) -> ir.Value | None:
    """What a mask of integers adds to the scores (N, H, L, T): of shape (N, T) or (N, L, T), 0 where hidden; or (N,),
    the number of positions that are not.
    """
    if mask is None:
        return None
    rank = len(dims(mask))
    if rank == 1:
        positions = op.Cast(counted(op, size(op, key, 2)), to=ir.DataType.INT32)
        kept = op.Less(positions, op.Unsqueeze(mask, [1]))
    elif rank in (2, 3):
        kept = op.Cast(mask, to=ir.DataType.BOOL)
    else:
        raise NotDecomposed(f"has a mask of rank {rank}, of which no decomposition is known")
    return op.Where(op.Unsqueeze(kept, [1] if rank == 3 else [1, 2]), op.number(0.0, key), op.number(hidden, key))


def _causal(op: Ops, query: ir.Value, key: ir.Value) -> ir.Value:
    """The smallest number where a position would look ahead: the queries are the last of the keys' positions."""
    lowest = float(np.finfo((key.dtype or ir.DataType.FLOAT).numpy()).min)
    length, total = size(op, query, 2), size(op, key, 2)
    everywhere = op.Expand(op.number(lowest, key), op.Concat(length, total, axis=0))
    ahead = op.Add(op.Squeeze(op.Sub(total, length)), op.constant(np.array(1, np.int64)))
    return op.Trilu(everywhere, ahead, upper=1)


@decomposition("RotaryEmbedding")
def rotary_embedding(
    op: Ops,
    x: ir.Value,
    positions: ir.Value,
    cosines: ir.Value,
    sines: ir.Value,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    is_packed_batching: int = 0,
    scale: float = 1.0,
) -> ir.Value:
    """Pairs of channels of x, (N, L, H·D) or (N, H, L, D), turned by the angles of their positions."""
    covered({"is_packed_batching": is_packed_batching, "scale": scale - 1})
    half = constant(cosines, "cosines").shape[1]
    flat = len(dims(x)) == 3
    if flat:
        heads = [num_heads, -1] if rotary_embedding_dim else [-1, 2 * half]
        whole = op.Transpose(op.Reshape(x, [0, 0, *heads]), perm=[0, 2, 1, 3])
    else:
        whole = x
    turned, rest = whole, None
    if rotary_embedding_dim:
        turned = op.Slice(whole, [0], [2 * half], [3])
        rest = op.Slice(whole, [2 * half], [np.iinfo(np.int64).max], [3])
    if len(dims(positions)) == 1:  # where the first position stands
        positions = op.Unsqueeze(op.Add(positions, counted(op, size(op, whole, 2))), [0])
    cos, sin = (op.Unsqueeze(op.Gather(table, positions), [1]) for table in (cosines, sines))
    y = _turned(op, turned, cos, sin, half, interleaved=bool(interleaved))
    y = y if rest is None else op.Concat(y, rest, axis=3)
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1]) if flat else y


def _turned(op: Ops, x: ir.Value, cos: ir.Value, sin: ir.Value, half: int, *, interleaved: bool) -> ir.Value:
    if interleaved:
        pairs = op.Reshape(x, [0, 0, 0, half, 2])
        first, second = (op.Gather(pairs, op.constant(np.array(i)), axis=4) for i in (0, 1))
    else:
        first, second = op.several("Split", 2, x, [half, half], axis=3)
    turned = [
        op.Sub(op.Mul(first, cos), op.Mul(second, sin)),
        op.Add(op.Mul(first, sin), op.Mul(second, cos)),
    ]
    if not interleaved:
        return op.Concat(*turned, axis=3)
    return op.Reshape(op.Concat(*(op.Unsqueeze(each, [4]) for each in turned), axis=4), [0, 0, 0, 2 * half])
