import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, spaced, values

IMAGE = {"x": (N, 2, 7, 6)}


def lp_pool(x: torch.Tensor, p: int) -> torch.Tensor:
    """Windows of 2 × 3 in steps of 2 and 1; F.lp_pool2d leaves out the signs for odd p."""
    return x.unfold(2, 2, 2).unfold(3, 3, 1).abs().pow(p).sum((-2, -1)).pow(1 / p)


CASES = [
    Case(
        "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
        IMAGE,
        lambda x: F.max_pool2d(x, 3, 2, 1),
        draw=spaced,
    ),
    Case("y, i = MaxPool<kernel_shape=[2,2], storage_order=1>(x)", IMAGE, lambda x: F.max_pool2d(x, 2, 1), draw=spaced),
    Case(
        "y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(x)",
        IMAGE,
        lambda x: F.max_pool2d(x, 3, 2),
        draw=values(0.0, 1.0, 1.0, 0.0, 1.0),
        note="ties: the first wins",
    ),
    Case(
        "y = MaxPool<kernel_shape=[3], dilations=[2]>(x)",
        {"x": (N, 2, 9)},
        lambda x: F.max_pool1d(x, 3, 1, dilation=2),
        draw=spaced,
    ),
    Case(
        "y = MaxPool<kernel_shape=[2,2,2], strides=[2,2,2], ceil_mode=1>(x)",
        {"x": (N, 2, 5, 4, 3)},
        lambda x: F.max_pool3d(x, 2, 2, ceil_mode=True),
        draw=spaced,
    ),
    Case("y = GlobalMaxPool(x)", IMAGE, lambda x: F.adaptive_max_pool2d(x, 1), draw=spaced),
    Case("y = GlobalMaxPool(x)", IMAGE, lambda x: F.adaptive_max_pool2d(x, 1), draw=values(0.0, 1.0), note="ties"),
    Case("y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)", IMAGE, lambda x: F.avg_pool2d(x, 2)),
    Case(
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)",
        IMAGE,
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    Case(
        "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)",
        IMAGE,
        lambda x: F.avg_pool2d(x, 3, 2, 1),
    ),
    Case("y = GlobalAveragePool(x)", IMAGE, lambda x: x.mean((2, 3), keepdim=True)),
    Case("y = GlobalAveragePool(x)", {"x": (N, 3, 5)}, lambda x: x.mean(2, keepdim=True)),
    Case(
        "y = MaxPool<kernel_shape=[2,3], strides=[3,2], dilations=[2,1], pads=[1,0,0,1], ceil_mode=1>(x)",
        {"x": (N, 2, 8, 7)},
        None,
        draw=spaced,
        eps=0.25,
    ),
    *[
        Case(f"y = LpPool<kernel_shape=[2,3], strides=[2,1]{given}>(x)", IMAGE, lambda x, p=p: lp_pool(x, p))
        for given, p in [("", 2), (", p=1", 1), (", p=3", 3)]
    ],
    Case(
        "y = LpPool<kernel_shape=[2], dilations=[3], strides=[2], pads=[1,1]>(x)",
        {"x": (N, 2, 9)},
        lambda x: F.pad(x, (1, 1)).unfold(2, 4, 2)[..., ::3].norm(dim=-1),
    ),
    Case(
        "y = LpPool<kernel_shape=[2,2], strides=[2,2]>(x)",
        IMAGE,
        lambda x: F.lp_pool2d(x, 2, 2),
        draw=values(0.0),
        note="zeros",
    ),
    Case(
        "y = LpPool<kernel_shape=[2,2,2], p=4>(x)",
        {"x": (N, 2, 4, 3, 3)},
        lambda x: F.lp_pool3d(x, 4, 2, 1),
    ),
    *[
        Case(
            f"y = GlobalLpPool<p={p}>(x)",
            {"x": shape},
            lambda x, p=p: torch.linalg.vector_norm(x, p, tuple(range(2, x.ndim)), keepdim=True),
        )
        for p in (1, 2, 3)
        for shape in [(N, 2, 5), (N, 3, 4, 3)]
    ],
    Case(
        "p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  "
        "u = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(p, i)  y = Mul(u, u)",
        {"x": (N, 2, 6, 4)},
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) ** 2,
        draw=spaced,
    ),
    Case(
        "p, i = MaxPool<kernel_shape=[2], strides=[2]>(x)  h = Shape(x)  "
        "y = MaxUnpool<kernel_shape=[2], strides=[2]>(p, i, h)",
        {"x": (N, 3, 7)},
        lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2, output_size=(7,)),
        draw=spaced,
    ),
]
