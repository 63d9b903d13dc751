"""ONNX Runtime's fusions are taken apart: each gives what it gave, and has a gradient."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxviz as ov
from onnxviz.errors import UnsupportedOperatorError
from onnxviz.graph.decompositions import DECOMPOSITIONS
from onnxviz.graph.decompositions.registry import MICROSOFT, NEWER
from onnxviz.graph.plain import source
from tests.graph.texts import of_x
from tests.support import assert_close

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((4, 6, 3, 3)).astype(np.float32),
    "b4": RNG.standard_normal(4).astype(np.float32),
    "b8": RNG.standard_normal(8).astype(np.float32),
    "g8": RNG.uniform(0.5, 1.5, 8).astype(np.float32),
    "m": RNG.standard_normal((8, 5)).astype(np.float32),
    "mt": RNG.standard_normal((5, 8)).astype(np.float32),
    "k": RNG.standard_normal((6, 6)).astype(np.float32),
    "b5": RNG.standard_normal(5).astype(np.float32),
    "qkv": RNG.standard_normal((8, 24)).astype(np.float32),
    "b24": RNG.standard_normal(24).astype(np.float32),
    "narrow": RNG.standard_normal((8, 8 + 8 + 4)).astype(np.float32),
    "b20": RNG.standard_normal(20).astype(np.float32),
    "past": RNG.standard_normal((2, 2, 2, 3, 4)).astype(np.float32),
    "cache": RNG.standard_normal((2, 2, 3, 4)).astype(np.float32),
    "tail": np.array([[1] * 6, [1, 1, 1, 1, 0, 0]], np.int32),
    "square": np.tril(np.ones((2, 6, 6), np.int32)),
    "lengths": np.array([6, 4], np.int32),
    "scores": RNG.standard_normal((1, 2, 6, 6)).astype(np.float32),
    "start": np.array([0], np.int64),
    "places": np.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], np.int64),
    "cos": np.cos(RNG.uniform(0, 6, (9, 2))).astype(np.float32),
    "sin": np.sin(RNG.uniform(0, 6, (9, 2))).astype(np.float32),
    "bits": RNG.integers(0, 256, (6, 1, 8), dtype=np.uint8),
    "offsets": RNG.integers(0, 16, 6, dtype=np.uint8),
    "steps": RNG.uniform(0.1, 0.2, 6).astype(np.float32),
    "table": RNG.standard_normal((7, 8)).astype(np.float32),
    "kinds": RNG.standard_normal((2, 8)).astype(np.float32),
    "words": RNG.integers(0, 7, (2, 6)).astype(np.int32),
    "kind": RNG.integers(0, 2, (2, 6)).astype(np.int32),
    "one": np.array(1, np.int32),
    "zero": np.array(0, np.int64),
    "pads": np.array([0, 1, 0, 0, 0, 2], np.int64),
    "two": np.array(2, np.float32),
    "grid": RNG.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32),
    "group": np.zeros(8, np.int32),
    "s": np.array(0.05, np.float32),
    "z": np.array(3, np.uint8),
}
IMAGE, TOKENS, ROWS = (2, 6, 5, 5), (2, 6, 8), (3, 8)
HEADS = "num_heads=2"
ATTENTION, EMBEDDED = f".Attention<{HEADS}>", ".EmbedLayerNormalization<epsilon=0.01>"


def model(body: str, shape: tuple[int, ...], opset: int = 17) -> onnx.ModelProto:
    """A graph of the nodes; ONNX Runtime's operators are written with a dot in front."""
    nodes = body.replace("= .", "= com.microsoft.")
    return of_x(nodes, shape, WEIGHTS, opset=opset, imports=', "com.microsoft": 1')


