from torch.nn import functional as F

from tests.gradient.harness import Case, N, positive, weights

STATISTICS = {"scale": weights(3), "bias": weights(3), "mean": weights(3), "var": weights(3) ** 2 + 0.1}

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
]
