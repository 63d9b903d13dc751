import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N

X = {"x": (N, 3, 4)}
DEPTH = {"x": (N, 12, 2, 3)}


def rolled(x: torch.Tensor, block: int) -> torch.Tensor:
    """SpaceToDepth: the position in the block goes before the channel."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // block, block, w // block, block)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block, w // block)


def reversed_parts(x: torch.Tensor, batch: int) -> torch.Tensor:
    """Of the first, second and third sample the first 2, 4 and 1 elements, turned round."""
    samples = zip(x.unbind(batch), (2, 4, 1), strict=False)
    return torch.stack([torch.cat([sample[:n].flip(0), sample[n:]]) for sample, n in samples], batch)


CASES = [
    Case("y = Reshape(x, s)", X, lambda x, _: x.reshape(-1, 12), {"s": [-1, 12]}),
    Case("y = Reshape(x, s)", X, lambda x, _: x.reshape(-1, 2, 2, 3), {"s": [0, 2, 2, 3]}),
    Case("y = Reshape(x, s)", X, lambda x, _: x.reshape(-1, 4), {"s": [-1, 4]}),
    Case("y = Reshape<allowzero=1>(x, s)", X, lambda x, _: x.reshape(-1, 2, 6), {"s": [-1, 2, 6]}),
    Case("y = Flatten(x)", X, lambda x: x.flatten(1)),
    Case("y = Flatten<axis=2>(x)", X, lambda x: x.reshape(-1, 4)),
    Case("y = Flatten<axis=-1>(x)", X, lambda x: x.reshape(-1, 4)),
    Case("y = Squeeze(x, a)", {"x": (N, 3, 1, 1)}, lambda x, _: x.flatten(1), {"a": [2, -1]}),
    Case("y = Unsqueeze(x, a)", X, lambda x, _: x[:, None, ..., None], {"a": [1, -1]}),
    Case("y = Transpose<perm=[2,0,1]>(x)", X, lambda x: x.permute(2, 0, 1)),
    Case("y = Transpose(x)", X, lambda x: x.permute(2, 1, 0)),
    Case('y = DepthToSpace<blocksize=2, mode="CRD">(x)', DEPTH, lambda x: F.pixel_shuffle(x, 2)),
    Case(
        "y = DepthToSpace<blocksize=2>(x)",
        DEPTH,
        lambda x: F.pixel_shuffle(x.reshape(-1, 4, 3, 2, 3).transpose(1, 2).reshape(-1, 12, 2, 3), 2),
    ),
    Case("y = SpaceToDepth<blocksize=2>(x)", {"x": (N, 3, 4, 6)}, lambda x: rolled(x, 2)),
    Case("y = Concat<axis=1>(a, b, c)", {"a": (N, 3, 4), "b": (N, 1, 4), "c": (N, 2, 4)}, lambda *xs: torch.cat(xs, 1)),
    Case("y = Concat<axis=0>(a, b)", {"a": (N, 3), "b": (2, 3)}, lambda a, b: torch.cat([a, b])),
    Case("y = Concat<axis=1>(x, x)", X, lambda x: torch.cat([x, x], 1)),
    Case("y = Concat<axis=1>(x)", X, lambda x: x.clone()),
    Case("a, b = Split<axis=1, num_outputs=2>(x)  y = Mul(b, a)", {"x": (N, 4, 3)}, lambda x: x[:, 2:] * x[:, :2]),
    Case(
        "a, b, c = Split<axis=-1>(x, s)  y = Mul(c, c)",
        X,
        lambda x, _: x[..., 3:] ** 2,
        {"s": [1, 2, 1]},
        note="two pieces unused",
    ),
    Case(
        "a, b = Split<axis=1, num_outputs=2>(x)  y = Concat<axis=1>(b, a)",
        X,
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
        note="unequal",
    ),
    Case("y = Expand(x, s)", {"x": (N, 1, 4)}, lambda x, _: x.expand(-1, 3, 4), {"s": [1, 3, 4]}),
    Case("y = Expand(x, s)", {"x": (N, 4)}, lambda x, _: x.expand(2, -1, 4), {"s": [2, 1, 4]}),
    Case(
        "s = Shape(v)  y0 = Expand(x, s)  y = Mul(y0, v)",
        {"x": (1, 3, 4), "v": (N, 3, 4)},
        lambda x, v: x * v,
        note="a token for each sample",
    ),
    Case("y = Tile(x, r)", X, lambda x, _: x.tile(1, 2, 3), {"r": [1, 2, 3]}),
    Case("y = Tile(x, r)", X, lambda x, _: x.tile(2, 1, 1), {"r": [2, 1, 1]}),
    Case(
        "n = Shape<start=0, end=1>(v)  r = Concat<axis=0>(n, one)  t = Tile(x, r)  y = Mul(t, v)",
        {"x": (1, 3), "v": (N, 3)},
        lambda x, v, _: x * v,
        {"one": [1]},
        note="repeats computed",
    ),
    *[
        Case(
            f"n = Shape<start={batch}, end={batch + 1}>(x)  m = Slice(l, z, n, z)  "
            f"y = ReverseSequence<time_axis={1 - batch}, batch_axis={batch}>(x, m)",
            {"x": shape},
            lambda x, *_, batch=batch: reversed_parts(x, batch),
            {"l": [2, 4, 1], "z": [0]},
        )
        for batch, shape in [(0, (N, 4, 2)), (1, (4, N))]
    ],
    *[
        Case(
            f"y = Trilu<upper={upper}>(x{', k' * (k is not None)})",
            {"x": (N, 4, 5)},
            lambda x, k=0, upper=upper: (torch.triu if upper else torch.tril)(x, int(k)),
            {} if k is None else {"k": np.array(k)},
        )
        for upper in (0, 1)
        for k in (None, -2, 1, 7)
    ],
    *[
        Case("y = CenterCropPad<axes=[-1, 1]>(x, s)", {"x": (N, 5, 6)}, None, {"s": sizes})
        for sizes in ([3, 5], [9, 6], [5, 2], [8, 8], [1, 11])
    ],
    Case(
        "h = Shape<start=0, end=1>(x)  t = Concat<axis=0>(h, s)  y = CenterCropPad(x, t)",
        {"x": (N, 5, 6)},
        None,
        {"s": [8, 3]},
    ),
    Case(
        "y = Col2Im(x, i, b)",
        {"x": (N, 2 * 6, 4 * 4)},
        lambda x, i, b: F.fold(x, (5, 6), (2, 3)),
        {"i": [5, 6], "b": [2, 3]},
    ),
    Case(
        "y = Col2Im<strides=[2,1], dilations=[1,2], pads=[1,2,1,2]>(x, i, b)",
        {"x": (N, 2 * 6, 3 * 6)},
        lambda x, i, b: F.fold(x, (5, 6), (2, 3), (1, 2), (1, 2), (2, 1)),
        {"i": [5, 6], "b": [2, 3]},
    ),
    Case(
        "y = Col2Im<strides=[2,1], pads=[0,2,1,0]>(x, i, b)",
        {"x": (N, 4, 3 * 6)},
        None,
        {"i": [5, 5], "b": [2, 2]},
    ),
    Case("y = Col2Im<strides=[2], pads=[1,0]>(x, i, b)", {"x": (N, 2 * 3, 4)}, None, {"i": [8], "b": [3]}),
]
