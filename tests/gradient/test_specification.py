"""Every operator with a rule on the node tests that come with onnx: the specification's numbers, and its slopes.

A test's first input, or all its float inputs where the operator has a gradient for each, stays an input; the rest is
stored as a network stores it. The graph is brought to its canonical form as conversion does it. Its gradient is held
against differences of onnx's reference implementation, which computes them in double precision, along a random
direction for each input, next to the test's own inputs: these like to stand on kinks.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxviz.engine.session import runtime_errors
from onnxviz.errors import UnsupportedOperatorError
from onnxviz.gradient.backward import FLOATS
from onnxviz.gradient.registry import NO_GRADIENT, VJPS
from onnxviz.graph.normalise import normalise
from onnxviz.graph.pads import explicit_pads
from tests.gradient.harness import Differentiated, load, measure, relative_error
from tests.gradient.test_rules import LEFT_OUT
from tests.specification import NodeTest, arrays, lowered, node_tests, operator, with_constants

RULED = {op_type for domain, op_type in VJPS if domain == ""}
WRITTEN_WITH_OTHERS = {
    *("AffineGrid", "Attention", "DeformConv", "Gelu", "RMSNormalization", "RotaryEmbedding", "SwiGLU", "Swish"),
    *("CausalConvWithState", "CumProd", "LinearAttention", "TensorScatter", "Upsample"),
}
"""Operators without a rule of their own, which become others that have one."""
WITH_WEIGHTS = WRITTEN_WITH_OTHERS | {
    *("BatchNormalization", "CastLike", "Clip", "Conv", "ConvTranspose", "DequantizeLinear", "Dropout", "GRU"),
    *("GroupNormalization", "InstanceNormalization", "LSTM", "LayerNormalization", "PRelu", "Pad", "QuantizeLinear"),
    *("RNN", "Resize", "RoiAlign", "STFT"),
}
"""Only the first input of these can depend on the model's input."""
WITHOUT = {
    "DequantizeLinear": "its tests start at integers: tests/graph/test_newer.py has them",
    "GlobalLpPool": "onnx has no node test of it",
    "Trilu": "its tests are of integers",
}
"""Operators with a rule that no test here is for, and why."""

