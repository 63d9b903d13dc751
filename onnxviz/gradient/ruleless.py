"""Operators that have no gradient rule, and what the rules of others refuse: why, and how a model does without."""

from __future__ import annotations

import onnx_ir as ir

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_INTEGER_PRODUCTS = (
    *("ConvInteger", "MatMulInteger", "MulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DynamicQuantizeLSTM", "DynamicQuantizeLinear", "NhwcMaxPool"),
)
_QUANTISED = ("QLinear", "QGemm", "QAttention", "QEmbed", "QMoE", "QOrdered")

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
LIMITS = {
    "BatchNormalization": ("training_mode=1",),
    "Col2Im": ("a computed block_shape",),
    "DFT": (
        "a computed dft_length",
        "inverse=1 with onesided=1 of other than n // 2 + 1 bins",
    ),
    "Dropout": ("training_mode",),
    "Einsum": ("repeated labels in one term",),
    "GRU": ("clip", "layout=1"),
    "LSTM": ("clip", "layout=1", "input_forget=1"),
    "RNN": ("clip", "layout=1"),
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCTIONS), ("computed axes",)),
    "Resize": (
        "tf_crop_and_resize with a computed roi, or along an axis that keeps its size",
        "keep_aspect_ratio_policy where a size is rounded up",
    ),
    "RoiAlign": ("mode='max'", "sampling_ratio=0"),
    "STFT": ("a computed frame_step or frame_length",),
    "ScatterElements": ("reduction='mul'",),
    "ScatterND": ("reduction='mul'",),
}
"""Operator → values of attributes, and forms of inputs, that its rule refuses; what is computed is no constant."""


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
