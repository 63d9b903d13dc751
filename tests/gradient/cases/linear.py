import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, weights

CASES = [
    Case("y = Conv(x, w, b)", {"x": (N, 3, 7)}, F.conv1d, {"w": weights(4, 3, 3), "b": weights(4)}),
    Case(
        "y = Conv<strides=[2,2], pads=[0,1,2,1], group=2, dilations=[1,2]>(x, w)",
        {"x": (N, 4, 9, 8)},
        lambda x, w: F.conv2d(F.pad(x, (1, 1, 0, 2)), w, stride=2, groups=2, dilation=(1, 2)),
        {"w": weights(6, 2, 3, 2)},
    ),
    Case("y = Conv<kernel_shape=[1,1]>(x, w)", {"x": (N, 4, 3, 3)}, F.conv2d, {"w": weights(2, 4, 1, 1)}),
    Case(
        "y = Conv<strides=[1,2,1], pads=[1,1,1,1,1,1]>(x, w)",
        {"x": (N, 2, 4, 5, 4)},
        lambda x, w: F.conv3d(x, w, stride=(1, 2, 1), padding=1),
        {"w": weights(3, 2, 3, 3, 3)},
    ),
    Case("y = ConvTranspose(x, w, b)", {"x": (N, 3, 7)}, F.conv_transpose1d, {"w": weights(3, 4, 3), "b": weights(4)}),
    Case(
        "y = ConvTranspose<strides=[2,3], pads=[1,0,1,0], output_padding=[1,2], group=2>(x, w)",
        {"x": (N, 4, 4, 5)},
        lambda x, w: F.conv_transpose2d(x, w, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2),
        {"w": weights(4, 3, 3, 3)},
    ),
    Case(
        "y = ConvTranspose<strides=[2,2], output_shape=[9,10]>(x, w)",
        {"x": (N, 2, 4, 5)},
        None,
        {"w": weights(2, 3, 4, 4)},
    ),
    Case(
        "y = ConvTranspose<strides=[3,2], output_shape=[12,10], output_padding=[0,1]>(x, w)",
        {"x": (N, 2, 4, 5)},
        None,
        {"w": weights(2, 3, 4, 4)},
    ),
    Case(
        "y = ConvTranspose<strides=[1,1,2], pads=[0,1,0,1,0,1]>(x, w)",
        {"x": (N, 2, 3, 4, 3)},
        None,
        {"w": weights(2, 3, 3, 3, 2)},
    ),
    *[
        Case(
            f"y = Gemm<transB={b}, alpha=0.5, beta=2.0>(x, w, c)",
            {"x": (N, 5)},
            lambda x, w, c, b=b: 0.5 * x @ (w.T if b else w) + 2 * c,
            {"w": weights(*shape), "c": weights(3)},
        )
        for b, shape in [(0, (5, 3)), (1, (3, 5))]
    ],
    *[
        Case(
            f"y = Gemm<transB={b}, alpha=0.5, beta=2.0>(a, b, c)",
            {"a": (N, 5), "b": (3, 5) if b else (5, 3), "c": (N, 3)},
            lambda a_, b_, c_, b=b: 0.5 * a_ @ (b_.T if b else b_) + 2 * c_,
        )
        for b in (0, 1)
    ],
    *[
        Case(
            f"t = Transpose<perm=[1,0]>(a)  y = Gemm<transA=1, transB={b}>(t, b, c)",
            {"a": (N, 5), "b": (3, 5) if b else (5, 3), "c": (1,)},
            lambda a_, b_, c_, b=b: a_ @ (b_.T if b else b_) + c_,
        )
        for b in (0, 1)
    ],
    Case("y = Gemm(x, w)", {"x": (N, 5)}, torch.matmul, {"w": weights(5, 3)}),
    Case("y = MatMul(x, w)", {"x": (N, 5)}, torch.matmul, {"w": weights(5, 3)}),
    Case("y = MatMul(x, w)", {"x": (N, 2, 4, 5), "w": (5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (N, 4, 5), "b": (N, 5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (N, 2, 4, 5), "b": (2, 5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (N, 1, 4, 5), "b": (N, 2, 5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (4, 5), "b": (N, 5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (N, 4, 5), "b": (5,)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (5,), "b": (N, 5, 3)}, torch.matmul),
    Case("y = MatMul(a, b)", {"a": (N, 5), "b": (5,)}, torch.matmul),
    Case(
        "s = Squeeze(a, zero)  z = MatMul(s, b)  y = Mul(z, c)",
        {"a": (1, 5), "b": (5,), "c": (N,)},
        lambda a, b, c, _: (a[0] @ b) * c,
        {"zero": [0]},
    ),
    Case(
        'y = Einsum<equation="bchq, bkhc -> bkhq">(a, b)',
        {"a": (N, 3, 2, 4), "b": (N, 5, 2, 3)},
        lambda a, b: torch.einsum("bchq,bkhc->bkhq", a, b),
    ),
    Case('y = Einsum<equation="bi,ij">(a, b)', {"a": (N, 3), "b": (3, 4)}, torch.matmul),
    Case('y = Einsum<equation="bij->bi">(x)', {"x": (N, 3, 4)}, lambda x: x.sum(2)),
    Case(
        'y = Einsum<equation="bij,bk,b->bi">(a, b, c)',
        {"a": (N, 3, 4), "b": (N, 2), "c": (N,)},
        lambda a, b, c: torch.einsum("bij,bk,b->bi", a, b, c),
    ),
    *[
        Case(
            f'y = Einsum<equation="{equation}">(a, b)',
            {"a": (N, 2, 3, 4), "b": (N, 2, 4, 5)},
            lambda a, b: a @ b,
            note="ellipsis",
        )
        for equation in ("...ij,...jk->...ik", "...ij, ...jk")
    ],
    Case('y = Einsum<equation="...i->...">(x)', {"x": (N, 3, 4)}, lambda x: x.sum(-1)),
    Case(
        'y = Einsum<equation="bi...,ij->b...j">(x, w)',
        {"x": (N, 4, 2, 3)},
        lambda x, w: x.movedim(1, -1) @ w,
        {"w": weights(4, 5)},
    ),
]
