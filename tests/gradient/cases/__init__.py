"""The table of cases, a module per family of rules."""

from tests.gradient.cases import (
    activation,
    elementwise,
    index,
    linear,
    norm,
    pool,
    quantise,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    signal,
    trigonometry,
)

FAMILIES = (
    activation,
    elementwise,
    index,
    linear,
    norm,
    pool,
    quantise,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    signal,
    trigonometry,
)
CASES = [case for family in FAMILIES for case in family.CASES]
