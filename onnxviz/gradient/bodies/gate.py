"""The activations inside recurrent layers, whose derivatives are functions of their values."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxviz.gradient.body import BodyOps


@dataclass(frozen=True)
class Activation:
    """One of the functions that ONNX's recurrent operators name, with its parameters."""

    name: str
    alpha: float
    beta: float

    def __call__(self, op: BodyOps, x: ir.Value) -> ir.Value:
        """Its value at x."""
        if self.name == "Affine":
            return op.Add(op.Mul(x, self.alpha), self.beta)
        given = {"HardSigmoid": {"alpha": self.alpha, "beta": self.beta}}
        parameters = given.get(self.name, {"alpha": self.alpha} if self.name in {"LeakyRelu", "Elu"} else {})
        return op.emit(self.name, [x], parameters)[0]

    def slope(self, op: BodyOps, y: ir.Value) -> ir.Value:
        """Its derivative where its value is y; LeakyRelu's and Elu's α must not be negative."""
        one, zero = op.number(1.0, y), op.number(0.0, y)
        match self.name:
            case "Sigmoid":
                return op.Mul(y, op.Sub(one, y))
            case "Tanh":
                return op.Sub(one, op.Mul(y, y))
            case "Relu":
                return op.Where(op.Greater(y, 0.0), one, zero)
            case "HardSigmoid":
                return op.Where(op.And(op.Greater(y, 0.0), op.Less(y, 1.0)), op.number(self.alpha, y), zero)
            case "Affine":
                return op.Expand(op.number(self.alpha, y), op.Shape(y))
            case "LeakyRelu":
                return op.Where(op.Greater(y, 0.0), one, op.number(self.alpha, y))
            case "Elu":
                return op.Where(op.Greater(y, 0.0), one, op.Add(y, self.alpha))
            case "Softplus":
                return op.Sub(one, op.Exp(op.Neg(y)))
            case "Softsign":
                distance = op.Sub(one, op.Abs(y))
                return op.Mul(distance, distance)
        raise AssertionError(self.name)


ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(("Sigmoid", "Tanh", "Relu", "Softplus", "Softsign"), (None, None)),
    "HardSigmoid": (0.2, 0.5),
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "Elu": (1.0, None),
}
"""The activations that have a gradient, with the defaults of those of α and β that they take."""
