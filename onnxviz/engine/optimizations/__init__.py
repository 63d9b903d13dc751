"""What is done for speed alone: named, each can be switched off, none changes a result beyond rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations import blocks, crops, masks, norms, pool_winners, splits
from onnxviz.errors import OptionError, nearest

SPREAD_SAMPLES = "spread_samples"


@dataclass(frozen=True)
class Optimization:
    """A rewrite of a cut graph before its session is made.

    Attributes:
        name: for ``load(…, optimize=[…])``.
        rewrite: changes the sketch in place; nothing where the optimisation is none of the graph's.
        everywhere: it helps, and holds, on other devices than the CPU and in float16, too.
    """

    name: str
    rewrite: Callable[[Sketch], None]
    everywhere: bool = False


OPTIMIZATIONS = (
    Optimization(SPREAD_SAMPLES, lambda _: None),
    Optimization("splits_in_weights", splits.in_weights, everywhere=True),
    Optimization("masks_before_splits", masks.before_splits, everywhere=True),
    Optimization("masks_before_pools", masks.before_pools, everywhere=True),
    Optimization("crops_in_convolutions", crops.in_convolutions, everywhere=True),
    Optimization("norms_in_weights", norms.in_weights, everywhere=True),
    Optimization("pool_winners", pool_winners.rewrite),
    Optimization("masks_in_blocks", blocks.masks),
)

NAMES = tuple(one.name for one in OPTIMIZATIONS)


def chosen(optimize: bool | Sequence[str], *, plain: bool) -> tuple[Optimization, ...]:  # noqa: FBT001 - the argument of load()
    """All, none, or those of these names, in the order in which they are applied.

    Args:
        optimize: as for :func:`onnxviz.load`.
        plain: whether float32 is computed on the CPU.

    Raises:
        OptionError: there is none of that name.
    """
    if isinstance(optimize, bool):
        optimize = NAMES if optimize else ()
    for name in optimize:
        if name not in NAMES:
            raise OptionError(f"optimize: there is no {name!r}{nearest(str(name), NAMES)} Known: {', '.join(NAMES)}")
    return tuple(one for one in OPTIMIZATIONS if one.name in optimize and (plain or one.everywhere))
