"""Where bytes of unknown origin come in: each opens a file and asks; an OnnxvizError refuses, nothing else is raised.

:mod:`tests.hostile.child` calls them in a process of its own, :mod:`tests.hostile.guided` under a fuzzer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

import onnxviz as ov
from onnxviz import bundle, soundness
from onnxviz.engine.cut import Graph, Sketch, cut
from onnxviz.engine.layers import LayerTable
from onnxviz.engine.overlays import DECONVNET, GUIDED, apply_overlay
from onnxviz.engine.targets import resolve
from onnxviz.errors import LayerError, OnnxvizError
from onnxviz.image import ImageInput
from onnxviz.manifest import Manifest, grad_name, seed_name

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
QUESTIONS: list[Callable[[ov.Explainer], object]] = [
    repr,
    lambda ex: repr(ex.layers) + repr(ex.outputs) + repr(ex.classes) + repr(ex.residuals) + repr(ex.metadata),
    lambda ex: ex.inputs[0].image and ex.image_input,
    lambda ex: ex.predict(X),
    lambda ex: ex.top(X),
    lambda ex: ex.features(X),
    lambda ex: ex.gradient(X, layer=ex.layers[0].name),
    lambda ex: ex.saliency(X, [[0, 1]]),
    lambda ex: ex.guided_backprop(X, 1),
    lambda ex: ex.grad_cam(X, 1),
    lambda ex: ex.filters(0),
    lambda ex: ex.maximize(0, steps=1),
]


def load(path: Path) -> None:
    """Open an explainable file and ask; every question is asked, whatever the others gave."""
    with ov.load(path, providers="cpu", threads=1) as ex:
        _all([lambda ask=ask: ask(ex) for ask in QUESTIONS])


def convert(path: Path) -> None:
    """Convert a plain file, and ask what comes of it."""
    load(ov.convert(path, path.with_suffix(".explainable.onnx"), quiet=True))


def cut_out(path: Path) -> None:
    """Open an explainable file and cut out of it what questions need, without running it: each part holds together."""
    opened = bundle.read(path)
    graph, manifest = Graph(opened), opened.manifest
    seeds = [seed_name(output.name) for output in manifest.outputs if output.has_gradient]
    tensors = (*manifest.layers, *manifest.outputs, *manifest.inputs)
    parts: list[Callable[[], Sketch]] = [lambda value=tensor.value: cut(graph, [value]) for tensor in tensors]
    for gradient in [grad_name(t.value) for t in (*manifest.layers, *manifest.inputs) if t.has_gradient and seeds]:
        given = [*graph.boundary([gradient], ()), *seeds]
        parts.append(lambda gradient=gradient: cut(graph, [gradient], live=seeds))
        parts.append(lambda gradient=gradient, given=given: cut(graph, [gradient], given=given, live=seeds))
    _all([lambda make=make, overlay=overlay: _holds(make(), overlay) for make in parts for overlay in OVERLAYS])


OVERLAYS = (None, GUIDED, DECONVNET)


def _holds(sketch: Sketch, overlay: str | None) -> None:
    if overlay:
        with suppress(LayerError):  # between a layer and the score there may be nothing to rewrite
            apply_overlay(sketch, overlay, "x")
    for seed in sketch.graph.seeds:
        sketch.inputs[seed] = sketch.graph.info[seed]
    try:
        soundness.require_sound(sketch.model(), "a part of it")
    except OnnxvizError as error:
        raise AssertionError(str(error)) from error


def metadata(path: Path) -> None:
    """Lines of a key, a tab and a value as a file's metadata; what is read can be written and read again."""
    lines = path.read_bytes().decode(errors="replace").split("\n")
    entries = dict(line.split("\t", 1) for line in lines if "\t" in line)
    manifest = Manifest.from_metadata(entries, path)
    again = Manifest.from_metadata(manifest.metadata(), path)
    assert again.metadata() == manifest.metadata()
    _all(list(_uses(manifest)))


def _uses(manifest: Manifest) -> Iterator[Callable[[], object]]:
    """What the engine asks of the tables."""
    table = LayerTable(manifest.layers)
    yield lambda: repr(table)
    yield lambda: table.cam("auto")
    yield lambda: manifest.times_the_example({t.name: [3] * len(t.shape) for t in manifest.inputs})
    for tensor in (*manifest.inputs, *manifest.outputs, *manifest.layers):
        yield lambda tensor=tensor: tensor.per_sample
    for given in manifest.inputs:
        if given.image is not None:
            yield lambda image=given.image: ImageInput.from_dict(image).read(np.zeros((5, 6, 3), np.uint8))
    for output in manifest.outputs:
        for target in (0, -1, [[0, 1]], np.ones(4, np.float32)):
            yield lambda output=output, target=target: resolve(target, output, 2, np.dtype(np.float32))


def _all(questions: list[Callable[[], object]]) -> None:
    """Ask all, then raise the last refusal."""
    refusal = None
    for ask in questions:
        try:
            ask()
        except OnnxvizError as error:
            refusal = error
    if refusal is not None:
        raise refusal


ENTRIES: dict[str, Callable[[Path], None]] = {
    "load": load,
    "convert": convert,
    "cut": cut_out,
    "metadata": metadata,
}
"""By the names that files of :mod:`tests.hostile.finds` begin with."""
