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
]
