"""The engine: answers questions about one file with cut sessions, in chunks, from many threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from onnxviz.bundle import Bundle
from onnxviz.engine import graphs
from onnxviz.engine.asked import RESULT, WEIGHTS, Asked, Attribution, Head
from onnxviz.engine.cache import Prepared, SessionCache
from onnxviz.engine.chunks import Chunk, Chunks, check_batch_size, joined
from onnxviz.engine.cut import Graph, Sketch
from onnxviz.engine.device import Device
from onnxviz.engine.optimizations import SPREAD_SAMPLES, chosen
from onnxviz.engine.overlays import NO_CHANGES, Changes
from onnxviz.engine.running import Runner
from onnxviz.engine.session import Providers, available_cores, choose_providers, is_cpu
from onnxviz.engine.stored import Store
from onnxviz.engine.targets import SCORE, TOP, Of
from onnxviz.errors import OptionError
from onnxviz.manifest import Output, grad_name, seed_name
from onnxviz.source import Array, Feeds

Answer = TypeVar("Answer")
Run = Callable[[Hashable, Callable[[], Sketch], Mapping[str, Any]], dict[str, Any]]
"""Runs a graph: see :meth:`Engine.iterate`."""


@dataclass(frozen=True)
class _Piece:
    """The answer for one chunk."""

    values: Array
    top: Array | None
    score: Array
    changes: Changes


class Engine:
    """Runs sub-graphs of a file. Safe to use from many threads at once.

    Args:
        bundle: the opened file.
        providers: see :func:`onnxviz.engine.session.choose_providers`.
        precision: ``"float32"``, ``"tf32"`` (CUDA) or ``"float16"``.
        max_sessions: how many sessions are kept, the least recently used goes first.
        threads: of onnxruntime; by default one per physical core.
        batch_size: samples per run; ``"auto"`` chooses by the memory that one sample takes.
        optimize: which optimisations are applied, see :mod:`onnxviz.engine.optimizations`.
        cache: the folder in which prepared sessions are kept, see :class:`onnxviz.engine.stored.Store`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        providers: Providers = None,
        precision: str = "float32",
        max_sessions: int = 8,
        threads: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        optimize: bool | Sequence[str] = True,
        cache: Path | None = None,
    ) -> None:
        if precision not in ("float32", "tf32", "float16"):
            raise OptionError(f"precision={precision!r}: expected 'float32', 'tf32' or 'float16'")
        if max_sessions < 1:
            raise OptionError(f"max_sessions={max_sessions}: at least one session is needed")
        check_batch_size(batch_size)
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads}: expected None or a positive integer")
        self.bundle = bundle
        self.graph = Graph(bundle)
        self.providers = choose_providers(providers, precision=precision, engines=cache)
        self.precision = precision
        self.threads = threads
        self.provider = ""
        optimizations = chosen(optimize, plain=is_cpu(self.providers) and precision != "float16")
        spread = SPREAD_SAMPLES in {one.name for one in optimizations}
        cores = (threads or available_cores()) if spread else None
        self.chunks = Chunks(self.graph, batch_size, Device.of(self.providers), threads=threads, cores=cores)
        self._runner = Runner(self.chunks.device)
        store = Store(cache) if cache and is_cpu(self.providers) else None
        half = precision == "float16"
        self._cache = SessionCache(bundle, self.providers, max_sessions, optimizations, half=half, store=store)

    def with_weights(self, arrays: Mapping[str, Array]) -> Engine:
        """An engine with the same settings and other weights, by the names of the file's initializers."""
        return Engine(
            self.bundle.with_weights(arrays), providers=self.providers, precision=self.precision, max_sessions=1,
            threads=self.threads, batch_size=self.chunks.batch_size, optimize=self.optimizations,
        )  # fmt: skip

    @property
    def optimizations(self) -> list[str]:
        """The names of those that are applied."""
        return self._cache.optimization_names

    # ----- questions -----

    def values(
        self, feeds: Feeds, names: Sequence[str], batch: int, batch_axes: Mapping[str, int | None]
    ) -> dict[str, Array]:
        """Values of the forward pass, over all samples.

        Args:
            feeds: the model's inputs.
            names: values of the graph.
            batch: how many samples the feeds hold.
            batch_axes: along which axis each value's chunks are joined; None where it has no batch axis.
        """
        names = tuple(dict.fromkeys(names))
        axes = [batch_axes.get(name) for name in names]
        whole = [name for name, axis in zip(names, axes, strict=True) if axis is None]

        def answer(chunk: Chunk, threads: int | None) -> list[Array]:
            prepared = self._prepared(("values", names), lambda: graphs.of_values(self.graph, names), threads)
            return [chunk.kept(r, axis) for r, axis in zip(self._run(prepared, chunk.feeds), axes, strict=True)]

        parts = self.chunks.each(answer, feeds, batch, whole=whole)
        return {n: joined([p[i] for p in parts], axis) for i, (n, axis) in enumerate(zip(names, axes, strict=True))}

    def attribute(
        self,
        feeds: Feeds,
        batch: int,
        target: Any,
        head: Head,
        *,
        output: Output,
        of: Of = "logits",
        overlay: str | None = None,
        batch_axis: int = 0,
        weights: Array | None = None,
    ) -> Attribution:
        """A head's result for a target of an output; with several targets per sample, stacked on axis 1.

        With ``weights`` (R, N) the R sums of the samples' results, weighted so, which are made where they are computed.
        """
        asked = Asked.of_user(target, batch, head if weights is None else head.weighted(), output, of, overlay)
        resolved = asked.target
        axis = None if weights is not None else 0 if resolved.several else batch_axis

        def answer(chunk: Chunk, threads: int | None) -> _Piece:
            if weights is not None:
                part = np.zeros((len(weights), chunk.size), weights.dtype)
                part[:, : chunk.keep] = weights[:, chunk.start : chunk.start + chunk.keep]
                chunk.feeds[WEIGHTS] = part
            piece = (self._split if resolved.several else self._fused)(chunk, asked, threads)
            top = None if piece.top is None else chunk.kept(piece.top, 0)
            return _Piece(chunk.kept(piece.values, axis), top, chunk.kept(piece.score, 0), piece.changes)

        pieces = self.chunks.each(answer, feeds, batch)
        tops, values = [p.top for p in pieces if p.top is not None], [p.values for p in pieces]
        return Attribution(
            (joined(values, axis) if weights is None else reduce(np.add, values)).astype(np.float32, copy=False),
            np.concatenate(tops) if tops else resolved.given,
            np.concatenate([p.score for p in pieces]).astype(np.float32, copy=False),
            pieces[0].changes,
        )

    def settle(self, feeds: Feeds, batch: int, target: Any, output: Output, of: Of = "logits") -> Attribution:
        """What a target stands for on these samples: its classes where it was left open, and its scores.

        ``values`` of the result are the logits.
        """
        head = Head("logits", (output.logits,), lambda _: output.logits)
        return self.attribute(feeds, batch, target, head, output=output, of=of)

    def linear(self, feeds: Feeds, cotangents: Mapping[str, Array], wrt: Sequence[str]) -> dict[str, Array]:
        """The stored graph's gradient of Σ (cotangent · value) with respect to values of ``wrt``.

        Args:
            feeds: the model's inputs; values of layers among them replace what the graph would compute.
            cotangents: of ``seed/<output>`` or of ``grad/<layer>``, which is replaced: the derivative of hidden units.
            wrt: names of inputs or layers' values.
        """
        given = tuple(n for n in (*feeds, *cotangents) if n not in self._input_names and n not in self.graph.seeds)
        seeds = tuple(n for n in cotangents if n in self.graph.seeds)
        wanted = [grad_name(name) for name in wrt]

        def build() -> tuple[Sketch, Changes]:
            return graphs.of_linear(self.graph, wanted, given, seeds)

        prepared = self._prepared(("linear", given, seeds, tuple(wanted)), build, self.threads)
        fed = {f"{k}#given" if k in seeds else k: v for k, v in cotangents.items()}
        return dict(zip(wrt, self._run(prepared, {**feeds, **fed}), strict=True))

    def forward(self, feeds: Feeds, names: Sequence[str]) -> dict[str, Array]:
        """Values in one run, where fed values of layers replace what the graph would compute."""
        given, wanted = tuple(n for n in feeds if n not in self._input_names), tuple(names)

        def build() -> tuple[Sketch, Changes]:
            return graphs.of_values(self.graph, wanted, given)

        prepared = self._prepared(("forward", given, wanted), build, self.threads)
        return dict(zip(wanted, self._run(prepared, feeds), strict=True))

    def iterate(self, feeds: Feeds, work: Callable[[Chunk, Run], Answer]) -> list[Answer]:
        """What ``work`` makes of each chunk of the samples, in order, in runs that feed one another.

        Args:
            feeds: the model's inputs.
            work: gets the chunk, and what runs a graph of its making: from a key (equal keys share a session), what
                builds the graph, and its inputs to its outputs by name, OrtValues where they were computed, which may
                be inputs of the next run.
        """

        def answer(chunk: Chunk, threads: int | None) -> Answer:
            def run(key: Hashable, build: Callable[[], Sketch], fed: Mapping[str, Any]) -> dict[str, Any]:
                prepared = self._prepared(key, lambda: (build(), NO_CHANGES), threads)
                return dict(zip(prepared.outputs, self._run(prepared, fed, keep=True), strict=True))

            return work(chunk, run)

        return self.chunks.each(answer, feeds, self.chunks.samples(feeds))

    # ----- one target: forward, seed, backward and head in one session -----

    def _fused(self, chunk: Chunk, asked: Asked, threads: int | None) -> _Piece:
        prepared, seeds = self.fused(asked, threads=threads), asked.target.seeds
        given = {} if seeds is None else {f"{seed_name(asked.output.name)}#given": chunk.rows(seeds[0])}
        results = dict(zip(prepared.outputs, self._run(prepared, chunk.feeds | given), strict=True))
        return _Piece(results[RESULT], results.get(TOP), results[SCORE], prepared.changes)

    def fused(self, asked: Asked, *, threads: int | None = None, cuda_graph: bool = False) -> Prepared:
        """The session of one target: its outputs are RESULT, SCORE and, where the graph finds the class on top, TOP."""
        top = asked.target.seeds is None

        def build() -> tuple[Sketch, Changes]:
            return graphs.of_target(self.graph, asked, top=top)

        key = ("fused", *asked.key, top, *(["graph"] if cuda_graph else []))
        return self._prepared(key, build, threads or self.threads, cuda_graph=cuda_graph)

    # ----- several targets: one forward pass, then one backward pass per target -----

    def _split(self, chunk: Chunk, asked: Asked, threads: int | None) -> _Piece:
        head, output = asked.head, asked.output
        boundary = tuple(dict.fromkeys([*self.graph.boundary(head.reads, []), output.logits]))
        forward = self._prepared(("values", boundary), lambda: graphs.of_values(self.graph, boundary), threads)

        def build() -> tuple[Sketch, Changes]:
            return graphs.of_one_of_several(self.graph, asked, boundary)

        backward = self._prepared(("split", *asked.key), build, threads)
        held = dict(zip(boundary, self._run(forward, chunk.feeds, keep=True), strict=True))
        runs = []
        for seed in asked.target.seeds or []:
            feeds = {**chunk.feeds, **held, f"{seed_name(output.name)}#given": chunk.rows(seed)}
            runs.append(dict(zip(backward.outputs, self._run(backward, feeds), strict=True)))
        values, score = (np.stack([run[name] for run in runs], axis=1) for name in (RESULT, SCORE))
        return _Piece(values, None, score, backward.changes)

    # ----- sessions and runs -----

    @property
    def _input_names(self) -> set[str]:
        return {t.name for t in self.bundle.manifest.inputs}

    def _prepared(
        self,
        key: Hashable,
        build: Callable[[], tuple[Sketch, Changes]],
        threads: int | None,
        *,
        cuda_graph: bool = False,
    ) -> Prepared:
        """The session for a question."""
        prepared = self._cache.get(key, build, threads=threads, cuda_graph=cuda_graph)
        self.provider = prepared.provider
        return prepared

    def _run(self, prepared: Prepared, feeds: Mapping[str, Any], *, keep: bool = False) -> list[Any]:
        """Run a session, see :meth:`onnxviz.engine.running.Runner.run`."""
        return self._runner.run(prepared, feeds, keep=keep)

    # ----- life -----

    def memory(self) -> dict[str, int]:
        """Bytes of weights (held once, mapped from the file) and the number of sessions kept, with its limit."""
        return {
            "weights": self.bundle.weight_bytes,
            "sessions": len(self._cache),
            "max_sessions": self._cache.max_sessions,
        }

    def close(self) -> None:
        """Release all sessions, the weights and the buffers."""
        self._cache.close()
        self._runner.close()
