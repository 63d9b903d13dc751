"""The table of cases, a module per family of rules."""

from tests.gradient.cases import activation, elementwise, index, linear, norm, pool, reduce, resize, shape

CASES = [
    case
    for family in (activation, elementwise, index, linear, norm, pool, reduce, resize, shape)
    for case in family.CASES
]
