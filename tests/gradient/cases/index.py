import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, spaced, values

X = {"x": (N, 5, 6)}
END = 2**63 - 1

CASES = [
    Case("y = Slice(x, s, e, a)", X, lambda x, *_: x[:, 1:4], {"s": [1], "e": [4], "a": [1]}),
    Case("y = Slice(x, s, e, a)", X, lambda x, *_: x[:, -3:, :-2], {"s": [-3, 0], "e": [END, -2], "a": [1, -1]}),
    Case("y = Slice(x, s, e)", X, lambda x, *_: x[:, 2:], {"s": [0, 2], "e": [END, 5]}),
    Case(
        "y = Slice(x, s, e, a, t)",
        X,
        lambda x, *_: x[:, ::2, 1::3],
        {"s": [0, 1], "e": [END, END], "a": [1, 2], "t": [2, 3]},
    ),
    Case("y = Slice(x, s, e, a, t)", X, lambda x, *_: x.flip(2), {"s": [-1], "e": [-END], "a": [2], "t": [-1]}),
    Case("y = Slice(x, s, e, a, t)", X, lambda x, *_: x[:, [4, 2]], {"s": [4], "e": [0], "a": [1], "t": [-2]}),
    Case("y = Slice(x, s, e, a)", X, lambda x, *_: x[:1], {"s": [0], "e": [1], "a": [0]}, note="along the batch"),
    Case(
        "h = Shape<start=1, end=2>(x)  e = Sub(h, s)  y = Slice(x, s, e, s)",
        X,
        lambda x, _: x[:, 1:4],
        {"s": [1]},
        note="an end computed",
    ),
    Case("y = Pad(x, p)", X, lambda x, _: F.pad(x, (3, 0, 1, 2)), {"p": [0, 1, 3, 0, 2, 0]}),
    Case("y = Pad(x, p)", X, lambda x, _: F.pad(x, (-2, 1, 1, -1)), {"p": [0, 1, -2, 0, -1, 1]}),
    Case(
        "y = Pad(x, p, v, a)",
        X,
        lambda x, *_: F.pad(x, (1, 2), value=3.0),
        {"p": [1, 2], "v": np.array(3, np.float32), "a": [-1]},
    ),
    Case(
        "h = Shape<start=1, end=2>(x)  p = Concat<axis=0>(z, h, z, z)  y = Pad(x, p, , a)",
        X,
        lambda x, *_: F.pad(x, (5, 0)),
        {"z": [0], "a": [1, 2]},
        note="pads computed",
    ),
    Case(
        'y = Pad<mode="reflect">(x, p)',
        {"x": (N, 2, 5, 6)},
        lambda x, _: F.pad(x, (3, 2, 1, 4), mode="reflect"),
        {"p": [0, 0, 1, 3, 0, 0, 4, 2]},
    ),
    Case(
        'y = Pad<mode="edge">(x, p)',
        {"x": (N, 2, 5, 6)},
        lambda x, _: F.pad(x, (3, 2, 0, 4), mode="replicate"),
        {"p": [0, 0, 0, 3, 0, 0, 4, 2]},
    ),
    Case(
        'y = Pad<mode="reflect">(x, p, , a)',
        X,
        lambda x, *_: F.pad(x, (2, 0), mode="reflect"),
        {"p": [2, 0], "a": [-1]},
    ),
    Case("y = Gather<axis=1>(x, i)", X, lambda x, _: x[:, 0], {"i": np.array(0)}),
    Case("y = Gather<axis=2>(x, i)", X, lambda x, _: x[..., -2], {"i": np.array(-2)}),
    Case("y = Gather<axis=1>(x, i)", X, lambda x, _: x[:, [3]], {"i": [3]}),
    Case("y = Gather<axis=-1>(x, i)", X, lambda x, i: x[..., i], {"i": [[0, 2, 2], [-1, 5, 0]]}),
    Case("y = Gather(x, i)", X, lambda x, i: x[i], {"i": [0, 0, -1]}, note="along the batch"),
    Case(
        "m = ArgMax<axis=1, keepdims=0>(v)  y = Gather<axis=1>(x, m)",
        {"x": (N, 4), "v": (N, 4)},
        lambda x, v: x[:, v.argmax(1)] + 0 * v.sum(),
        note="indices computed",
    ),
    Case("m = ArgMax<axis=1>(x)  y = GatherElements<axis=1>(x, m)", X, lambda x: x.amax(1, keepdim=True)),
    Case(
        "t = Transpose<perm=[1,2,0]>(x)  y = GatherND(t, i)",
        X,
        lambda x, i: x.permute(1, 2, 0)[i[:, 0], i[:, 1]],
        {"i": [[0, 1], [4, 5], [0, 1]]},
    ),
    Case(
        "m = ArgMax<axis=1>(x)  u = Mul(v, v)  y = ScatterElements<axis=1>(x, m, u)",
        {**X, "v": (N, 1, 6)},
        lambda x, v: x.scatter(1, x.argmax(1, keepdim=True), v * v),
    ),
    Case(
        'm = ArgMax<axis=1>(x)  u = Mul(v, v)  y = ScatterElements<axis=1, reduction="add">(x, m, u)',
        {**X, "v": (N, 1, 6)},
        lambda x, v: x.scatter_add(1, x.argmax(1, keepdim=True), v * v),
    ),
    Case(
        "t = Transpose(x)  y = ScatterND(t, i, u)",
        {"x": (N, 5), "u": (2, N)},
        lambda x, u, i: torch.index_put(x.T, (i[:, 0],), u),
        {"i": [[1], [3]]},
    ),
    Case(
        't = Transpose(x)  y = ScatterND<reduction="add">(t, i, u)',
        {"x": (N, 5), "u": (3, N)},
        lambda x, u, i: torch.index_put(x.T, (i[:, 0],), u, accumulate=True),
        {"i": [[1], [3], [1]]},
    ),
    *[
        Case(
            f"n = Shape<start=0, end=1>(x)  m = Slice(i, z, n, z)  u = Mul(v, v)  "
            f'y = ScatterElements<axis=1, reduction="{reduction}">(x, m, u)',
            {"x": (N, 5), "v": (N, 4)},
            lambda x, v, i, _, reduction=reduction: x.scatter_reduce(1, i[: len(x)], v * v, f"a{reduction}"),
            {"i": [[0, 3, 3, 4], [2, 2, 2, 2], [4, 0, 1, 0]], "z": [0]},
            draw=draw,
            note=note,
        )
        for reduction in ("max", "min")
        for draw, note in ((spaced, ""), (values(1.0, 0.0, 1.0, -1.0), "ties"))
    ],
    *[
        Case(
            f't = Transpose(x)  y = ScatterND<reduction="{reduction}">(t, i, u)',
            {"x": (N, 5), "u": (3, N)},
            lambda x, u, i, reduction=reduction: x.T.scatter_reduce(0, i.expand(-1, u.shape[1]), u, f"a{reduction}"),
            {"i": [[1], [3], [1]]},
            draw=draw,
            note=note,
        )
        for reduction in ("max", "min")
        for draw, note in ((spaced, ""), (values(1.0, 0.0, 1.0, -1.0), "ties"))
    ],
    *[
        Case(
            f'h = Shape<start=1, end=2>(x)  o = Div(h, h)  p = Concat<axis=0>(o, o)  y = Pad<mode="{mode}">(x, p, , a)',
            X,
            lambda x, _, torch_mode=torch_mode: F.pad(x[None], (0, 0, 1, 1), mode=torch_mode)[0],
            {"a": [1]},
            note="pads computed",
        )
        for mode, torch_mode in [("reflect", "reflect"), ("edge", "replicate")]
    ],
    Case(
        'y = Pad<mode="edge">(x, p)',
        X,
        lambda x, _: F.pad(x[..., :-1, 1:], (0, 3), mode="replicate"),
        {"p": [0, 0, -1, 0, -1, 3]},
        note="cropped",
    ),
    Case('y = Pad<mode="edge">(x, p)', X, lambda x, _: F.pad(x, (13, 8), mode="replicate"), {"p": [0, 0, 13, 0, 0, 8]}),
    Case("y = Compress<axis=-2>(x, c)", X, lambda x, c: x[:, c], {"c": np.array([True, False, True, True, False])}),
    Case(
        "r = Reshape(x, s)  c = Greater(r, z)  k = Compress(r, c)  y = Mul(k, k)",
        {"x": (1, 5)},
        lambda x, *_: x[x > 0] ** 2,
        {"s": [-1], "z": np.array(0, np.float32)},
        draw=values(-1.0, 2.0, 3.0, -0.5),
        note="condition computed",
    ),
    *[
        Case(
            f"y, i = TopK<axis={axis}, largest={largest}, sorted={ordered}>(x, k)",
            X,
            lambda x, k, axis=axis, largest=largest: x.topk(int(k), axis, bool(largest)).values,
            {"k": [3]},
            draw=spaced,
        )
        for axis in (1, -1)
        for largest in (0, 1)
        for ordered in (1,)
    ],
    *[
        Case(
            f"t, i = TopK<axis=1, largest={largest}, sorted=0>(x, k)  s = Mul(t, t)  y = ReduceSum<keepdims=0>(s, one)",
            X,
            lambda x, k, _, largest=largest: (x.topk(int(k), 1, bool(largest)).values ** 2).sum(1),
            {"k": [2], "one": [1]},
            draw=spaced,
            note="in any order",
        )
        for largest in (0, 1)
    ],
]
