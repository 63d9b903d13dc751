import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, values, weights

IMAGE = {"x": (N, 3, 4, 5)}
AWAY = values(-7.3, -3.4, -2.6, -1.2, -0.4, 0.3, 0.45, 0.7, 1.4, 2.8, 3.3, 6.4, 9.1)
SIX = {"a": np.array(0, np.float32), "b": np.array(6, np.float32)}
MASK = np.array([[True, False], [False, False], [True, True]])
AT_KINKS = values(-3.0, 0.0, 3.0, 6.0, -1.0, 1.0)

CASES = [
    Case("y = Relu(x)", IMAGE, F.relu),
    Case("y = Relu(x)", IMAGE, F.relu, draw=AT_KINKS, note="at kinks"),
    Case("y = LeakyRelu(x)", IMAGE, F.leaky_relu),
    Case("y = LeakyRelu(x)", IMAGE, F.leaky_relu, draw=AT_KINKS, note="at kinks"),
    Case("y = LeakyRelu<alpha=0.3>(x)", IMAGE, lambda x: F.leaky_relu(x, 0.3)),
    Case("y = LeakyRelu<alpha=0.0>(x)", IMAGE, lambda x: F.leaky_relu(x, 0.0)),
    Case("y = LeakyRelu<alpha=-0.5>(x)", IMAGE, lambda x: F.leaky_relu(x, -0.5)),
    Case("y = PRelu(x, s)", IMAGE, lambda x, s: F.prelu(x, s.flatten()), {"s": weights(3, 1, 1)}),
    Case("y = PRelu(x, s)", IMAGE, F.prelu, {"s": weights(1)}, draw=AT_KINKS, note="at kinks"),
    Case("y = Elu<alpha=0.7>(x)", IMAGE, lambda x: F.elu(x, 0.7), draw=AWAY),
    Case("y = Elu(x)", IMAGE, F.elu, draw=values(-900.0, -20.0, 0.0, 90.0, 900.0), note="far out"),
    Case("y = Selu(x)", IMAGE, F.selu, draw=AWAY),
    Case("y = Celu<alpha=0.6>(x)", IMAGE, lambda x: F.celu(x, 0.6), draw=AWAY),
    Case("y = ThresholdedRelu(x)", IMAGE, lambda x: F.threshold(x, 1.0, 0.0), draw=AWAY),
    Case("y = ThresholdedRelu<alpha=-0.5>(x)", IMAGE, lambda x: F.threshold(x, -0.5, 0.0), draw=AWAY),
    Case("y = Shrink(x)", IMAGE, lambda x: torch.where(x.abs() > 0.5, x, 0.0), draw=AWAY),
    Case("y = Shrink<lambd=1.3, bias=1.3>(x)", IMAGE, lambda x: F.softshrink(x, 1.3), draw=AWAY),
    Case("y = Clip(x, a, b)", IMAGE, lambda x, a, b: F.relu6(x), SIX, draw=AWAY, note="ReLU6"),
    Case("y = Clip(x, a, b)", IMAGE, lambda x, a, b: F.relu6(x), SIX, draw=AT_KINKS, note="ReLU6 at kinks"),
    Case("y = Clip(x, a)", IMAGE, lambda x, a: x.clamp(min=-0.5), {"a": np.array(-0.5, np.float32)}),
    Case("y = Clip(x, , b)", IMAGE, lambda x, b: x.clamp(max=0.5), {"b": np.array(0.5, np.float32)}),
    Case("y = Clip(x)", IMAGE, lambda x: x.clone()),
    Case("y = Sigmoid(x)", IMAGE, torch.sigmoid),
    Case("y = Tanh(x)", IMAGE, torch.tanh),
    Case("y = HardSigmoid<alpha=0.16666667, beta=0.5>(x)", IMAGE, F.hardsigmoid, draw=AWAY),
    Case("y = HardSigmoid(x)", IMAGE, lambda x: (0.2 * x + 0.5).clamp(0, 1), draw=AWAY),
    Case("y = HardSwish(x)", IMAGE, F.hardswish, draw=AWAY),
    Case("y = HardSwish(x)", IMAGE, F.hardswish, draw=AT_KINKS, note="at kinks"),
    Case("y = Softplus(x)", IMAGE, F.softplus, draw=AWAY),
    Case("y = Softsign(x)", IMAGE, F.softsign),
    Case("y = Mish(x)", IMAGE, F.mish, draw=AWAY),
    Case("y = Softmax<axis=1>(x)", IMAGE, lambda x: x.softmax(1)),
    Case("y = Softmax(x)", {"x": (N, 7)}, lambda x: x.softmax(-1)),
    Case(
        "h = Where(m, x, low)  s = Softmax(h)  n = IsNaN(s)  y = Where(n, zero, s)",
        {"x": (N, 3, 2)},
        lambda x, m, low, zero: torch.where(m.any(-1, keepdim=True), torch.where(m, x, low).softmax(-1), 0.0),
        {"m": MASK, "low": np.array(-np.inf, np.float32), "zero": np.array(0, np.float32)},
        note="a row masked",
    ),
    Case("y = Softmax<axis=-2>(x)", IMAGE, lambda x: x.softmax(-2)),
    Case("y = LogSoftmax(x)", {"x": (N, 7)}, lambda x: x.log_softmax(-1)),
    Case("y = LogSoftmax<axis=1>(x)", IMAGE, lambda x: x.log_softmax(1)),
]
