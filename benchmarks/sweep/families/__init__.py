"""The models of the sweep, family by family."""

from __future__ import annotations

from benchmarks.sweep.entry import Entry
from benchmarks.sweep.families import applications, files, packages, sequences, transformer

ENTRIES: dict[str, Entry] = {
    entry.key: entry for module in (applications, transformer, sequences, files, packages) for entry in module.ENTRIES
}
"""All of them, by ``family/name``."""
