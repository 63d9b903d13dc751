import numpy as np
import torch

from tests.gradient.harness import Case, N, positive, values, weights

X = {"x": (N, 3, 4)}
TWO = {"a": (N, 3, 4), "b": (N, 3, 4)}
COLUMN = {"a": (N, 3, 4), "b": (N, 1, 4)}
OUTER = {"a": (N, 1, 4), "b": (N, 3, 1)}


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


CASES = [
    Case("y = Identity(x)", X, lambda x: x.clone()),
    Case("d = Cast<to=11>(x)  y = Cast<to=1>(d)", X, lambda x: x.clone()),
    Case("y = Cast<to=1>(x)", X, lambda x: x.clone()),
    Case("d = Cast<to=11>(x)  e = CastLike(d, x)  y = CastLike(e, x)", X, lambda x: x.clone()),
    Case("y = Dropout(x)", X, lambda x: x.clone()),
    Case("y, mask = Dropout<seed=3>(x, r, t)", X, lambda x, *_: x.clone(), {"r": scalar(0.5), "t": np.array(False)}),
    Case("y = Exp(x)", X, torch.exp),
    Case("y = Log(x)", X, torch.log, draw=positive),
    Case("y = Neg(x)", X, torch.neg),
    Case("y = Abs(x)", X, torch.abs),
    Case("y = Abs(x)", X, torch.abs, draw=values(0.0, 1.0, -1.0), note="at kinks"),
    Case("y = Sqrt(x)", X, torch.sqrt, draw=positive),
    Case("y = Reciprocal(x)", X, torch.reciprocal, draw=positive),
    Case("y = Erf(x)", X, torch.erf),
    *[
        Case(f"y = {name}(a, b)", inputs, function, draw=positive)
        for name, function in {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}.items()
        for inputs in (TWO, COLUMN, OUTER)
    ],
    Case("y = Add(x, b)", {"x": (N, 3, 4), "b": (3, 4)}, torch.add),
    Case("y = Mul(b, x)", {"b": (4,), "x": (N, 3, 4)}, torch.mul),
    Case("y = Mul(x, b)", {"x": (N, 3, 4), "b": ()}, torch.mul),
    Case("y = Sub(c, x)", X, lambda x, c: c - x, {"c": weights(3, 1)}),
    Case("y = Mul(x, x)", X, lambda x: x * x),
    Case("r = Relu(x)  s = Mul(r, x)  y = Add(s, r)", X, lambda x: x.relu() * x + x.relu(), note="fan-out"),
    *[
        Case("y = Pow(x, p)", X, lambda x, p: x**p, {"p": scalar(p)}, draw=draw, note=f"p={p}")
        for p, draw in [
            (2, values(-1.5, 0.0, 0.7)),
            (3, values(-1.5, 0.0, 0.7)),
            (0.5, positive),
            (-1.5, positive),
            (1, values(-1.5, 0.0, 0.7)),
            (0, values(-1.5, 0.0, 0.7)),
        ]
    ],
    Case("y = Pow(x, p)", X, lambda x, p: x**p, {"p": [2]}, note="integer exponent"),
    Case("y = Pow(a, b)", TWO, torch.pow, draw=positive),
    Case("y = Pow(a, b)", OUTER, torch.pow, draw=positive),
    Case(
        "y = Pow(x, p)",
        X,
        lambda x, p: x**p,
        {"p": np.array([0, 1, 2, 3], np.float32)},
        draw=values(-1.5, 0.0, 0.7),
        note="an exponent per column",
    ),
    Case("c = Greater(a, b)  y = Where(c, a, b)", TWO, torch.maximum),
    Case("c = Greater(a, z)  y = Where(c, a, b)", COLUMN, lambda a, b, z: torch.where(a > 0, a, b), {"z": scalar(0)}),
    Case("y = Max(a, b)", TWO, torch.maximum),
    Case("y = Max(a, b)", OUTER, torch.maximum),
    Case("y = Min(a, b)", TWO, torch.minimum),
    Case("y = Max(a, b)", TWO, torch.maximum, draw=values(0.0, 1.0), note="ties"),
    Case("y = Max(a, b, c)", {**TWO, "c": (N, 3, 1)}, lambda *xs: torch.stack(torch.broadcast_tensors(*xs)).amax(0)),
    Case(
        "y = Min(a, b, c)",
        {**TWO, "c": (N, 3, 1)},
        lambda *xs: torch.stack(torch.broadcast_tensors(*xs)).amin(0),
        draw=values(0.0, 1.0),
        note="ties",
    ),
    Case("y = Max(x)", X, lambda x: x.clone()),
    Case("y = Mod<fmod=1>(a, b)", TWO, torch.fmod, draw=values(7.3, -2.1, 0.9, -5.6, 3.2)),
    Case("y = Mod<fmod=1>(a, b)", OUTER, torch.fmod, draw=values(7.3, -2.1, 0.9, -5.6, 3.2)),
    Case("y = Sum(a, b, c)", {**COLUMN, "c": (N, 3, 1)}, lambda a, b, c: a + b + c),
    Case("y = Mean(a, b, c)", {**COLUMN, "c": (N, 3, 1)}, lambda a, b, c: (a + b + c) / 3),
]
