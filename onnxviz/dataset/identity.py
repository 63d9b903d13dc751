"""What a sink was begun with, so that another run goes on with the same or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxviz.dataset.parts import Question
from onnxviz.dataset.sources import Fingerprints, Source
from onnxviz.errors import OptionError

if TYPE_CHECKING:
    from onnxviz import Explainer

FORMAT = 1
WAYS_OUT = "give the same again, another sink, or resume=False (--fresh), which begins anew and removes what is there"

Identity = dict[str, Any]


def identity_of(explainer: Explainer, question: Question, source: Source, batch_size: int) -> Identity:
    """All that the numbers and the places in a sink depend on, as JSON holds it, with the versions that began it."""
    engine = explainer.engine
    asked = {
        "file": _of_files(explainer), "method": question.method, "target": question.target, "of": question.of,
        "output": question.output, "options": dict(question.options), "dtype": question.dtype, "top": question.top,
        "batch_size": batch_size, "providers": [name for name, _ in engine.providers], "precision": engine.precision,
        "source": type(source).__name__, "samples": source.count,
    }  # fmt: skip
    found: Identity = json.loads(json.dumps({"format": FORMAT, **asked, "made_by": _versions()}, default=_plain))
    return found


def require_same(path: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with what was begun otherwise.

    Raises:
        OptionError: something differs; the message names it.
    """
    for name, value in now.items():
        if name == "made_by" or stored.get(name) == value:
            continue
        if name == "file":
            said = "another file of the network (its SHA-256 differs)"
        else:
            said = f"{name}={json.dumps(stored.get(name))}, and now {name}={json.dumps(value)}"
        raise OptionError(f"sink {str(path)!r} was begun with {said}: {WAYS_OUT}")


def require_same_samples(path: Path, stored: Fingerprints | None, source: Source) -> None:
    """Refuse to go on with samples that have changed.

    Raises:
        OptionError: one of them has another name, size or time of change; the message names it.
    """
    now = source.fingerprints
    if stored is None or now is None or np.array_equal(stored, now):
        return
    changed = int(np.flatnonzero(stored != now)[0])
    name = source.name(changed) if hasattr(source, "name") else changed
    raise OptionError(
        f"sink {str(path)!r} was begun with another source: sample {changed}, now {str(name)!r}, had another name, "
        f"size, time of change or content: {WAYS_OUT}"
    )


def require_same_names(path: Path, start: int, stored: list[str], now: list[str]) -> None:
    """Refuse to go on where an iterable gives other samples than it did.

    Raises:
        OptionError: a name differs, or there are more or fewer.
    """
    if stored == now:
        return
    at = next((i for i, (a, b) in enumerate(zip(stored, now, strict=False)) if a != b), min(len(stored), len(now)))
    was, given = ([*names, None][at] for names in (stored, now))
    raise OptionError(
        f"sink {str(path)!r} was begun with another source: sample {start + at} was {was!r}, and is now {given!r} "
        f"(None is the end): {WAYS_OUT}"
    )


def _of_files(explainer: Explainer) -> str:
    """A digest of the explainable file, with its weights where they lie beside it."""
    bundle = explainer.engine.bundle
    digest = hashlib.sha256()
    for path in [bundle.path, *sorted({region.file for region in bundle.regions.values()} - {bundle.path})]:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    from onnxviz import __version__
    from onnxviz.engine.session import runtime

    return {"onnxviz": __version__, "onnxruntime": runtime().__version__}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.size > 16:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": value.shape, "dtype": str(value.dtype), "sha256": digest}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
