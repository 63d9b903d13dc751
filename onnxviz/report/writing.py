"""Write the page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from onnxviz.display import size
from onnxviz.engine.session import runtime
from onnxviz.engine.targets import Of, by_index
from onnxviz.errors import InputError, OptionError
from onnxviz.files import accessing, replacing
from onnxviz.report import model
from onnxviz.report.answers import Answers, Asked
from onnxviz.report.encoding import colour_tables
from onnxviz.report.samples import Sample, samples_of

if TYPE_CHECKING:
    from onnxviz.engine.reporting import Reporting


@dataclass(frozen=True, repr=False)
class Report:
    """A page that was written; prints as one line.

    Attributes:
        path: where it lies.
        bytes: its size.
        inputs: the names of the inputs in it.
        methods: the names of the methods in it.
        left_out: usual method → why the model has no answer to it.
    """

    path: Path
    bytes: int
    inputs: tuple[str, ...]
    methods: tuple[str, ...]
    left_out: Mapping[str, str]

    def __repr__(self) -> str:
        count = f"{len(self.inputs)} input{'' if len(self.inputs) == 1 else 's'}"
        return f"{self.path}: {count}, {', '.join(self.methods)}, {size(self.bytes)}"


def report(
    explainer: Reporting,
    inputs: Any,
    path: str | os.PathLike[str],
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None,
    target: Any,
    *,
    k: int,
    names: Sequence[str] | None,
    percentile: float | None,
    of: Of,
    output: str | None,
) -> Report:
    """Write a report; arguments and errors are those of :meth:`onnxviz.Explainer.report`."""
    chosen = methods if methods is None or isinstance(methods, Mapping) else {name: {} for name in methods}
    asked = Asked(chosen, by_index(target, explainer.engine.bundle.manifest.classes), k, of, output, percentile)
    return write(explainer, samples_of(explainer.engine.bundle.manifest, inputs), path, asked, names)


def write(
    explainer: Reporting,
    samples: Iterable[Sample],
    path: str | os.PathLike[str],
    asked: Asked,
    names: Sequence[str] | None = None,
) -> Report:
    """Write a report of samples, which are read one by one.

    Raises:
        FileFormatError: there is no folder for the file.
        OptionError: another number of names than of samples.
        InputError: there are no samples.
    """
    final, answers = Path(path), Answers(explainer, asked)
    with replacing(final) as draft:
        shown = [answers.of(sample, number) for number, sample in enumerate(samples)]
        if not shown:
            raise InputError("a report needs at least one input")
        asked.require_all_used(len(shown))
        if names is not None and len(names) != len(shown):
            raise OptionError(f"names has one for each of the {len(shown)} inputs; got {len(names)}")
        for one, name in zip(shown, names or (), strict=False):
            one["name"] = name
        with accessing(final, "write"):
            draft.write_bytes(page(_content(explainer, shown, answers.left_out)))
    used = dict.fromkeys(method["name"] for one in shown for method in one["methods"])
    return Report(final, final.stat().st_size, tuple(one["name"] for one in shown), tuple(used), dict(answers.left_out))


def page(content: Mapping[str, Any]) -> bytes:
    """The page with its content.

    All that comes from outside stands in one block of JSON, in which no ``<`` is left that could end it, and reaches
    the page as text nodes; the browser is told to run nothing but the page's own script, and to fetch nothing.
    """
    parts = {name: _part(name) for name in ("page.html", "page.css", "page.js")}
    style, script = parts["page.css"], parts["page.js"]
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    data = json.dumps(content, separators=(",", ":"), allow_nan=False)  # in ASCII
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    filled = Template(parts["page.html"]).substitute(policy=policy, style=style, data=data, script=script)
    return filled.encode()


def _content(explainer: Reporting, shown: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> dict[str, Any]:
    bundle = explainer.engine.bundle
    manifest = bundle.manifest
    return {
        "title": bundle.path.stem,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "provider": explainer.engine.provider,
        "facts": model.facts(bundle),
        "card": model.card(bundle),
        "preparation": model.preparation(manifest),
        "notes": list(manifest.caveats),
        "leftOut": left_out,
        "layers": model.layer_rows(manifest),
        "exactness": model.exactness(manifest),
        "versions": model.versions(manifest, runtime().__version__),
        "colours": colour_tables(),
        "samples": shown,
    }


def _part(name: str) -> str:
    return files("onnxviz.report").joinpath(name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
