import torch

from tests.gradient.harness import Case, N, positive, values

X = {"x": (N, 3, 4, 5)}
FUNCTIONS = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
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
]
