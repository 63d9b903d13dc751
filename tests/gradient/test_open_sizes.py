"""Gradients of graphs whose spatial sizes are open: the same numbers as where they are fixed, at sizes never seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import starmap

import numpy as np
import onnx_ir as ir
import pytest

from onnxviz.errors import OpenSizeError
from tests.gradient import harness
from tests.gradient.cases import CASES
from tests.gradient.harness import Case, Differentiated, relative_error


def enlarged(case: Case, by: int) -> Case:
    """The case with every size but batch, channels and 1 larger; the places of a GridSample have two coordinates."""
    return replace(
        case,
        inputs={
            name: [
                size + by if i > 1 and isinstance(size, int) and size > 1 and (name, i) != ("grid", len(sizes) - 1)
                else size
                for i, size in enumerate(sizes)
            ]
            for name, sizes in case.inputs.items()
        },
    )  # fmt: skip


def runs(case: Case) -> bool:
    """Whether constants and attributes leave the operator free to be used at other sizes."""
    try:
        harness.measure(case.model(), case.feeds)
    except harness.MISFIT:
        return False
    return True


def spatial() -> Iterator[Case]:
    """Cases that can be enlarged."""
    for case in CASES:
        if enlarged(case, 3) != case and runs(enlarged(case, 3)) and runs(enlarged(case, 6)):
            yield case


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[Case], Differentiated]:
    """Differentiates a case of which all sizes are symbols that the sizes of the inputs decide."""
    measure = harness.measure

    def differentiated(case: Case) -> Differentiated:
        def with_symbols(model: ir.Model, feeds: Callable[[int], Mapping[str, np.ndarray]]) -> None:
            larger = enlarged(case, 3).model()
            measure(larger, enlarged(case, 3).feeds)
            measure(model, feeds)
            for here, there in zip(values(model), values(larger), strict=True):
                here.shape = ir.Shape(starmap(symbol, zip(here.shape or (), there.shape or (), strict=True)))

        monkeypatch.setattr(harness, "measure", with_symbols)
        return Differentiated(case.model(), case.feeds)

    return differentiated


def values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(y for node in model.graph for y in node.outputs)]


def symbol(here: object, there: object) -> object:
    return here if here == there else f"{here} or {there}"


SPATIAL = list(spatial())
REFUSED = [case for case in SPATIAL if "output_shape" in case.code or "keep_aspect_ratio_policy" in case.code]
"""What needs numbers: pads that a wanted size decides, and a scale that is the smaller of two ratios."""


@pytest.mark.parametrize("case", [case for case in SPATIAL if case not in REFUSED], ids=str)
@pytest.mark.parametrize("by", [0, 3, 6])
def test_open(case: Case, by: int, opened: Callable[[Case], Differentiated]) -> None:
    other = enlarged(case, by)
    feeds = other.feeds(2)
    outputs, _, expected = Differentiated(other.model(), other.feeds)(feeds)
    again, _, found = opened(case)(feeds)
    np.testing.assert_array_equal(again["y"], outputs["y"])
    for name, gradient in expected.items():
        assert relative_error(found[name], gradient) < 1e-6


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused(case: Case, opened: Callable[[Case], Differentiated]) -> None:
    with pytest.raises(OpenSizeError, match="fixed sizes"):
        opened(case)


def test_all_families_are_tried() -> None:
    tried = {node.op_type for case in SPATIAL for node in case.model().graph}
    assert tried >= {
        "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "Resize",
        "Pad", "Slice", "Concat", "DepthToSpace", "BatchNormalization", "InstanceNormalization", "LRN",
        "GroupNormalization", "ReduceMean", "Softmax", "GridSample", "Gather", "Transpose", "MatMul",
    }  # fmt: skip
