"""What ``onnxviz.coverage()`` lists: operators with a gradient rule, those that are decomposed, and the rest."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import onnx

from onnxviz.gradient.registry import NO_GRADIENT, VJPS
from onnxviz.gradient.ruleless import LIMITS
from onnxviz.gradient.tape import OPSET
from onnxviz.graph.decompositions import DECOMPOSITIONS
from onnxviz.graph.decompositions.registry import NEWER

_LAST = {
    "zero": "derivative zero, or no float",
    "newer": f"newer than opset {OPSET}, decomposed",
    "onnxruntime": "onnxruntime's fusions (com.microsoft), decomposed",
    "no rule": "no rule",
}
"""The last groups of the table for README, by family or status."""


@dataclass(frozen=True, order=True)
class Support:
    """One operator in the registry.

    Attributes:
        domain, name: of the operator.
        status: ``"rule"``, ``"zero"``, ``"decomposed"`` (into operators of opset 18, before differentiation) or
            ``"no rule"``.
        family: the group that its rule belongs to (``"activation"``, ``"pool"``, …); of what is decomposed ``"newer"``
            (operators and versions of ONNX later than opset 18) or ``"onnxruntime"``.
        attributes: those that the rule or the decomposition takes.
        refused: those of the specification (opset 18) that the rule refuses.
        limits: values of attributes and forms of inputs that the rule refuses.
    """

    domain: str
    name: str
    status: Literal["rule", "zero", "decomposed", "no rule"]
    family: str = ""
    attributes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """What can be differentiated: every operator of ONNX, by domain and name; prints as a table."""

    operators: tuple[Support, ...]

    @property
    def missing(self) -> tuple[Support, ...]:
        """The operators of opset 18 without a rule, and the newer ones without a decomposition."""
        return tuple(operator for operator in self.operators if operator.status == "no rule")

    def __repr__(self) -> str:
        rows = [("operator", "domain", "gradient", "attributes")]
        for o in self.operators:
            taken = ", ".join([*o.attributes, *(f"not {name}" for name in (*o.refused, *o.limits))])
            rows.append((o.name, o.domain or "ai.onnx", o.status, taken))
        return table(rows)

    def markdown(self) -> str:
        """A table for a README: the operators by family, with what a rule refuses; those of the project left out."""
        groups: dict[str, list[str]] = {}
        for o in self.operators:
            if o.domain == "" or o.status == "decomposed":
                no = [*(f"`{name}`" for name in o.refused), *o.limits]
                group = _LAST.get(o.family) or _LAST.get(o.status, o.family)
                groups.setdefault(group, []).append(f"`{o.name}`" + (f" (not {', '.join(no)})" if no else ""))
        last = list(_LAST.values())
        order = sorted(groups, key=lambda group: (last.index(group) + 1 if group in last else 0, group))
        lines = [f"| {group} | {len(groups[group])} | {', '.join(groups[group])} |" for group in order]
        return "\n".join(["| family | count | operators |", "|---|---|---|", *lines])


def registered() -> Registry:
    """All rules and decompositions, and what else ONNX has."""
    found = [Support(*key, "zero") for key in NO_GRADIENT - VJPS.keys()]
    schemas = {schema.name: schema for schema in _newest(OPSET)}
    for key, rule in VJPS.items():
        domain, name = key
        support = Support(*key, "rule", rule.function.__module__.rpartition(".")[2], tuple(sorted(rule.attributes)))
        if domain == "":
            known = schemas[name].attributes.keys() if name in schemas else set()
            refused = tuple(sorted(known - rule.attributes))
            support = replace(support, refused=refused, limits=LIMITS.get(name, ()))
        found.append(support)
    ruled = {("", name) for name in schemas} & (VJPS.keys() | NO_GRADIENT)
    found += [Support("", name, "no rule") for name in schemas if ("", name) not in ruled]
    return Registry(tuple(sorted([*found, *_decomposed(schemas.keys())])))


def _newest(opset: int | None = None) -> Iterator[onnx.defs.OpSchema]:
    """The newest definition of each operator up to an opset; those that were given up are left out."""
    history = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""]
    if opset is not None:
        history = [schema for schema in history if schema.since_version <= opset]
    newest = {schema.name: schema for schema in sorted(history, key=lambda schema: schema.since_version)}
    return (schema for schema in newest.values() if not schema.deprecated)


def _decomposed(known: Collection[str]) -> Iterator[Support]:
    """What is brought to opset 18 before it is differentiated, and the newer operators for which there is no way."""
    for (domain, name), function in DECOMPOSITIONS.items():
        parameters = inspect.signature(function).parameters.values()
        attributes = tuple(sorted(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY))
        if domain == NEWER:
            yield Support("", name, "decomposed", "newer", attributes)
        else:
            yield Support(domain, name, "decomposed", "onnxruntime", attributes)
    for schema in _newest():
        if schema.name not in known and (NEWER, schema.name) not in DECOMPOSITIONS:
            untyped: Any = schema  # its stubs lack what follows
            if untyped.has_function or untyped.has_context_dependent_function:
                yield Support("", schema.name, "decomposed", "newer", tuple(sorted(schema.attributes)))
            else:
                yield Support("", schema.name, "no rule")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells in columns, the first row as the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
