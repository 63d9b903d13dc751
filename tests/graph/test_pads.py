"""Padding: automatic pads against ONNX Runtime's own, at fixed and at open sizes; Pads that it would mistake."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxviz.engine.session import runtime_errors
from onnxviz.errors import OpenSizeError, UnsupportedOperatorError
from onnxviz.graph.pads import explicit_pads, separate_pads, whole_pads
from tests.graph.texts import parsed, run
from tests.support import normal

RNG = np.random.default_rng(0)


POOL_SIZES = [(7,), (8,), (5, 8), (6, 7, 5)]
WINDOWS = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 2), (5, 4)]
DILATED = [(2, 1, 3), (3, 1, 2), (3, 2, 2)]


def attributes(rank: int, **values: int) -> str:
    return ", ".join(f"{name} = {[value] * rank}" for name, value in values.items())


def same_as_before(model: ir.Model, x: np.ndarray, **shapes: tuple[int, ...]) -> None:
    before = run(model, x=x)["y"]
    explicit_pads(model, {"x": x.shape, **shapes})
    [node] = model.graph
    assert "auto_pad" not in node.attributes
    assert "output_shape" not in node.attributes
    after = run(model, x=x)["y"]
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
@pytest.mark.parametrize("sizes", POOL_SIZES)
class TestAutoPad:
    def test_conv(self, mode, kernel, stride, sizes):
        rank = len(sizes)
        how = attributes(rank, strides=stride)
        same_as_before(
            parsed(
                f"g (float[{'?, ' * (rank + 1)}?] x) => (float[{'?, ' * (rank + 1)}?] y) "
                f'{{ y = Conv<auto_pad = "{mode}", {how}>(x, w) }}',
                w=RNG.standard_normal((3, 2, *[kernel] * rank)).astype(np.float32),
            ),
            RNG.standard_normal((2, 2, *sizes)).astype(np.float32),
        )

    @pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "AveragePool with pad", "LpPool"])
    def test_pool(self, mode, kernel, stride, sizes, pool):
        rank = len(sizes)
        how = attributes(rank, strides=stride, kernel_shape=kernel)
        if pool.endswith("with pad"):
            how += ", count_include_pad = 1"
        same_as_before(
            parsed(
                f"g (float[{'?, ' * (rank + 1)}?] x) => (float[{'?, ' * (rank + 1)}?] y) "
                f'{{ y = {pool.split()[0]}<auto_pad = "{mode}", {how}>(x) }}'
            ),
            RNG.standard_normal((2, 2, *sizes)).astype(np.float32),
        )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), DILATED)
def test_dilated_conv_against_the_specification(kernel, stride, dilation, mode):
    """ONNX Runtime refuses it; Keras uses it."""
    how = f'auto_pad = "{mode}", {attributes(2, strides=stride, dilations=dilation)}'
    model = parsed(
        f"g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) {{ y = Conv<{how}>(x, w) }}",
        w=RNG.standard_normal((3, 2, kernel, kernel)).astype(np.float32),
    )
    x = RNG.standard_normal((2, 2, 7, 8)).astype(np.float32)
    [expected] = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    explicit_pads(model, {"x": x.shape})
    np.testing.assert_allclose(run(model, x=x)["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_windows_smaller_than_the_stride_are_never_padded_negatively(mode, size):
    """ONNX Runtime refuses these pools; TensorFlow, where SAME comes from, starts at the first element."""
    model = parsed(
        "g (float[1, 1, ?] x) => (float[1, 1, ?] y) "
        f'{{ y = MaxPool<auto_pad = "{mode}", kernel_shape = [1], strides = [3]>(x) }}'
    )
    x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
    explicit_pads(model, {"x": x.shape})
    np.testing.assert_array_equal(run(model, x=x)["y"], x[:, :, ::3])


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 2, 2), (8, 3, 2), (5, 3, 3), (8, 2, 1)])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_auto_pad_with_ceil_mode(mode, size, kernel, stride, pool):
    how = attributes(2, strides=stride, kernel_shape=kernel)
    same_as_before(
        parsed(
            "g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) "
            f'{{ y = {pool}<auto_pad = "{mode}", ceil_mode = 1, {how}>(x) }}'
        ),
        RNG.standard_normal((1, 2, size, size + 1)).astype(np.float32),
    )


TRANSPOSED = {
    "same upper": 'auto_pad = "SAME_UPPER"',
    "same lower": 'auto_pad = "SAME_LOWER"',
    "valid": 'auto_pad = "VALID"',
    "output shape": "output_shape = [9, 8]",
    "output shape, same upper": 'output_shape = [9, 8], auto_pad = "SAME_UPPER"',
    "output shape, same lower": 'output_shape = [9, 8], auto_pad = "SAME_LOWER"',
    "larger than the windows": "output_shape = [11, 11]",
}


@pytest.mark.parametrize("how", TRANSPOSED.values(), ids=TRANSPOSED)
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_conv_transpose(how, kernel):
    if kernel == 2 and "[11" in how:
        how = how.replace("11, 11", "10, 11")
    same_as_before(
        parsed(
            f"g (float[?, ?, ?, ?] x) => (float[?, ?, ?, ?] y) {{ y = ConvTranspose<strides = [2, 2], {how}>(x, w) }}",
            w=RNG.standard_normal((2, 3, kernel, kernel)).astype(np.float32),
        ),
        RNG.standard_normal((2, 2, 5, 5)).astype(np.float32),
    )


AT_ANY_SIZE = [
    'Conv<auto_pad = "{mode}", strides = [{s}, 1]>(x, w)',
    'Conv<auto_pad = "{mode}", strides = [{s}, {s}], dilations = [1, 2]>(x, w)',
    'ConvTranspose<auto_pad = "{mode}", strides = [{s}, {s}]>(x, w)',
    'MaxPool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [{s}, 2]>(x)',
    'LpPool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [{s}, {s}]>(x)',
    'AveragePool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [2, {s}], count_include_pad = 1>(x)',
    'AveragePool<auto_pad = "{mode}", kernel_shape = [3, 2], strides = [2, {s}]>(x)',
]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("operator", AT_ANY_SIZE)
def test_same_padding_at_any_size(operator, mode, stride):
    """One graph for all sizes: its padding is that of the graph that was written for each of them."""

    def written() -> ir.Model:
        body = operator.format(mode=mode, s=stride)
        return parsed(f"g (float[N, 2, H, W] x) => (float[N, 2, ?, ?] y) {{ y = {body} }}", w=normal(2, 2, 3, 3))

    model = written()
    explicit_pads(model, {"x": ("N", 2, "H", "W")})
    assert all("auto_pad" not in node.attributes for node in model.graph)
    for height, width in [(4, 7), (5, 6), (6, 9), (7, 8), (9, 4)]:
        x, fixed = -np.abs(normal(2, 2, height, width)), written()
        explicit_pads(fixed, {"x": ("N", 2, height, width)})
        np.testing.assert_allclose(run(model, x=x)["y"], run(fixed, x=x)["y"], rtol=1e-6)


def test_a_wanted_output_needs_the_size():
    model = parsed(
        "g (float[1, 1, H, 4] x) => (float[1, 1, ?, ?] y) "
        "{ y = ConvTranspose<output_shape = [9, 9], strides = [2, 2]>(x, w) }",
        w=normal(1, 1, 3, 3),
    )
    with pytest.raises(OpenSizeError, match=r"ConvTranspose.*output of \[9, 9\] at any size"):
        explicit_pads(model, {"x": (1, 1, "H", 4)})


def test_shapes_must_be_known_for_same_padding():
    model = parsed(
        "g (float[N, 2, H, 8] x) => (float[N, 2, ?, ?] y) "
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2]>(x) }'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"MaxPool.*SAME_UPPER.*'x'.*not known"):
        explicit_pads(model, {})


def test_dilated_pools_with_same_padding_are_refused():
    model = parsed(
        "g (float[1, 1, 8] x) => (float[1, 1, ?] y) "
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [3], dilations = [2]>(x) }'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"MaxPool.*dilations.*SAME_UPPER.*explicit pads"):
        explicit_pads(model, {"x": (1, 1, 8)})


def test_an_unreachable_output_shape_is_refused():
    model = parsed(
        "g (float[1, 1, 4, 4] x) => (float[1, 1, ?, ?] y) "
        "{ y = ConvTranspose<strides = [2, 2], output_shape = [20, 20]>(x, w) }",
        w=np.ones((1, 1, 2, 2), np.float32),
    )
    with pytest.raises(UnsupportedOperatorError, match=r"ConvTranspose.*\[20, 20\]"):
        explicit_pads(model, {"x": (1, 1, 4, 4)})


# ----------------------------------------------------------------------------------------------------- pads of pools

PADDED = {
    "pool": "p = Pad(x, q) y = MaxPool<kernel_shape = [3, 3]>(p)",
    "with a value": "p = Pad(x, q, zero) y = MaxPool<kernel_shape = [3, 3]>(p)",
    "behind a copy": "p = Pad(x, q) i = Identity(p) y = MaxPool<kernel_shape = [3, 3]>(i)",
    "margins as wide as the window": "p = Pad(x, q) y = AveragePool<kernel_shape = [1, 1]>(p)",
    "transposed": (
        "p = Pad(x, q) l = Transpose<perm = [0, 2, 3, 1]>(p) f = Transpose<perm = [0, 3, 1, 2]>(l) "
        "y = MaxPool<kernel_shape = [3, 3]>(f)"
    ),
}


@pytest.mark.parametrize("body", PADDED.values(), ids=PADDED)
def test_zeros_around_a_pool_stay_zeros(body):
    """ONNX Runtime would take them for the pool's own margins, which never win, or refuse them."""
    model = parsed(
        f"g (float[N, 2, 5, 6] x) => (float[N, 2, ?, ?] y) {{ {body} }}",
        q=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        zero=np.float32(0),
    )
    for node in model.graph:
        node.outputs[0].shape = ir.Shape([None] * 4)
    x = -1 - RNG.random((2, 2, 5, 6)).astype(np.float32)
    [expected] = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    separate_pads(model)
    np.testing.assert_allclose(run(model, x=x)["y"], expected, rtol=1e-6)
    assert expected.max() == 0


