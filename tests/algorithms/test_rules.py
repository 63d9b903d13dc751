"""The optimisers against their formulas in numpy, over several steps, and what float32 alone would lose."""

from __future__ import annotations

import numpy as np
import pytest

from onnxviz.algorithms.canvas import Canvas
from onnxviz.algorithms.rules import Rule
from onnxviz.errors import OptionError
from tests.algorithms.appended import appended
from tests.algorithms.ascent_in_numpy import Steps
from tests.support import assert_close, normal

CANVAS = Canvas((3,), (5, 4), (0, 1, 2, 3))
NAMES = ("normalized", "plain", "rmsprop", "adam")


def moves(name, gradients, rate=0.3):
    """What the nodes add at each step."""
    rule, state = Rule(name, rate), {}
    for moment in rule.moments:
        state[moment] = np.zeros(gradients[0].shape)
    for step, gradient in enumerate(gradients, 1):

        def build(add):
            move, moments = rule.move(add, "gradient", CANVAS)
            return [move, *(moments[moment] for moment in rule.moments)]

        move, *moments = appended(build, gradient=gradient, **state, **rule.fed(step))
        state = dict(zip(rule.moments, moments, strict=True))
        yield move


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("name", NAMES)
def test_moves_are_the_formulas(name, size):
    """Also of gradients whose squares float32 does not hold."""
    gradients = [size * normal(2, 3, 5, 4, seed=seed) for seed in range(4)]
    steps = Steps(name, 0.3)
    for move, gradient in zip(moves(name, gradients), gradients, strict=True):
        assert_close(move, steps.move(gradient.astype(np.float64)), 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_is_no_move(name):
    gradient = normal(2, 3, 5, 4)
    gradient[1] = 0
    (move,) = moves(name, [gradient])
    assert move[0].any()
    assert not move[1].any()


@pytest.mark.parametrize(
    ("name", "rate", "named"), [("sgd", 1, "'sgd'"), ("plain", 0.0, "=0.0"), ("adam", "1", "='1'")]
)
def test_refusals(name, rate, named):
    with pytest.raises(OptionError, match=named):
        Rule(name, rate)
