import re

import numpy as np
import onnx
import pytest

from onnxviz.engine.session import runtime_errors
from onnxviz.gradient.registry import NO_GRADIENT, VJPS
from tests.gradient.cases import CASES
from tests.gradient.harness import TYPES, Case, Differentiated, by_differences, by_torch, measure, relative_error

LEFT_OUT = {
    "control flow, which is to be folded away before": {"If", "Loop", "Scan"},
    "sequences and optionals, which are to be folded away before": {
        *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        *("SequenceMap", "SplitToSequence", "Optional", "OptionalGetElement"),
    },
    "integer arithmetic, where only quantise-dequantise pairs say what float it stands for": {
        *("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    },
    "losses, which are in no inference graph": {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"},
    "no inverse matrix in ONNX": {"Det"},
    "no exporter writes it, and which pixel won is not given out": {"MaxRoiPool"},
    "its elements change places as the input does, and no network has it": {"Unique"},
}
"""Operators of opset 18 that can carry a gradient and have no rule: conversion names them."""
HALF = float(np.finfo(np.float16).eps)
NO_KERNEL = {
    "float16": (
        *("Celu", "MeanVarianceNormalization", "QuantizeLinear", 'ScatterElements<axis=1, reduction="add"'),
        "ScatterND<reduction",
    ),
    "double": (
        *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Celu", "Col2Im", "Conv", "ConvTranspose"),
        *("Cosh", "Erf", "GRU", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GridSample"),
        *("InstanceNormalization", "LRN", "LSTM", "LpPool", "MaxUnpool", "Mean", "MeanVarianceNormalization"),
        *("QuantizeLinear", "RNN", "Resize", "Sinh", "Tan"),
    ),
}
"""Element type → how the calls begin for which onnxruntime's CPU provider has no kernel of that type."""
TOLD_IN_SINGLE_PRECISION = (
    *("BatchNormalization", "Elu", "GroupNormalization", "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu"),
    *("Selu", "Shrink"),
)
"""Attributes are float32: those of these cases have other digits than the same numbers in PyTorch."""
TURNED_IN_SINGLE_PRECISION = ("DFT", "STFT")
"""The angles that onnxruntime turns by, unless it is by a power of two, have the digits of float32."""


def has_kernels(case: Case, dtype: str) -> bool:
    return not any(called(case, operator) for operator in NO_KERNEL[dtype])


def called(case: Case, operator: str) -> bool:
    """Whether the case calls an operator, with the attributes that are written behind its name."""
    return re.search(rf"= {re.escape(operator)}(?![A-Za-z])", case.code) is not None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case: Case):
    gradients = Differentiated(case.model(), case.feeds)
    for batch in (1, 3):
        feeds = case.feeds(batch, seed=batch)
        outputs, seeds, found = gradients(feeds)
        if case.torch is not None:
            y, expected = by_torch(case.torch, feeds, case.arrays(), seeds["y"])
            assert relative_error(outputs["y"], y) < 1e-5
        elif batch == 1:
            expected = by_differences(case, gradients.forward, feeds, seeds["y"])
        else:
            continue
        for name in feeds:
            assert relative_error(found.get(name, np.zeros_like(feeds[name])), expected[name]) < 1e-5, name


@pytest.mark.parametrize("case", [case for case in CASES if has_kernels(case, "float16")], ids=str)
def test_gradient_in_half_precision(case: Case):
    whole = Differentiated(case.model(), case.feeds)
    half = Differentiated(case.model("float16"), lambda batch: case.feeds(batch, dtype=np.float16))
    _, _, expected = whole(case.feeds(3))
    _, _, found = half(case.feeds(3, dtype=np.float16))
    for name, gradient in found.items():
        assert gradient.dtype == np.float16
        assert relative_error(gradient, expected[name]) < 32 * HALF, name


@pytest.mark.parametrize("case", [case for case in CASES if has_kernels(case, "double")], ids=str)
def test_gradient_in_double_precision(case: Case):
    gradients = Differentiated(case.model("double"), lambda batch: case.feeds(batch, dtype=np.float64))
    feeds = case.feeds(1, dtype=np.float64)
    single = any(called(case, each) for each in (*TOLD_IN_SINGLE_PRECISION, *TURNED_IN_SINGLE_PRECISION))
    bar = 1e-7 if single else 1e-10
    outputs, seeds, found = gradients(feeds)
    if case.torch is not None:
        y, expected = by_torch(case.torch, feeds, case.arrays("double"), seeds["y"])
        assert relative_error(outputs["y"], y) < bar
    else:
        expected = by_differences(case, gradients.forward, feeds, seeds["y"])
    for name in feeds:
        assert relative_error(found.get(name, np.zeros_like(feeds[name])), expected[name]) < bar, name


@pytest.mark.parametrize(("dtype", "operator"), [(d, operator) for d, names in NO_KERNEL.items() for operator in names])
def test_without_a_kernel_no_network_of_that_type_runs(dtype: str, operator: str):
    case = next(case for case in CASES if called(case, operator))
    with pytest.raises(runtime_errors()):
        measure(case.model(dtype), lambda batch: case.feeds(batch, dtype=TYPES[dtype]))


def test_every_rule_has_a_case_and_every_case_a_rule():
    own = {key for key in VJPS if not key[0]}  # other domains: test_composites, test_quantised
    operators = [{(node.domain, node.op_type) for node in case.model().graph} for case in CASES]
    assert own == {key for each in operators for key in each if key in own}
    assert all(each & own for each in operators)


def test_every_operator_of_opset_18_has_a_rule_or_a_reason_for_having_none():
    newest: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and newest.get(schema.name, schema).since_version <= schema.since_version <= 18:
            newest[schema.name] = schema
    operators = {name for name, schema in newest.items() if not schema.deprecated}
    left_out = set().union(*LEFT_OUT.values())
    ruled = {op_type for domain, op_type in VJPS if domain == ""}
    silent = {op_type for domain, op_type in NO_GRADIENT if domain == ""}
    assert operators <= ruled | silent | left_out
    assert not ruled & silent
    assert not left_out & (ruled | silent)
    assert silent | left_out <= operators
    for name in ruled & operators:
        assert newest[name].attributes.keys() <= VJPS["", name].attributes, name
