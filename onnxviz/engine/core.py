"""The engine: answers questions about one file with cut sessions, in chunks, from many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from onnxviz.bundle import Bundle
from onnxviz.engine.cut import Graph, Sketch, cut
from onnxviz.engine.overlays import NO_CHANGES, Changes, apply_overlay
from onnxviz.engine.room import first_empty
from onnxviz.engine.session import CUDA, Weights, choose_providers, create_session, runtime, runtime_errors
from onnxviz.engine.targets import SCORE, TOP, Of, Target, add_seed, resolve
from onnxviz.errors import InputError, LayerError, OptionError, ProviderError
from onnxviz.manifest import Output, grad_name, seed_name
from onnxviz.source import Array, Feeds

if TYPE_CHECKING:
    import onnxruntime

CHUNK_BYTES = 2**30
"""``batch_size="auto"`` keeps the values of one chunk, forward and backward, below this."""
RESULT, WEIGHTS = "head/result", "head/weights"


@dataclass(frozen=True)
class Head:
    """What is computed from tensors of the graph, in the graph, so that only its result leaves the device.

    Attributes:
        key: tells heads apart; equal keys share a session.
        reads: values of the graph (layers, gradients) that it is computed from.
        build: appends nodes to the sketch and returns the name of the result, batch on axis 0.
    """

    key: Hashable
    reads: tuple[str, ...]
    build: Callable[[Sketch], str]

    @property
    def at(self) -> str:
        """The value towards which the gradient goes that is read."""
        return self.reads[-1].removeprefix(grad_name(""))

    def weighted(self) -> Head:
        """The head that gives sums of its results over the samples, by the weights (R, N) that the caller feeds."""

        def build(sketch: Sketch) -> str:
            result = self.build(sketch)
            weights = sketch.input(WEIGHTS, onnx.TensorProto.FLOAT, None)
            flat = sketch.add("Cast", sketch.add("Flatten", result, axis=1), to=onnx.TensorProto.FLOAT)
            first, rest = sketch.add("Shape", weights, end=1), sketch.add("Shape", result, start=1)
            shape = sketch.add("Concat", first, rest, axis=0)
            return sketch.add("Reshape", sketch.add("MatMul", weights, flat), shape)

        return Head((self.key, WEIGHTS), self.reads, build)


@dataclass(frozen=True)
class Attribution:
    """What one question about one target gave: values with batch on axis 0, the target, its score, what was changed."""

    values: Array
    target: Array | None
    score: Array
    changes: Changes


@dataclass(frozen=True)
class _Prepared:
    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]
    inputs: frozenset[str]
    changes: Changes


class Engine:
    """Runs sub-graphs of a file. Safe to use from many threads at once.

    Args:
        bundle: the opened file.
        providers: see :func:`onnxviz.engine.session.choose_providers`.
        precision: ``"float32"`` or ``"tf32"`` (CUDA).
        max_sessions: how many sessions are kept, the least recently used goes first.
        threads: of onnxruntime; by default one per physical core.
        batch_size: samples per run; ``"auto"`` chooses by the memory that one sample takes.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        providers: Sequence[str] | str | None = None,
        precision: str = "float32",
        max_sessions: int = 8,
        threads: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> None:
        if precision not in ("float32", "tf32"):
            raise OptionError(f"precision={precision!r}: expected 'float32' or 'tf32'")
        if max_sessions < 1:
            raise OptionError(f"max_sessions={max_sessions}: at least one session is needed")
        check_batch_size(batch_size)
        if threads is not None and threads < 1:
            raise OptionError(f"threads={threads}: expected None or a positive integer")
        self.bundle = bundle
        self.graph = Graph(bundle)
        self.providers = choose_providers(providers, precision=precision)
        self.max_sessions = max_sessions
        self.threads = threads
        self.batch_size = batch_size
        self.provider = ""
        self._batched = {t.name for t in bundle.manifest.inputs if t.axes.batch == 0}
        self._weights: Weights | None = Weights(bundle.weights, bundle.path.parent)
        self._sessions: OrderedDict[Hashable, _Prepared] = OrderedDict()
        self._roomy: set[Hashable] = set()
        """Shapes of inputs at which nothing in the network is empty."""
        self._lock = threading.Lock()
        self._building: dict[Hashable, threading.Lock] = {}

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
        prepared = self._prepared(("values", names), lambda: self._values_model(names))
        whole = [n for n in names if batch_axes.get(n) is None]
        parts: list[list[Array]] = []
        for chunk, keep, size in self._chunks(feeds, batch, whole):
            results = self._run(prepared, chunk)
            parts.append([_first(r, keep, size, batch_axes.get(n)) for n, r in zip(names, results, strict=True)])
        return {n: _joined([p[i] for p in parts], batch_axes.get(n)) for i, n in enumerate(names)}

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
        resolved = target if isinstance(target, Target) else resolve(target, output, batch, np.dtype(output.dtype))
        head = head if weights is None else head.weighted()
        pieces: list[tuple[Array, Array | None, Array]] = []
        changes = NO_CHANGES
        start = 0
        for chunk, keep, size in self._chunks(feeds, batch, []):
            window = np.minimum(np.arange(start, start + size), batch - 1)
            if weights is not None:
                part = np.zeros((len(weights), size), weights.dtype)
                part[:, :keep] = weights[:, start : start + keep]
                chunk[WEIGHTS] = part
            start += keep
            if resolved.several:
                runs, changes = self._split(chunk, resolved, window, head, output, of, overlay)
                values = np.stack([r[0] for r in runs], axis=1)
                score = np.stack([r[1] for r in runs], axis=1)
                pieces.append((values if weights is not None else values[:keep], None, score[:keep]))
            else:
                values, top, score, changes = self._fused(chunk, resolved, window, head, output, of, overlay)
                kept = values if weights is not None else _first(values, keep, size, batch_axis)
                pieces.append((kept, top[:keep] if top is not None else None, score[:keep]))
        tops, results = [p[1] for p in pieces if p[1] is not None], [p[0] for p in pieces]
        joined = _joined(results, batch_axis) if weights is None else np.sum(results, axis=0)
        return Attribution(
            joined.astype(np.float32, copy=False),
            np.concatenate(tops) if tops else resolved.given,
            np.concatenate([p[2] for p in pieces]).astype(np.float32, copy=False),
            changes,
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
            sketch = cut(self.graph, wanted, given=given, live=seeds)
            for seed in seeds:
                fed = sketch.input(f"{seed}#given", self._element_type(seed), None)
                sketch.seeding.append(onnx.helper.make_node("Identity", [fed], [seed], name=seed))
            for name in wanted:
                sketch.output(name, f"{RESULT}/{name}")
            return sketch, NO_CHANGES

        prepared = self._prepared(("linear", given, seeds, tuple(wanted)), build)
        fed = {f"{k}#given" if k in seeds else k: v for k, v in cotangents.items()}
        return dict(zip(wrt, self._run(prepared, {**feeds, **fed}), strict=True))

    def forward(self, feeds: Feeds, names: Sequence[str]) -> dict[str, Array]:
        """Values in one run, where fed values of layers replace what the graph would compute."""
        given, wanted = tuple(n for n in feeds if n not in self._input_names), tuple(names)
        prepared = self._prepared(("forward", given, wanted), lambda: self._values_model(wanted, given))
        return dict(zip(wanted, self._run(prepared, feeds), strict=True))

    def compute(
        self, key: Hashable, build: Callable[[], Sketch], feeds: Feeds, fed: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The outputs of a graph of the caller's making, over all samples, which stand on axis 0 of each.

        Args:
            key: of the graph; equal keys share a session.
            build: makes it.
            feeds: the model's inputs.
            fed: the further inputs of the graph, with a row for each sample.
        """
        prepared = self._prepared(key, lambda: (build(), NO_CHANGES))
        batch = next(len(x) for name, x in feeds.items() if name in self._batched)
        parts: list[list[Array]] = []
        start = 0
        for chunk, keep, size in self._chunks(feeds, batch, []):
            window = np.minimum(np.arange(start, start + size), batch - 1)
            results = self._run(prepared, {**chunk, **{name: rows[window] for name, rows in fed.items()}})
            parts.append([r[:keep] for r in results])
            start += keep
        return {name: _joined([p[i] for p in parts], 0) for i, name in enumerate(prepared.outputs)}

    # ----- one target: forward, seed, backward and head in one session -----

    def _fused(
        self, chunk: Feeds, target: Target, window: Array, head: Head, output: Output, of: Of, overlay: str | None
    ) -> tuple[Array, Array | None, Array, Changes]:
        top = target.seeds is None

        def build() -> tuple[Sketch, Changes]:
            sketch = cut(self.graph, [*head.reads, output.logits], live=[seed_name(output.name)])
            sketch.output(head.build(sketch), RESULT)
            add_seed(sketch, output, of, top=top, dtype=self._element_type(output.logits))
            return sketch, apply_overlay(sketch, overlay, head.at) if overlay else NO_CHANGES

        prepared = self._prepared(("fused", head.key, head.reads, output.name, of, overlay, top), build)
        feeds = dict(chunk)
        if target.seeds is not None:
            feeds[f"{seed_name(output.name)}#given"] = target.seeds[0][window]
        results = dict(zip(prepared.outputs, self._run(prepared, feeds), strict=True))
        return results[RESULT], results.get(TOP), results[SCORE], prepared.changes

    # ----- several targets: one forward pass, then one backward pass per target -----

    def _split(
        self, chunk: Feeds, target: Target, window: Array, head: Head, output: Output, of: Of, overlay: str | None
    ) -> tuple[list[tuple[Array, Array]], Changes]:
        boundary = tuple(dict.fromkeys([*self.graph.boundary(head.reads, []), output.logits]))
        forward = self._prepared(("values", boundary), lambda: self._values_model(boundary))

        def build() -> tuple[Sketch, Changes]:
            sketch = cut(self.graph, head.reads, given=boundary, live=[seed_name(output.name)])
            sketch.inputs.setdefault(output.logits, self.graph.info[output.logits])
            sketch.output(head.build(sketch), RESULT)
            add_seed(sketch, output, of, top=False, dtype=self._element_type(output.logits))
            return sketch, apply_overlay(sketch, overlay, head.at) if overlay else NO_CHANGES

        backward = self._prepared(("split", head.key, head.reads, output.name, of, overlay), build)
        held = dict(zip(boundary, self._run(forward, chunk, keep=True), strict=True))
        runs = []
        for seed in target.seeds or []:
            feeds = {**chunk, **held, f"{seed_name(output.name)}#given": seed[window]}
            results = dict(zip(backward.outputs, self._run(backward, feeds), strict=True))
            runs.append((results[RESULT], results[SCORE]))
        return runs, backward.changes

    # ----- sessions -----

    @property
    def _input_names(self) -> set[str]:
        return {t.name for t in self.bundle.manifest.inputs}

    def _element_type(self, value: str) -> int:
        info = self.graph.info.get(value)
        if info is not None and info.type.tensor_type.elem_type:
            return int(info.type.tensor_type.elem_type)
        return onnx.TensorProto.FLOAT

    def _values_model(self, names: Iterable[str], given: Iterable[str] = ()) -> tuple[Sketch, Changes]:
        sketch = cut(self.graph, names, given=set(given))
        for name in names:
            if name in sketch.inputs:
                sketch.output(name, f"head/{name}")
            else:
                sketch.outputs.append(name)
        return sketch, NO_CHANGES

    def _prepared(self, key: Hashable, build: Callable[[], tuple[Sketch, Changes]]) -> _Prepared:
        """The session for a question, from the cache or made now; two threads never make the same one."""
        with self._lock:
            if key in self._sessions:
                self._sessions.move_to_end(key)
                return self._sessions[key]
            gate = self._building.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                if key in self._sessions:
                    return self._sessions[key]
                weights = self._weights
            if weights is None:
                raise ProviderError("this Explainer is closed")
            self.bundle.require_unchanged()
            sketch, changes = build()
            session = create_session(sketch.model(), weights, self.providers, threads=self.threads)
            prepared = _Prepared(
                session, tuple(sketch.outputs), frozenset(i.name for i in session.get_inputs()), changes
            )
            with self._lock:
                self.provider = session.get_providers()[0]
                self._sessions[key] = prepared
                self._building.pop(key, None)
                while len(self._sessions) > self.max_sessions:
                    self._sessions.popitem(last=False)
            return prepared

    def _run(self, prepared: _Prepared, feeds: Mapping[str, Any], *, keep: bool = False) -> list[Any]:
        """Run a session; with ``keep`` the results stay OrtValues where they were computed."""
        ort = runtime()
        on_cuda = self.provider == CUDA
        try:
            if not (keep or on_cuda or any(isinstance(v, ort.OrtValue) for v in feeds.values())):
                return list(
                    prepared.session.run(
                        list(prepared.outputs), {k: v for k, v in feeds.items() if k in prepared.inputs}
                    )
                )
            binding = prepared.session.io_binding()
            for name in prepared.inputs:
                if isinstance(feeds[name], ort.OrtValue):
                    binding.bind_ortvalue_input(name, feeds[name])
                else:
                    binding.bind_cpu_input(name, feeds[name])
            for name in prepared.outputs:
                binding.bind_output(name, "cuda" if on_cuda and keep else "cpu")
            prepared.session.run_with_iobinding(binding)
        except runtime_errors() as error:
            raise ProviderError(f"{self.provider} failed while computing: {error}") from error
        results = binding.get_outputs()
        return list(results) if keep else [r.numpy() for r in results]

    # ----- chunks -----

    def _chunks(self, feeds: Feeds, batch: int, whole: Sequence[str]) -> Iterator[tuple[dict[str, Array], int, int]]:
        """The feeds in runs that the file and the device take: inputs, how many samples count, how many there are."""
        self._require_room(feeds)
        static = self.bundle.manifest.static_batch
        size = static or self.samples_per_run(feeds, batch)
        if whole and size < batch:
            if static:
                raise LayerError(
                    f"{whole[0]!r} has no batch axis, and the file takes {static} samples at a time; {batch} were given"
                )
            size = batch
        for start in range(0, batch, size):
            keep = min(size, batch - start)
            index = np.minimum(np.arange(start, start + (static or keep)), batch - 1)
            whole_batch = keep == batch == len(index)
            yield (
                {n: x if whole_batch or n not in self._batched else x[index] for n, x in feeds.items()},
                keep,
                len(index),
            )

    def _require_room(self, feeds: Feeds) -> None:
        """InputError where something in the network is empty for inputs of these sizes."""
        manifest = self.bundle.manifest
        shapes = {name: (1, *x.shape[1:]) if self.is_batched(name) else x.shape for name, x in feeds.items()}
        key = tuple(sorted(shapes.items()))
        if not manifest.sizes or key in self._roomy:
            return
        if empty := first_empty(self.graph, [o.value for o in manifest.outputs], shapes):
            given = {name: list(x.shape) for name, x in feeds.items()}
            raise InputError(
                f"inputs of shape {given} are too small for this network: its value {empty!r} would be empty. It was "
                f"converted with an example of {', '.join(f'{size} ({name})' for name, size in manifest.sizes.items())}"
            )
        self._roomy.add(key)

    def is_batched(self, name: str) -> bool:
        """Whether axis 0 of an input counts samples."""
        return name in self._batched

    def samples_per_run(self, feeds: Feeds, batch: int) -> int:
        """How many of ``batch`` samples like those of the feeds are computed at once."""
        if self.batch_size != "auto":
            return self.batch_size
        manifest = self.bundle.manifest
        per_sample = 2 * manifest.activation_bytes * manifest.times_the_example({n: x.shape for n, x in feeds.items()})
        return max(1, min(batch, int(CHUNK_BYTES // max(per_sample, 1))))

    # ----- life -----

    def memory(self) -> dict[str, int]:
        """Bytes of weights (held once, mapped from the file) and the number of sessions kept, with its limit."""
        with self._lock:
            return {
                "weights": self.bundle.weight_bytes,
                "sessions": len(self._sessions),
                "max_sessions": self.max_sessions,
            }

    def close(self) -> None:
        """Release all sessions and the weights."""
        with self._lock:
            self._sessions.clear()
            self._weights = None


def check_batch_size(batch_size: int | str) -> None:
    """OptionError unless it is ``"auto"`` or a positive integer."""
    if batch_size != "auto" and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise OptionError(f"batch_size={batch_size!r}: expected 'auto' or a positive integer")


def _first(array: Array, keep: int, size: int, axis: int | None) -> Array:
    """The part of a run over ``size`` samples that belongs to the first ``keep``: the rest was padding."""
    if axis is None or keep == size:
        return array
    return array[(slice(None),) * axis + (slice(array.shape[axis] * keep // size),)]


def _joined(parts: list[Array], axis: int | None) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis or 0)