# what is asked of each → (shape of x, nodes)
CASES: dict[str, tuple[tuple[int, ...], str]] = {
    "conv": (IMAGE, "y = .FusedConv<pads=[1, 1, 1, 1], strides=[2, 1]>(x, w)"),
    "conv, relu": (IMAGE, 'y = .FusedConv<activation="Relu">(x, w, b4)'),
    "conv, leaky relu": (IMAGE, 'y = .FusedConv<activation="LeakyRelu", activation_params=[0.2]>(x, w, b4)'),
    "conv, clip": (IMAGE, 'y = .FusedConv<activation="Clip", activation_params=[-1.0, 2.0]>(x, w, b4)'),
    "conv, hard sigmoid": (
        IMAGE, 'y = .FusedConv<activation="HardSigmoid", activation_params=[0.1, 0.4]>(x, w, b4)',
    ),
    "conv, tanh": (IMAGE, 'y = .FusedConv<activation="Tanh", auto_pad="SAME_UPPER">(x, w, b4)'),
    "conv, sum, relu": (
        IMAGE, 'a = Conv(x, w) t = Tanh(a) y = .FusedConv<activation="Relu">(x, w, b4, t)',
    ),
    "gemm, relu": (ROWS, 'y = .FusedGemm<activation="Relu", transB=1, alpha=0.5>(x, mt, b5)'),
    "gemm, leaky relu": (
        ROWS, 'y = .FusedGemm<activation="LeakyRelu", activation_alpha=0.3>(x, m, b5)',
    ),
    "gemm, elu": (ROWS, 'y = .FusedGemm<activation="Elu", activation_alpha=0.7>(x, m, b5)'),
    "product": (TOKENS, "y = .FusedMatMul<alpha=0.3>(x, m)"),
    "product, transposed": (TOKENS, "y = .FusedMatMul<transA=1, transB=1>(x, k)"),
    "product, batch last": (TOKENS, "y = .FusedMatMul<transBatchA=1, transBatchB=1, transB=1>(x, x)"),
    "product, all turned": (TOKENS, "y = .FusedMatMul<transA=1, transBatchA=1, transBatchB=1>(x, x)"),
    "transposed product": (TOKENS, "y = .TransposeMatMul<transB=1, alpha=2.0>(x, x)"),
    "gelu": (TOKENS, "y = .Gelu(x)"),
    "gelu with bias": (TOKENS, "y = .BiasGelu(x, b8)"),
    "fast gelu": (TOKENS, "y = .FastGelu(x)"),
    "fast gelu with bias": (TOKENS, "y = .FastGelu(x, b8)"),
    "quick gelu": (TOKENS, "y = .QuickGelu(x)"),
    "quick gelu, steep": (TOKENS, "y = .QuickGelu<alpha=3.0>(x)"),
    "silu": (TOKENS, "y = .QuickGelu<alpha=1.0>(x)"),
    "layer norm": (TOKENS, "y = .SkipLayerNormalization<epsilon=0.01>(x, x, g8)"),
    "layer norm of a sum": (TOKENS, "t = Tanh(x) y = .SkipLayerNormalization(x, t, g8, b8, b8)"),
    "layer norm and the sum": (
        TOKENS, "t = Tanh(x) a, , , c = .SkipLayerNormalization(x, t, g8, b8) y = Add(a, c)",
    ),
    "root mean square": (TOKENS, "y = SimplifiedLayerNormalization<epsilon=0.01>(x, g8)"),
    "root mean square of a sum": (
        TOKENS, "t = Tanh(x) a, , , c = .SkipSimplifiedLayerNormalization(x, t, g8, b8) y = Add(a, c)",
    ),
    "embeddings": (
        TOKENS, f"e, , c = {EMBEDDED}(words, kind, table, table, kinds, g8, b8) p = Mul(e, x) y = Add(p, c)",
    ),
    "embeddings, masked": (
        TOKENS,
        f"e, n = {EMBEDDED}(words, , table, table, , g8, b8, tail) t = Mul(e, x) y = {ATTENTION}(t, qkv, b24, n)",
    ),
    "attention": (TOKENS, f"y = {ATTENTION}(x, qkv, b24)"),
    "attention, scaled": (TOKENS, f"y = .Attention<{HEADS}, scale=0.2>(x, qkv, b24)"),
    "attention, masked": (TOKENS, f"y = {ATTENTION}(x, qkv, b24, tail)"),
    "attention, mask per query": (TOKENS, f"y = .Attention<{HEADS}, mask_filter_value=-99.0>(x, qkv, b24, square)"),
    "attention, lengths": (TOKENS, f"y = {ATTENTION}(x, qkv, b24, lengths)"),
    "attention, causal": (TOKENS, f"y = .Attention<{HEADS}, unidirectional=1>(x, qkv, b24)"),
    "attention, biased scores": (TOKENS, f"y = {ATTENTION}(x, qkv, b24, , , scores)"),
    "attention, narrow values": (TOKENS, f"y = .Attention<{HEADS}, qkv_hidden_sizes=[8, 8, 4]>(x, narrow, b20)"),
    "attention, past": (
        TOKENS, f"a, c = .Attention<{HEADS}, unidirectional=1>(x, qkv, b24, , past) t = ReduceMean(c) y = Add(a, t)",
    ),
    "heads": (TOKENS, f"t = Tanh(x) y = .MultiHeadAttention<{HEADS}>(x, t, x, b24)"),
    "heads, masked": (TOKENS, f"y = .MultiHeadAttention<{HEADS}, scale=0.3>(x, x, x, , tail, scores)"),
    "heads, causal": (TOKENS, f"y = .MultiHeadAttention<{HEADS}, unidirectional=1>(x, x, x)"),
    "heads, cached": (
        TOKENS, f"a, c, d = .MultiHeadAttention<{HEADS}>(x, x, x, , , , cache, cache) t = ReduceMean(d) y = Add(a, t)",
    ),
    "rotary": (TOKENS, "y = .RotaryEmbedding(x, start, cos, sin)"),
    "rotary, interleaved": (TOKENS, "y = .RotaryEmbedding<interleaved=1>(x, places, cos, sin)"),
    "rotary, part": (
        (2, 6, 16), f"y = .RotaryEmbedding<rotary_embedding_dim=4, {HEADS}>(x, places, cos, sin)",
    ),
    "rotary by heads": ((2, 3, 6, 4), "y = .RotaryEmbedding(x, places, cos, sin)"),
    "4 bits": (TOKENS, "y = .MatMulNBits<K=8, N=6, bits=4, block_size=16>(x, bits, steps)"),
    "4 bits, zero points": (TOKENS, "y = .MatMulNBits<K=8, N=6, bits=4, block_size=16>(x, bits, steps, offsets)"),
    "trilu": (TOKENS, "y = .Trilu<upper=0>(x, zero)"),
    "expanded": (TOKENS, "e = .ExpandDims(x, one) y = Tanh(e)"),
    "padded": (TOKENS, "y = .Pad(x, pads, two)"),
    "sampled": (IMAGE, 'y = .GridSample<padding_mode="border", align_corners=1>(x, grid)'),
    "quantised": (TOKENS, "q = .QuantizeLinear(x, s, z) y = .DequantizeLinear(q, s, z)"),
}  # fmt: skip


