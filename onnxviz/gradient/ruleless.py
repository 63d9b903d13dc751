"""Operators that will have no gradient rule: why, and how a model does without them."""

from __future__ import annotations

import onnx_ir as ir

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_INTEGER_PRODUCTS = (
    *("ConvInteger", "MatMulInteger", "MulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DynamicQuantizeLSTM", "DynamicQuantizeLinear", "NhwcMaxPool"),
)
_QUANTISED = ("QLinear", "QGemm", "QAttention", "QEmbed", "QMoE", "QOrdered")


def why_no_rule(node: ir.Node) -> str:
    """A sentence on what such operators are and what to do about it; nothing where a rule is merely lacking."""
    if node.op_type in _CONTROL_FLOW:
        return "Control flow must fold away: export the model with fixed sizes and conditions, loops unrolled."
    if node.op_type in _INTEGER_PRODUCTS or node.op_type.startswith(_QUANTISED):
        return (
            "Integer arithmetic has no gradient: convert the model from before it was quantised, or quantise it "
            "statically with quant_format=QuantFormat.QDQ (and do not let onnxruntime optimise the file)."
        )
    return ""
