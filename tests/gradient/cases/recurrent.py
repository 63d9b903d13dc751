"""ONNX's recurrent layers, written out step by step in PyTorch."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, N, weights

STEPS, INPUT, HIDDEN = 5, 3, 4
LENGTHS = [3, 5, 2]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Relu": torch.relu,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "Affine": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "Elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "Softplus": F.softplus,
    "Softsign": F.softsign,
}
Functions = Sequence[Callable[[torch.Tensor], torch.Tensor]]


def rnn(x, h, c, w, r, b, _peepholes, f: Functions, _before_reset):
    return f[0](x @ w.T + h @ r.T + b[0] + b[1]), c


def gru(x, h, c, w, r, b, _peepholes, f: Functions, linear_before_reset: bool):
    (wz, wr, wh), (rz, rr, rh) = w.chunk(3), r.chunk(3)
    bz, br, bh = b.reshape(2, 3, -1).unbind(1)
    z = f[0](x @ wz.T + h @ rz.T + bz.sum(0))
    r = f[0](x @ wr.T + h @ rr.T + br.sum(0))
    past = r * (h @ rh.T + bh[1]) if linear_before_reset else (r * h) @ rh.T + bh[1]
    return (1 - z) * f[1](x @ wh.T + past + bh[0]) + z * h, c


def lstm(x, h, c, w, r, b, p, f: Functions, _before_reset):
    i, o, q, v = (x @ w.T + h @ r.T + b.sum(0)).chunk(4, -1)
    pi, po, pq = p.chunk(3)
    c = f[0](q + pq * c) * c + f[0](i + pi * c) * f[1](v)
    return f[0](o + po * c) * f[2](c), c


CELLS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def run(cell, given: dict[str, torch.Tensor], rows: int, functions: Functions, direction: str, before_reset: bool):
    """Y, Y_h and Y_c of ONNX; a sample that has ended keeps its state and gives out zeros."""
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    x, batch = given["x"], given["x"].shape[1]
    lengths = given["lengths"][:batch] if "lengths" in given else torch.full((batch,), STEPS)
    zeros = torch.zeros(len(turns), batch, HIDDEN)
    bias, peepholes = torch.zeros(len(turns), 2 * rows // len(turns) * HIDDEN), torch.zeros(len(turns), 3 * HIDDEN)
    outputs = []
    for k, backwards in enumerate(turns):
        defaults = {"b": bias, "p": peepholes, "h": zeros, "c": zeros}
        b, p, h, c = (given.get(name, default)[k] for name, default in defaults.items())
        f = functions[len(functions) // len(turns) * k :]
        ys = [torch.zeros_like(h)] * STEPS
        for t in reversed(range(STEPS)) if backwards else range(STEPS):
            here = (t < lengths)[:, None]
            new = cell(x[t], h, c, given["w"][k], given["r"][k], b.reshape(2, -1), p, f, before_reset)
            h, c = (torch.where(here, a, old) for a, old in zip(new, (h, c), strict=True))
            ys[t] = torch.where(here, h, 0)
        outputs.append((torch.stack(ys), h, c))
    y, h, c = zip(*outputs, strict=True)
    return torch.stack(y, 1), torch.stack(h), torch.stack(c)


def case(
    operator: str,
    outputs: str = "y",
    *,
    direction: str = "forward",
    activations: Sequence[str] = (),
    attributes: str = "",
    optional: str = "",
) -> Case:
    """A recurrent layer with y one of its outputs, or their sum.

    Args:
        operator: RNN, GRU or LSTM.
        outputs: as in ONNX text.
        direction: forward, reverse or bidirectional.
        activations: those of one direction, with α and β in brackets.
        attributes: further ones.
        optional: which inputs it has beside x, W and R: b(ias), l(engths), h(idden state), c(ell state), p(eepholes).
    """
    d, g = 2 if direction == "bidirectional" else 1, GATES[operator]
    inputs = {"x": (STEPS, N, INPUT)} | {name: (d, N, HIDDEN) for name in "hc" if name in optional}
    constants: dict = {"w": weights(d, g * HIDDEN, INPUT), "r": weights(d, g * HIDDEN, HIDDEN, seed=8) / 2}
    constants |= {"b": weights(d, 2 * g * HIDDEN, seed=9)} if "b" in optional else {}
    constants |= {"p": weights(d, 3 * HIDDEN, seed=10)} if "p" in optional else {}
    constants |= {"lengths": LENGTHS, "zero": [0]} if "l" in optional else {}

    def in_torch(*values: torch.Tensor) -> torch.Tensor:
        y, h, c = run(
            CELLS[operator],
            dict(zip([*inputs, *constants], values, strict=True)),
            d * g,
            [called(each) for each in (activations or DEFAULTS[operator])] * d,
            direction,
            "linear_before_reset=1" in attributes,
        )
        return {"y": y, "_, y": h, "_, _, y": c, "s, h1": y + h, "s, h1, c1": y + h + c, "_, h1, c1": h + c}[outputs]

    code = written(operator, outputs, direction, list(activations) * d, attributes, optional)
    return Case(code, inputs, in_torch, constants)


def called(activation: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """``HardSigmoid(0.1, 0.4)`` as a function."""
    name, _, parameters = activation.rstrip(")").partition("(")
    numbers = [float(number) for number in parameters.split(",") if number]
    return lambda x: FUNCTIONS[name](x, *numbers)


def written(operator: str, outputs: str, direction: str, activations: list[str], attributes: str, optional: str) -> str:
    """The layer in ONNX text."""
    parts = [a.rstrip(")").partition("(") for a in activations]
    numbers = [[float(n) for n in p.split(",") if n] for _, _, p in parts]
    given = [f"hidden_size={HIDDEN}", f'direction="{direction}"', *([attributes] if attributes else [])]
    if activations:
        given.append("activations=[" + ", ".join(f'"{name}"' for name, _, _ in parts) + "]")
    for i, kind in enumerate(("alpha", "beta")):
        if values := [n[i] for n in numbers if len(n) > i]:
            given.append(f"activation_{kind}={values}")
    names = ["b", "l", "h", "c", "p"][: 5 if operator == "LSTM" else 3]
    operands = ", ".join(["x, w, r", *(name if name in optional else "" for name in names)]).rstrip(", ")
    before = (
        "n = Shape<start=1, end=2>(x)  m = Slice(lengths, zero, n, zero)  l = Cast<to=6>(m)  "
        if "l" in optional
        else ""
    )
    left = outputs.replace("_,", '"",')
    after = {
        "s, h1": "  y = Add(s, h1)",
        "s, h1, c1": "  t = Add(s, h1)  y = Add(t, c1)",
        "_, h1, c1": "  y = Add(h1, c1)",
    }
    return f"{before}{left} = {operator}<{', '.join(given)}>({operands}){after.get(outputs, '')}"


CASES = [
    *[
        case(operator, direction=direction, optional=optional)
        for operator in GATES
        for direction in ("forward", "reverse", "bidirectional")
        for optional in ("", "bhc" if operator == "LSTM" else "bh", "bl")
    ],
    *[
        case(operator, outputs, direction="bidirectional", optional=optional + "c" * (operator == "LSTM"))
        for operator in GATES
        for outputs in ("_, y", "s, h1")
        for optional in ("bh", "bhl")
    ],
    *[
        case("LSTM", outputs, direction=direction, optional=optional)
        for outputs in ("_, _, y", "s, h1, c1", "_, h1, c1")
        for direction, optional in [("forward", "bhcp"), ("bidirectional", "blhcp"), ("reverse", "")]
    ],
    *[
        case("GRU", outputs, direction=direction, optional=optional, attributes="linear_before_reset=1")
        for outputs, direction, optional in [
            ("y", "forward", "bh"),
            ("y", "reverse", ""),
            ("s, h1", "bidirectional", "blh"),
        ]
    ],
    *[
        case("RNN", activations=[activation], optional="bh")
        for activation in [
            "Relu",
            "HardSigmoid",
            "HardSigmoid(0.1,0.4)",
            "Affine(0.7,0.1)",
            "LeakyRelu",
            "LeakyRelu(0.3)",
            "Elu",
            "Elu(0.6)",
            "Softplus",
            "Softsign",
        ]
    ],
    case(
        "LSTM",
        activations=["HardSigmoid(0.3,0.4)", "Tanh", "Affine(0.5,0.2)"],
        direction="bidirectional",
        optional="bhc",
    ),
    case("GRU", activations=["HardSigmoid", "Relu"], direction="bidirectional", optional="bh"),
]
