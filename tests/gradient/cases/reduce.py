import numpy as np
import torch

from tests.gradient.harness import Case, N, positive, values

X = {"x": (N, 3, 4, 5)}


def cumulated(x: torch.Tensor, axis: int, exclusive: int, reverse: int) -> torch.Tensor:
    turned = x.flip(axis) if reverse else x
    sums = turned.cumsum(axis) - (turned if exclusive else 0)
    return sums.flip(axis) if reverse else sums


def product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


FUNCTIONS = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
    "ReduceProd": product,
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}

CASES = [
    *[
        Case(
            f"y = {name}<keepdims={keep}>(x, axes)",
            X,
            lambda x, axes, f=f, keep=keep: f(x, axes.tolist(), bool(keep)),
            {"axes": axes},
            note=str(axes),
        )
        for name, f in FUNCTIONS.items()
        for keep, axes in [(1, [2, 3]), (0, [-1, 1]), (0, [0]), (1, [0, 2])]
    ],
    *[
        Case(
            f"r = {name}<keepdims=0>(x)  y = Mul(r, v)",
            {**X, "v": (N,)},
            lambda x, v, f=f: f(x, [0, 1, 2, 3], False) * v,
            note="all axes",
        )
        for name, f in FUNCTIONS.items()
    ],
    Case("y = ReduceSum<noop_with_empty_axes=1>(x)", X, lambda x: x.clone()),
    Case("y = ReduceMean<noop_with_empty_axes=1>(x, axes)", X, lambda x, _: x.clone(), {"axes": []}),
    Case(
        "y = ReduceMax(x, axes)",
        X,
        lambda x, _: x.amax(1, keepdim=True),
        {"axes": [1]},
        draw=values(0.0, 1.0),
        note="ties",
    ),
    Case(
        "y = ReduceL2(x, axes)",
        X,
        lambda x, _: x.norm(dim=1, keepdim=True),
        {"axes": [1]},
        draw=values(0.0),
        note="zeros",
    ),
    Case("y = ReduceLogSumExp(x, axes)", X, lambda x, _: x.logsumexp(1, True), {"axes": [1]}, draw=positive),
    *[
        Case(
            f"y = ReduceLogSum<keepdims={keep}>(x, axes)",
            X,
            lambda x, axes, keep=keep: x.sum(axes.tolist(), keepdim=bool(keep)).log(),
            {"axes": axes},
            draw=positive,
            note=str(axes),
        )
        for keep, axes in [(1, [2, 3]), (0, [-1, 1])]
    ],
    Case(
        "r = ReduceLogSum<keepdims=0>(x)  y = Mul(r, v)",
        {**X, "v": (N,)},
        lambda x, v: x.sum().log() * v,
        draw=positive,
    ),
    *[
        Case(
            "y = ReduceProd<keepdims=0>(x, axes)",
            {"x": (N, 2, 3)},
            lambda x, axes: product(x, axes.tolist(), False),
            {"axes": axes},
            draw=values(*numbers),
            note=f"{axes} of {numbers}",
        )
        for axes in ([2], [1, 2])
        for numbers in [(0.5, 0.0, -3.0, 2.0), (0.0, 0.0, 2.0, 1.5, 0.7), (0.0,), (1e-30, 2.0, -1.5)]
    ],
    *[
        Case(
            f"y = CumSum<exclusive={exclusive}, reverse={reverse}>(x, axis)",
            X,
            lambda x, axis, exclusive=exclusive, reverse=reverse: cumulated(x, int(axis), exclusive, reverse),
            {"axis": np.array(axis)},
        )
        for exclusive in (0, 1)
        for reverse in (0, 1)
        for axis in (1, -1)
    ],
]
