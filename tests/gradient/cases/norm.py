from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, normal, positive, weights

STATISTICS = {"scale": weights(3), "bias": weights(3), "mean": weights(3), "var": weights(3) ** 2 + 0.1}


def standardised(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    return (x - x.mean(axes, keepdim=True)) / x.std(axes, correction=0, keepdim=True)


def zero_rows(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Every second row is zero."""
    x = normal(rng, shape)
    x[:, ::2] = 0
    return x


CASES = [
    *[
        Case(
            "y = BatchNormalization<epsilon=0.001>(x, scale, bias, mean, var)",
            {"x": shape},
            lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, eps=0.001),
            STATISTICS,
        )
        for shape in [(N, 3), (N, 3, 5), (N, 3, 4, 5)]
    ],
    Case(
        "y = InstanceNormalization(x, s, b)",
        {"x": (N, 3, 4, 5)},
        lambda x, s, b: F.instance_norm(x, weight=s, bias=b),
        {"s": weights(3), "b": weights(3)},
    ),
    Case(
        "y = LayerNormalization(x, s, b)",
        {"x": (N, 4, 6)},
        lambda x, s, b: F.layer_norm(x, (6,), s, b),
        {"s": weights(6), "b": weights(6)},
    ),
    Case(
        "y = LayerNormalization<axis=1, epsilon=0.01>(x, s)",
        {"x": (N, 4, 6)},
        lambda x, s: F.layer_norm(x, (4, 6), s, eps=0.01),
        {"s": weights(4, 6)},
    ),
    Case("y = LpNormalization<axis=1>(x)", {"x": (N, 4, 3)}, lambda x: F.normalize(x, dim=1), draw=positive),
    Case(
        "y = LRN<size=3, alpha=0.5, beta=0.6, bias=1.5>(x)",
        {"x": (N, 5, 3, 2)},
        lambda x: F.local_response_norm(x, 3, 0.5, 0.6, 1.5),
    ),
    Case("y = LRN<size=5, alpha=0.5>(x)", {"x": (N, 4, 7, 1)}, lambda x: F.local_response_norm(x, 5, 0.5, 0.75, 1.0)),
    *[
        Case(
            f"y = GroupNormalization<num_groups={groups}, epsilon=0.01>(x, s, b)",
            {"x": (N, 6, *spatial)},
            lambda x, s, b, g=groups: F.group_norm(
                x, g, s.repeat_interleave(6 // g), b.repeat_interleave(6 // g), eps=0.01
            ),
            {"s": weights(groups), "b": weights(groups)},
        )
        for groups in (1, 2, 6)
        for spatial in [(5,), (3, 4), (2, 3, 2)]
    ],
    *[
        Case(
            f"y = MeanVarianceNormalization{given}(x)",
            {"x": shape},
            lambda x, axes=axes: standardised(x, axes),
        )
        for given, axes, shape in [
            ("", [0, 2, 3], (N, 3, 4, 5)),
            ("<axes=[1]>", [1], (N, 5, 2, 3)),
            ("<axes=[-1, 1]>", [-1, 1], (N, 4, 3)),
            ("<axes=[1, 2, 3]>", [1, 2, 3], (N, 3, 4, 5)),
        ]
    ],
    Case("y = LpNormalization<p=1, axis=-2>(x)", {"x": (N, 4, 3)}, lambda x: F.normalize(x, p=1, dim=-2)),
    Case(
        "y = LpNormalization(x)",
        {"x": (N, 2, 3)},
        lambda x: torch.where(x == 0, 0.0, F.normalize(torch.where(x == 0, 1.0, x), dim=-1)),
        draw=zero_rows,
        note="zeros",
    ),
]
