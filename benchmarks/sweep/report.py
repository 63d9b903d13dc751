"""The line of a model, and the table that stands in README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.sweep.outcome import Agreement, Outcome

HEADS = (
    "family",
    "models",
    "layers",
    "worst layer value",
    "input gradient",
    "a middle layer's",
    "compared with",
    "not passed",
)


def line(outcome: Outcome) -> str:
    """What a sweep says when a model has had its turn."""
    if outcome.status != "passed":
        return f"{outcome.key}: {outcome.status}, {outcome.reason} ({outcome.seconds:.0f} s)"
    return (
        f"{outcome.key}: {outcome.layers} layers, values within {outcome.values:.1e}; gradient "
        f"{_figures(outcome.gradient)}; of a middle layer {_figures(outcome.middle)} ({outcome.seconds:.0f} s)"
    )


def _figures(agreement: Agreement | None) -> str:
    assert agreement is not None, "a model that passed was compared"
    at = f" at {agreement.layer}" if agreement.layer else ""
    return f"within {agreement.largest:.1e}, median {agreement.median:.1e}, by {agreement.by}{at}"


def table(outcomes: Sequence[Outcome]) -> str:
    """A row per family, in Markdown; what has not passed stands in its family's row with the reason."""
    families = dict.fromkeys(outcome.family for outcome in outcomes)
    rows = [_row(family, [each for each in outcomes if each.family == family]) for family in families]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEADS, ["---"] * len(HEADS), *rows))


def _row(family: str, outcomes: Sequence[Outcome]) -> list[str]:
    passed = [each for each in outcomes if each.status == "passed"]
    rest = [f"{each.name}: {each.reason}" for each in outcomes if each.status != "passed"]
    counts = [each.layers for each in passed]
    return [
        family,
        f"{len(passed)} of {len(outcomes)}" if rest else str(len(passed)),
        f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else "".join(map(str, set(counts))),
        f"{max(each.values for each in passed):.1e}" if passed else "",
        _worst(each.gradient for each in passed),
        _worst(each.middle for each in passed),
        _methods(passed),
        "; ".join(rest).replace("|", "\\|") or "–",
    ]


def _worst(agreements: Iterable[Agreement | None]) -> str:
    found = [each for each in agreements if each is not None]
    if not found:
        return ""
    return f"{max(each.largest for each in found):.1e}, median {max(each.median for each in found):.1e}"


def _methods(outcomes: Iterable[Outcome]) -> str:
    """How many models' input gradients were compared in which way, the most frequent first."""
    counts = Counter(outcome.gradient.by for outcome in outcomes if outcome.gradient is not None)
    return ", ".join(f"{way} ({count})" for way, count in counts.most_common()) if len(counts) > 1 else "".join(counts)
