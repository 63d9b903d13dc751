from torch.nn import functional as F

from tests.gradient.harness import Case, N, spaced, values

IMAGE = {"x": (N, 2, 7, 6)}

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
]