def test_other_pads_stay_as_they_are():
    model = parsed(
        "g (float[N, 2, 5, 6] x) => (float[N, 2, ?, ?] y) { p = Pad(x, q) c = Conv(p, w) "
        "r = Pad(c, h, , a) y = MaxPool<kernel_shape = [2, 2]>(r) }",
        q=np.array([0, 0, 1, 1, 0, 0, 1, 1]), h=np.array([1, 1]), a=np.array([2]), w=np.ones((2, 2, 3, 3), np.float32),
    )  # fmt: skip
    before = [list(node.inputs) for node in model.graph]
    separate_pads(model)
    assert [list(node.inputs) for node in model.graph] == before


AXES = {
    "the last": ("y = Pad(t, p, , a)", {"p": [1, 2], "a": [-1]}),
    "two, in another order": ('y = Pad<mode = "edge">(t, p, , a)', {"p": [1, 0, 2, 1], "a": [2, 1]}),
    "computed pads": (
        "h = Shape<start = 1, end = 2>(t)  q = Concat<axis = 0>(h, h)  y = Pad(t, q, , a)",
        {"a": [2]},
    ),
}


@pytest.mark.parametrize("case", AXES)
def test_pads_that_name_axes(case):
    """Between Transposes ONNX Runtime fails; with pads for all axes it does not."""
    body, numbers = AXES[case]
    text = (
        f"g (float[N, 3, 4] x) => (float[N, ?, ?] z) "
        f"{{ t = Transpose<perm = [0, 2, 1]>(x) {body} z = Transpose<perm = [0, 2, 1]>(y) }}"
    )
    model = parsed(text, **{name: np.array(values) for name, values in numbers.items()})
    for value in (y for node in model.graph for y in node.outputs if y.name == "t"):
        value.shape = ir.Shape(["N", 4, 3])
    x = normal(2, 3, 4)
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0]
    with pytest.raises(runtime_errors()):
        run(model, x=x)
    whole_pads(model)
    assert all(len(node.inputs) < 4 for node in model.graph)
    np.testing.assert_array_equal(run(model, x=x)["z"], expected)