def random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def run(model, feeds, *names):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(list(names) or None, feeds)


@pytest.mark.parametrize("name", CASES)
def test_a_fusion_is_what_it_was_and_has_its_gradient(name, tmp_path):
    """The gradient is held against finite differences by the conversion itself."""
    shape, body = CASES[name]
    proto, x = model(body, shape), random(shape)
    (expected,) = run(proto.SerializeToString(), {"x": x})
    path = ov.convert(proto, tmp_path / "taken apart.onnx", example=x, quiet=True)
    written = onnx.load(path)
    assert not {(node.domain, node.op_type) for node in written.graph.node} & DECOMPOSITIONS.keys()
    onnx.checker.check_model(written, full_check=True)
    got, gradient = run(path, {"x": x, "seed/y": np.ones_like(expected)}, "y", "grad/x")
    assert_close(got, expected)
    assert np.isfinite(gradient).all()
    assert gradient.any()


def test_every_decomposition_has_a_case():
    asked = {
        (node.domain, node.op_type)
        for shape, body in CASES.values()
        for node in model(body, shape).graph.node
        if node.domain or node.op_type == "SimplifiedLayerNormalization"
    }
    asked = {(MICROSOFT, op_type) for _, op_type in asked}
    assert asked | {(MICROSOFT, "LayerNormalization")} == {key for key in DECOMPOSITIONS if key[0] == MICROSOFT}
    assert {op_type for domain, op_type in DECOMPOSITIONS if domain == NEWER} == {
        *("AffineGrid", "DFT", "DeformConv", "Pad", "TensorScatter", "QuantizeLinear", "DequantizeLinear")
    }


def test_attributes_without_a_decomposition_are_refused():
    with pytest.raises(UnsupportedOperatorError, match=r"MatMulNBits .* uses g_idx"):
        source(model("y = .MatMulNBits<K=8, N=6, bits=4, block_size=16>(x, bits, steps, , group)", TOKENS))
