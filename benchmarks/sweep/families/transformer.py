"""The architectures of ``transformers``, built with random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.sweep.entry import Entry, Subject
from benchmarks.sweep.families.architectures import (
    ATTENTION,
    CONVOLUTIONAL,
    DENSE,
    SEQUENCES,
    Architecture,
    Inputs,
    Integers,
    Nested,
)
from benchmarks.sweep.families.weights import unsettled


def build(architecture: Architecture) -> Subject:
    """The model, and an example of two samples."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind = getattr(transformers, architecture.kind)
        options = {key: _configured(value) for key, value in architecture.options.items()}
        model = unsettled(kind(kind.config_class(**{"num_labels": 10, **options})))
        return Subject(model, _example(architecture.example))


def _configured(value: Any) -> Any:
    import transformers

    if isinstance(value, Nested):
        return getattr(transformers, value.kind)(**value.options)
    return value


def _example(shape: tuple[int, ...] | Integers | Inputs) -> Any:
    import torch

    if isinstance(shape, Integers):
        return torch.randint(3, shape.largest + 1, shape.shape)
    if isinstance(shape, Inputs):
        return {name: torch.randn(inner) for name, inner in shape.shapes.items()}
    return torch.randn(shape)


GROUPS = {
    "convolutional networks of transformers": CONVOLUTIONAL,
    "attention on pictures": ATTENTION,
    "segmentation, depth, detection": DENSE,
    "text, audio, video, series": SEQUENCES,
}

ENTRIES = [
    Entry(family, name, partial(build, architecture), small=architecture.small)
    for family, group in GROUPS.items()
    for name, architecture in group.items()
]
