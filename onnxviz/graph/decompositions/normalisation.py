"""Layer normalisations with what ONNX Runtime fuses into them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxviz.gradient.tape import Ops, dims
from onnxviz.graph.decompositions.registry import counted, covered, decomposition, size

_EPSILON = 1e-12
"""The default of the Skip and Embed fusions."""


@decomposition("LayerNormalization")
def layer_normalization(
    op: Ops,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> ir.Value:
    """The operator of opset 17, in a model of an older opset."""
    return op.LayerNormalization(x, scale, bias, axis=axis, epsilon=epsilon, stash_type=stash_type)


@decomposition("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    op: Ops, x: ir.Value, scale: ir.Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> ir.Value:
    """RMSNormalization of opset 23."""
    return _by_root_mean_square(op, x, scale, axis, epsilon, wide=stash_type == ir.DataType.FLOAT)


def _by_root_mean_square(
    op: Ops, x: ir.Value, scale: ir.Value, axis: int, epsilon: float, *, wide: bool = True
) -> ir.Value:
    """x / √(mean x² + epsilon) · scale; ``wide`` computes half precision in float32."""
    rank = len(dims(x))
    if wide and x.dtype == ir.DataType.FLOAT16:
        x = op.Cast(x, to=ir.DataType.FLOAT)
    square = op.ReduceMean(op.Mul(x, x), list(range(axis % rank, rank)), keepdims=1)
    return op.Mul(op.cast_like(op.Div(x, op.Sqrt(op.Add(square, epsilon))), scale), scale)


@decomposition("SkipLayerNormalization")
def skip_layer_normalization(
    op: Ops,
    x: ir.Value,
    skip: ir.Value,
    scale: ir.Value,
    shift: ir.Value | None = None,
    bias: ir.Value | None = None,
    *,
    epsilon: float = _EPSILON,
) -> Sequence[ir.Value | None]:
    """LayerNormalization(x + skip + bias), and that sum."""
    total = _sum(op, x, skip, bias)
    return op.LayerNormalization(total, scale, shift, epsilon=epsilon), None, None, total


@decomposition("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    op: Ops,
    x: ir.Value,
    skip: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None = None,
    *,
    epsilon: float = _EPSILON,
) -> Sequence[ir.Value | None]:
    """The same without a mean."""
    total = _sum(op, x, skip, bias)
    total.shape = total.shape or x.shape
    return _by_root_mean_square(op, total, scale, -1, epsilon), None, None, total


def _sum(op: Ops, x: ir.Value, skip: ir.Value, bias: ir.Value | None) -> ir.Value:
    return op.Add(x if bias is None else op.Add(x, bias), skip)


@decomposition("EmbedLayerNormalization")
def embed_layer_normalization(
    op: Ops,
    ids: ir.Value,
    segment_ids: ir.Value | None,
    words: ir.Value,
    positions: ir.Value,
    segments: ir.Value | None,
    scale: ir.Value,
    shift: ir.Value,
    mask: ir.Value | None = None,
    position_ids: ir.Value | None = None,
    *,
    epsilon: float = _EPSILON,
    mask_index_type: int = 1,
) -> Sequence[ir.Value | None]:
    """LayerNormalization of the sum of the embeddings; the number of tokens that the mask leaves; the sum."""
    covered({"mask_index_type": mask_index_type not in (0, 1)})
    if position_ids is None:
        position_ids = op.Unsqueeze(counted(op, size(op, ids, 1)), [0])
    total = op.Add(op.Gather(words, ids), op.Gather(positions, position_ids))
    if segment_ids is not None and segments is not None:
        total = op.Add(total, op.Gather(segments, segment_ids))
    kept = None if mask is None else op.ReduceSum(mask, [1], keepdims=0)
    return op.LayerNormalization(total, scale, shift, epsilon=epsilon), kept, total
