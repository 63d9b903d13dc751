"""The node tests that come with onnx: a small graph of one operator, inputs, and what is to come of them."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as NodeTest

from onnxviz.graph import decompositions
from onnxviz.graph.lift import lift


@cache
def node_tests() -> tuple[NodeTest, ...]:
    """Those of the default operator set, without the repetitions by functions."""
    with warnings.catch_warnings():  # some overflow on purpose when they are made
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    return tuple(test for test in collected if "_expanded" not in test.name and test.model.graph.node[0].domain == "")


def operator(test: NodeTest) -> str:
    return test.model.graph.node[0].op_type


def arrays(test: NodeTest) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs and expected outputs."""
    inputs, outputs = ([as_array(each) for each in part] for part in test.data_sets[0])
    return inputs, outputs


def as_array(given: np.ndarray | onnx.TensorProto) -> np.ndarray:
    return onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


def with_constants(test: NodeTest, variable: Collection[int] = (0,)) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model, whose inputs but those of these numbers are stored as a network stores them; and these."""
    inputs, _ = arrays(test)
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    feeds = {}
    for i, (value, array) in enumerate(zip(list(model.graph.input), inputs, strict=True)):
        if i in variable:
            feeds[value.name] = array
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            model.graph.input.remove(value)
    return model, feeds


def lowered(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> ir.Model:
    """The model at opset 18, as conversion brings it there."""
    model = ir.from_proto(proto)
    decompositions.set_aside(model)
    decompositions.annotate(model.graph, feeds)
    model = lift(model)
    decompositions.decompose(model, feeds)
    return model
