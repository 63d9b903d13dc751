import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, values

X = {"x": (N, 3, 4)}
TWICE = "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)"
AWAY = values(-5.033, -1.277, -0.523, -0.113, 0.024, 0.333, 0.713, 1.243, 2.066, 9.133)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


CASES = [
    *[
        Case(
            TWICE,
            X,
            lambda x, s, z, low=limits.min, high=limits.max: torch.fake_quantize_per_tensor_affine(
                x, float(s), int(z), int(low), int(high)
            ),
            {"s": scalar(0.02), "z": np.array(zero, dtype)},
            draw=AWAY,
            note=np.dtype(dtype).name,
        )
        for dtype, zero in [(np.int8, -10), (np.uint8, 128)]
        for limits in [np.iinfo(dtype)]
    ],
    *[
        Case(
            f"q = QuantizeLinear<axis={axis}>(x, s, z)  t = Reshape(q, h)  r = Reshape(t, g)  "
            f"y = DequantizeLinear<axis={axis}>(r, s, z)",
            X,
            lambda x, s, z, *_: torch.fake_quantize_per_channel_affine(x, s, z.int(), 1, -128, 127),
            {
                "s": np.array([0.02, 0.01, 0.05], np.float32),
                "z": np.array([-10, 3, 0], np.int8),
                "h": [-1, 12],
                "g": [-1, 3, 4],
            },
            draw=AWAY,
            note="per channel, reshaped between",
        )
        for axis in (1, -2)
    ],
    Case(
        "q = QuantizeLinear(x, s)  y = DequantizeLinear(q, t)",
        X,
        lambda x, s, t: torch.fake_quantize_per_tensor_affine(x, float(s), 0, 0, 255) * 2,
        {"s": scalar(0.02), "t": scalar(0.04)},
        draw=AWAY,
        note="no zero point",
    ),
    Case(
        "q = QuantizeLinear(x, s)  c = Cast<to=1>(q)  y = Mul(c, s)",
        X,
        lambda x, s: torch.fake_quantize_per_tensor_affine(x, float(s), 0, 0, 255),
        {"s": scalar(0.02)},
        draw=AWAY,
        note="taken up as a float",
    ),
    Case(
        "q = QuantizeLinear(x, s)  p = MaxPool<kernel_shape=[2]>(q)  t = Transpose<perm=[0,2,1]>(p)  "
        "c = Concat<axis=1>(t, t)  y = DequantizeLinear(c, s)",
        X,
        lambda x, s: F.max_pool1d(torch.fake_quantize_per_tensor_affine(x, float(s), 0, 0, 255), 2, 1).mT.repeat(
            1, 2, 1
        ),
        {"s": scalar(0.02)},
        draw=values(1.243, 0.024, 4.713, 2.066, 3.333, 0.523),
        note="data moved between",
    ),
]