REFUSED = {
    "test_averagepool_*dilations*": "opset 18 has no dilations here",
    "test_spacetodepth_crd_*": "opset 18 has no other order here",
    "test_quantizelinear_blocked_*": "opset 18 has no blocks here",
    "test_batchnorm_*_training_mode": "training mode",
    "test_training_dropout_*": "training mode",
    "test_training_dropout": "training mode",
    "test_dropout_default_mask*": "the mask means nothing in inference",
    "test_cumprod_*": "no operators of opset 18 make it",
}
"""Patterns of the names of tests that are refused in words, and why."""
NOT_RUN = {
    "test_celu_float16": "no kernel in half precision",
    "test_gru_batchwise": "no kernel with layout=1",
    "test_lstm_batchwise": "no kernel with layout=1",
    "test_simple_rnn_batchwise": "no kernel with layout=1",
    "test_identity_sequence": "a sequence, which is no tensor",
    "test_identity_opt": "an optional, which is no tensor",
    "test_mod_float*_fmod_0*": "no kernel of floats without fmod=1, which opset 18 asks for",
    "test_pow_types_float32_uint*": "no kernel with exponents that have no sign",
}
"""Patterns of the names of tests that onnxruntime does not run, and why."""
OTHERWISE = {
    "test_maxunpool_export_with_output_shape": "its indices count the elements of the given shape, as PyTorch's do",
    "test_resize_downsample_scales_linear_align_corners": "the size is not rounded before the corners are aligned",
    "test_resize_downsample_scales_cubic_align_corners": "the size is not rounded before the corners are aligned",
}
"""Patterns of the names of tests of which onnxruntime makes other numbers, and how they differ."""
NO_SLOPE = {
    "test_cast*_to_*": "the inputs hold infinities, and the reference rounds to 16 bits",
    "test_einsum_batch_diagonal": "refused: a label twice in one term",
    "test_linear_attention_*": "it becomes a Scan, which conversion refuses",
    "test_mvn": "the reference cannot mix double with the constants of its function",
    "test_quantizelinear*": "the derivative is that of the numbers before they are rounded (tests of cases/quantise)",
    "test_roialign_mode_max": "refused: which sample is largest is not given out",
    "test_scatter_elements_with_reduction_mul": "refused: a product of updates",
    "test_scatternd_multiply": "refused: a product of updates",
    "test_rnn_seq_length": "saturated: 1 − y² has no digits left in single precision",
    "test_simple_rnn_bidirectional": "saturated: 1 − y² has no digits left in single precision",
    "test_reduce_*_empty_set": "no element, no slope",
}
"""Patterns of the names of tests whose gradients are not compared here, and why."""
IN_SINGLE_PRECISION = (
    "test_affine_grid_*",
    "test_causal_conv_*",
    "test_erf",
    "test_gelu_*",
    "test_gridsample*",
    "test_group_norm*",
)
"""Tests of which the reference computes in single precision whatever it is given: steps are longer, bars lower."""
NO_SLOPES = {"Cast", "CastLike", "MeanVarianceNormalization", "QuantizeLinear"}
"""Operators with a rule, of none of whose tests the gradient is compared here."""
NOT_SPOKEN_OF = {"BitCast", "ImageDecoder", "RegexFullMatch", "Scatter", "StringConcat", "StringSplit"}
"""Operators not spoken of elsewhere: they take or give text, files or bits; or became ScatterElements in opset 11."""
PRINTED = ("test_averagepool_2d_ceil_last_window_starts_on_pad", "test_roialign_aligned_*")
"""Tests whose expected numbers were written down with four digits."""
UNCHECKED = (
    *("test_averagepool_2d_ceil_last_window_starts_on_pad", "test_maxpool_2d_ceil_output_size_reduce_by_one"),
    *("test_stft", "test_stft_with_window"),
)
"""Tests of which onnx's shape inference says other sizes than onnx's own expected outputs have."""
BARS = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-7}
FLOAT_TYPES = {np.dtype(name) for name in BARS}


def is_any(test: NodeTest, patterns) -> bool:
    return any(fnmatchcase(test.name, pattern) for pattern in patterns)


def variables(test: NodeTest) -> list[int]:
    """The numbers of the float inputs that stay inputs."""
    inputs, _ = arrays(test)
    floats = [i for i, x in enumerate(inputs) if x.dtype in FLOAT_TYPES]
    return [i for i in floats if i == 0] if operator(test) in WITH_WEIGHTS else floats


def gives_floats(test: NodeTest) -> bool:
    return any(y.dtype in FLOAT_TYPES for y in arrays(test)[1])


TESTS = [
    test
    for test in node_tests()
    if operator(test) in RULED | WRITTEN_WITH_OTHERS
    and variables(test)
    and all(y.dtype.isbuiltin == 1 for y in arrays(test)[1])  # numpy has no floats of 8 bits, nor bfloat16
]
RUN = [test for test in TESTS if not is_any(test, [*REFUSED, *NOT_RUN])]
COMPARED = [
    test
    for test in RUN
    if all(arrays(test)[0][i].dtype != np.float16 for i in variables(test))
    and gives_floats(test)
    and not is_any(test, [*OTHERWISE, *NO_SLOPE])
]


def canonical(test: NodeTest) -> tuple[ir.Model, dict[str, np.ndarray], onnx.ModelProto]:
    """The graph as conversion has it when it writes the gradient; its inputs; the test's own graph."""
    proto, feeds = with_constants(test, variables(test))
    model = lowered(proto, feeds)
    normalise(model)
    measure(model, lambda _: feeds)
    values = [*model.graph.inputs, *(y for node in model.graph for y in node.outputs)]
    explicit_pads(model, {value.name: [int(size) for size in value.shape] for value in values})
    return model, feeds, proto


