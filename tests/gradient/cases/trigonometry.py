import torch

from tests.gradient.harness import Case, N, values

X = {"x": (N, 3, 4)}
ANY = values(-3.1, -1.2, -0.4, 0.0, 0.3, 0.9, 2.2)
INSIDE = values(-0.95, -0.6, -0.1, 0.0, 0.4, 0.8, 0.99)
BEYOND = values(1.01, 1.4, 2.0, 7.0, 40.0)

CASES = [
    Case(f"y = {name}(x)", X, getattr(torch, name.lower()), draw=draw)
    for names, draw in [
        (("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh"), ANY),
        (("Asin", "Acos", "Atanh"), INSIDE),
        (("Acosh",), BEYOND),
    ]
    for name in names
]
