"""Random small graphs of mixed operators: the gradients of all inputs against PyTorch's in double precision.

Every value starts with the batch, which stays the first axis. A graph grows from its inputs one operator after another,
each of which takes any values that are there, so that some are shared and some are left unused. Long runs, with new
graphs every time: ``pytest --hypothesis-profile=long tests/gradient/test_random_graphs.py``.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st

from tests.gradient.harness import Differentiated, N, parse, relative_error, seeds_for
from tests.gradient.random_graph import Graph
from tests.gradient.random_steps import ANYWHERE, BEHIND_THE_BATCH, OF_IMAGES, Draw

BATCH = 3


@st.composite
def graphs(draw: Draw) -> tuple[Graph, list[str]]:
    """A graph, and which of its values are its outputs."""
    g = Graph()
    for shape in draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=3)):
        g.input(tuple(shape))
    for _ in range(draw(st.integers(4, 12))):
        x = draw(st.sampled_from(list(g.shapes)[-6:]))
        rank, size = len(g.shapes[x]), prod(g.shapes[x])
        large = rank > 3 or size > 200
        kinds = OF_IMAGES * (rank in {2, 3} and not large) + BEHIND_THE_BATCH * (rank > 0 and not large) + ANYWHERE
        draw(st.sampled_from(kinds))(draw, g, x)
    last = [name for name, _, _ in g.steps][-3:]
    assume(last)
    return g, draw(st.lists(st.sampled_from(last), min_size=1, unique=True))


@given(graphs(), st.integers(0, 2**16))
def test_gradients_of_a_random_graph(drawn: tuple[Graph, list[str]], seed: int):
    g, outputs = drawn
    note("\n".join([*(f"{name}: {shape}" for name, shape in g.inputs.items()), *g.statements, f"→ {outputs}"]))

    def feeds(batch: int, seed: int = seed) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal((batch, *s)).astype(np.float32) for name, s in g.inputs.items()}

    xs = feeds(BATCH)
    values = g.in_torch({name: torch.tensor(x) for name, x in xs.items()})
    seeds = seeds_for({y: values[y].numpy() for y in outputs})
    exact = by_torch(g, xs, seeds, torch.float64)
    assume(all(is_settled(g, xs, seeds, exact, noise) for noise in (1e-5, -1e-5)))
    shapes = {name: (N, *shape) for name, shape in g.inputs.items()}
    gradients = Differentiated(parse("\n".join(g.statements), shapes, g.constants, outputs=outputs), feeds)
    found_outputs = gradients.forward(xs)
    for name in outputs:
        assert relative_error(found_outputs[name], values[name].numpy()) < 1e-5, name
    _, _, found = gradients(xs)
    for name, expected in exact.items():
        assert relative_error(found.get(name, np.zeros_like(xs[name])), expected) < 1e-5, name


def by_torch(g: Graph, xs: dict, seeds: dict, dtype: torch.dtype) -> dict[str, np.ndarray]:
    leaves = {name: torch.tensor(x, dtype=dtype, requires_grad=True) for name, x in xs.items()}
    values = g.in_torch(leaves)
    total = sum((values[y] * torch.tensor(seed, dtype=dtype)).sum() for y, seed in seeds.items())
    found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return {name: grad.numpy() for name, grad in zip(leaves, found, strict=True)}


def is_settled(g: Graph, xs: dict, seeds: dict, exact: dict[str, np.ndarray], noise: float) -> bool:
    """Whether the gradient means something at these inputs in single precision: no kink is near, and PyTorch itself
    does not lose its digits there.
    """
    rng = np.random.default_rng(7)
    beside = {name: x + noise * rng.standard_normal(x.shape) for name, x in xs.items()}
    moved, single = by_torch(g, beside, seeds, torch.float64), by_torch(g, xs, seeds, torch.float32)
    return all(
        np.isfinite(expected).all()
        and np.abs(moved[name] - expected).max(initial=0) <= 1e-2 * np.abs(expected).max(initial=0)
        and np.abs(single[name] - expected).max(initial=0) <= 3e-6 * np.abs(expected).max(initial=0)
        for name, expected in exact.items()
    )