@pytest.mark.parametrize("test", [test for test in RUN if not is_any(test, OTHERWISE)], ids=lambda test: test.name)
def test_numbers_of_the_specification(test):
    model, feeds, _ = canonical(test)
    _, outputs = arrays(test)
    for found, expected in zip(load(ir.to_proto(model)).run(None, feeds), outputs, strict=True):
        assert found.dtype == expected.dtype
        if expected.dtype not in FLOAT_TYPES:
            np.testing.assert_array_equal(found, expected)
            continue
        number = np.isfinite(expected)
        np.testing.assert_array_equal(found[~number], expected[~number])
        bar = 1e-3 if is_any(test, PRINTED) else BARS[expected.dtype.name]
        assert relative_error(found[number], expected[number]) < bar


@pytest.mark.parametrize("test", COMPARED, ids=lambda test: test.name)
def test_slopes_of_the_specification(test):
    model, feeds, proto = canonical(test)
    wanted = [y for y in model.graph.outputs if y.dtype in FLOATS][: 1 if operator(test) in WITH_WEIGHTS else None]
    model.graph.outputs.clear()
    model.graph.outputs.extend(wanted)
    gradients = Differentiated(model, lambda _: feeds, checked=not is_any(test, UNCHECKED))
    rng = np.random.default_rng(0)
    feeds = {name: beside(x, rng) for name, x in feeds.items()}
    _, seeds, found = gradients(feeds)
    eps, bar = (1e-3, 1e-2) if is_any(test, IN_SINGLE_PRECISION) else (1e-7, 1e-5)
    for name, x in feeds.items():
        direction = rng.standard_normal(x.shape)
        high, low = (weighted(proto, feeds, seeds, name, sign * eps * direction) for sign in (1, -1))
        gradient = found.get(name, np.zeros_like(x))
        assert abs((gradient * direction).sum() - (high - low) / (2 * eps)) <= bar * np.linalg.norm(gradient), name


def beside(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(x + 0.01 * rng.standard_normal(x.shape), x.dtype)


def weighted(proto, feeds, seeds, name: str, step: np.ndarray) -> float:
    """Σ seed · output after a step of one input, by the reference implementation in double precision."""
    moved = {key: x.astype(np.float64) for key, x in feeds.items()}
    moved[name] += step
    names = [y.name for y in proto.graph.output]
    outputs = dict(zip(names, ReferenceEvaluator(doubled(proto)).run(names, moved), strict=True))
    return sum((outputs[name].astype(np.float64) * seed).sum() for name, seed in seeds.items())


def doubled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with double in place of float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return copy


@pytest.mark.parametrize("test", [test for test in TESTS if is_any(test, REFUSED)], ids=lambda test: test.name)
def test_refused_by_operator(test):
    with pytest.raises(UnsupportedOperatorError, match=operator(test)):
        canonical(test)


@pytest.mark.parametrize("test", [test for test in TESTS if is_any(test, NOT_RUN)], ids=lambda test: test.name)
def test_onnxruntime_does_not_run_it(test):
    proto, feeds = with_constants(test, variables(test))
    model = ir.to_proto(lowered(proto, feeds))
    with pytest.raises(runtime_errors()):
        load(model).run(None, feeds)


def test_every_pattern_names_a_test():
    names = [test.name for test in TESTS]
    for pattern in (*REFUSED, *NOT_RUN, *OTHERWISE, *NO_SLOPE, *PRINTED, *UNCHECKED, *IN_SINGLE_PRECISION):
        assert any(fnmatchcase(name, pattern) for name in names), pattern


def test_every_rule_has_numbers_and_slopes_of_the_specification():
    """Or says why not."""
    assert {operator(test) for test in RUN} >= RULED - WITHOUT.keys()
    assert not WITHOUT.keys() & {operator(test) for test in TESTS}
    assert WITHOUT.keys() | NO_SLOPES <= RULED
    assert RULED - {operator(test) for test in COMPARED} == WITHOUT.keys() | NO_SLOPES
    known = RULED | WRITTEN_WITH_OTHERS | set().union(*LEFT_OUT.values()) | {each for _, each in NO_GRADIENT}
    assert {operator(test) for test in node_tests()} - known == NOT_SPOKEN_OF
